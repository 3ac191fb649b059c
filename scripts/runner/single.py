"""Each self-test in a separate boot: with all programs, with eight (the limit of iPXE), with one, and with none.

A self-test must not depend on state of earlier ones: a filled list, an existing slab, a thread.
"""
import re
import subprocess

from . import guest, ktap, make
from .result import Result, Test, read_log, run_program

LOGS = f'{make.LOGS}/alone'
LIMIT = 240  # seconds per boot
# Run in each `make test`, with one program: a test of each suite, and tests that once depended on earlier ones.
SAMPLE = {'user': ['copy_on_write', 'bad_files_are_refused_in_words', 'programs_beside_the_kernel'],
          'bugs': ['windows_of_all_cpus_can_be_mapped'], 'buddy': ['fragmented_memory_gives_no_block'],
          'slab': ['objects_are_apart']}
PLACE = re.compile(r'^(\w+) \w (__selftests_(?:begin|end))$', re.MULTILINE)
# Number of programs (iPXE supports eight modules).
USUAL = {'none': 0}
WITH_PROGRAMS = {'all': None, 'eight': 8, 'one': 1, 'none': 0}


def linked_tests(elf):
    """The number of self-tests in the kernel: the linker collects a pointer to each."""
    symbols = subprocess.run(['nm', elf], check=True, capture_output=True, text=True).stdout
    place = {name: int(at, 16) for at, name in PLACE.findall(symbols)}
    return (place['__selftests_end'] - place['__selftests_begin']) // 4


def programs(count):
    with open(guest.PROGRAMS, encoding='utf-8') as file:
        return [option for name in file.read().split()[:count] for option in ('--module', name)]


def boot(elf, name, machine, modules, where):
    """Boots one. Returns the problem or None, and whether the test was skipped."""
    log = f'{LOGS}/{name}.log'
    command = ['scripts/run-qemu', *machine, *where, *modules, '--append', f'selftest={name} exit', elf]
    status = run_program(command, log, LIMIT)
    text = read_log(log)
    report = ktap.parse(text)
    if status != 33:
        return f'the status is {status}; see {log}', False
    if report.tests != [name] or report.errors:
        return f'{report.tests} ran: {"; ".join(report.errors)}', False
    return None, report.skipped == 1


def run(elf, names, machine, where, kinds):
    result = Result()
    for kind, count in kinds.items():
        modules = programs(count)
        for name in names:
            problem, skipped = boot(elf, name, machine, modules, where)
            if problem is None and skipped:
                result.skipped += 1
            else:
                result.check(problem is None, f'{name} alone with {kind} of the programs: {problem}')
    return result


def check_names(elf):
    result = Result()
    known = sum(len(tests) for tests in guest.self_tests().values())
    result.check(known == linked_tests(elf), f'{known} self-tests were found in the sources, {elf} has {linked_tests(elf)}')
    return result


def tests(where, kernel=guest.DEFAULT_KERNEL, machine=('--mem', '1G', '--smp', '4')):
    elf = f'{make.BUILD}/{kernel}/loft.elf'
    goals = (elf, guest.PROGRAMS)
    found, sample = [], []
    for suite, names in guest.self_tests().items():
        full = [f'{suite}.{name}' for name in names]
        kinds = WITH_PROGRAMS if suite == guest.NEEDS_PROGRAMS else USUAL
        sample += [f'{suite}.{name}' for name in SAMPLE.get(suite, names[-1:])]
        found.append(Test(f'alone/{suite}', lambda full=full, kinds=kinds: run(elf, full, machine, where, kinds), goals,
                          len(full) * len(kinds), named=True))
    found.append(Test('alone/sample', lambda: run(elf, sample, machine, where, {'one': 1}), goals, len(sample)))
    found.append(Test('alone/names', lambda: check_names(elf), goals))
    return found
