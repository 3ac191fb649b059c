"""mm in a kernel that is not loft (tests/embed), and the list of what it needs from outside (docs/porting.md)."""
from .make import BUILD, LOGS
from .result import Result, Test, read_log, run_program

CONFIGURATIONS = ('64g', '64g-debug')
PARTS = ('kmap_local', 'kmap', 'vmap', 'programs')
OBJECTS = (f'{BUILD}/embed-64g', f'{BUILD}/64g-highpte-smp-preempt')  # of mm, compiled for both kernels


def program(config):
    return f'{BUILD}/embed-{config}/embed'


def judge(status, text):
    """Each part has to say ok, in its turn, and the program to end with status 0."""
    result = Result()
    said = [line.removeprefix('ok ') for line in text.splitlines() if line.startswith('ok ')]
    for part in PARTS:
        result.check(part in said, f'{part} is not ok')
    result.check(status == 0 and said == list(PARTS), f'ended with status {status} after {len(said)} parts')
    return result


def run_embedded(config):
    log = f'{LOGS}/embed-{config}.log'
    status = run_program([program(config)], log, 60)
    result = judge(status, read_log(log))
    result.log = log
    return result


def check_list():
    result = Result(log=f'{LOGS}/embed-symbols.log')
    status = run_program(['scripts/check-porting', *OBJECTS], result.log, 60)
    result.check(status == 0, f'scripts/check-porting ended with status {status}')
    return result


def tests():
    found = [Test(f'embed/{config}', lambda config=config: run_embedded(config), (program(config),))
             for config in CONFIGURATIONS]
    found.append(Test('embed/symbols', check_list, (program('64g'), f'{OBJECTS[1]}/loft.elf')))
    return found
