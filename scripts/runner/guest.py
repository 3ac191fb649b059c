"""Kernels booted in QEMU: reads tests/guest/matrix.cfg, boots each machine of it and checks the result.

tests/guest/matrix.cfg describes the keys of an entry.
"""
import configparser
import glob
import os
import re
import shutil
import subprocess

from . import archive, disk, ktap, memory, readme, verdict
from .make import BUILD, LOGS
from .result import Hung, Result, Test, read_log, run_program

MATRIX = 'tests/guest/matrix.cfg'
SHIM = f'{BUILD}/shim/shim.elf'
PROGRAMS = f'{BUILD}/user/programs'  # a file with their names
DEFAULT_KERNEL = '64g-highpte-smp-preempt'
KEYS = {'kernel', 'mem', 'smp', 'cpu', 'append', 'icount', 'boot', 'scenario', 'status', 'expect', 'forbid', 'ktap',
        'memory', 'require', 'timeout', 'console', 'repeat', 'qemu', 'modules', 'program', 'shown', 'disks', 'archive'}
ELSEWHERE = ('load.swap_is_full',)  # in `make test-load`

ran = set()     # the self-tests that some guest ran and did not skip
booted = set()  # the guests of this run
NEEDS_PROGRAMS = 'user'  # the suite of the tests that PROGRAM declares
NAME = re.compile(r'^(?:SELFTEST\((\w+), (\w+)\)|PROGRAM\((\w+),)', re.MULTILINE)
CONDITION = re.compile(r'(\w+) *(==|>=|<=) *(\d+)$')


def lines(text, build=BUILD):
    return [line.replace('BUILD/', f'{build}/') for line in text.splitlines() if line.strip()]


class Machine:
    """One entry of the matrix."""

    def __init__(self, name, keys):
        unknown = set(keys) - KEYS
        if unknown:
            raise ValueError(f'{MATRIX}: {name}: unknown keys {", ".join(sorted(unknown))}')
        self.name = name
        self.kernel = keys.get('kernel', DEFAULT_KERNEL)
        self.mem = keys.get('mem', '1G')
        self.smp = keys.get('smp', '1')
        self.cpu = keys.get('cpu', '')
        self.append = keys.get('append', 'exit')
        self.icount = keys.get('icount', '')
        self.boot = keys.get('boot', 'kernel')
        self.scenario = keys.get('scenario', '')
        self.status = int(keys.get('status', '33'))
        self.expect = lines(keys.get('expect', ''), re.escape(BUILD))
        self.forbid = lines(keys.get('forbid', ''), re.escape(BUILD))
        self.ktap = keys.get('ktap', 'yes' if self.status == 33 else 'no') == 'yes'
        self.memory = keys.get('memory', 'whole' if self.ktap else 'no')
        self.require = lines(keys.get('require', ''))
        self.timeout = float(keys.get('timeout', '120'))
        self.console = keys.get('console', 'no') == 'yes'
        self.shown = keys.get('shown', 'no') == 'yes'
        self.repeat = keys.get('repeat', '') == 'identical'
        self.qemu = keys.get('qemu', '').split()
        self.program = keys.get('program', '')
        self.disks = [disk.Disk(line, self.log(f'disk{number}'))
                      for number, line in enumerate(lines(keys.get('disks', '')))]
        self.archive = self.log('cpio') if keys.get('archive', 'no') == 'yes' else ''
        self.modules = lines(keys['modules']) if 'modules' in keys else None

    @property
    def elf(self):
        return f'{BUILD}/{self.kernel}/loft.elf'

    def processors(self):
        """The number of host processors that the machine can keep busy."""
        return 1 if self.icount else int(self.smp.split(',')[0])

    def goals(self):
        return (self.elf, SHIM) if self.boot == 'shim' else (self.elf, PROGRAMS)

    def log(self, ending='log'):
        return f'{LOGS}/{self.name}.{ending}'


def read_matrix(path=MATRIX):
    # Interpolation is off: regular expressions and percent signs are literal.
    config = configparser.ConfigParser(interpolation=None, comment_prefixes=('#',), default_section='default')
    with open(path, encoding='utf-8') as file:
        config.read_file(file)
    return [Machine(name, dict(config[name])) for name in config.sections()]


def module_options(machine):
    """The programs of tests/user, unless the entry says otherwise."""
    names = machine.modules
    if names is None:
        with open(PROGRAMS, encoding='utf-8') as file:
            names = file.read().split()
    if machine.archive:
        archive.create(machine.archive)
        names = [machine.archive, *names]
    return [option for name in names for option in ('--module', name)]


def ipxe_folder(machine):
    """A folder for a network server: the kernel, its modules and a script for iPXE."""
    folder = machine.log('network')
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    shutil.copy(machine.elf, f'{folder}/loft.elf')
    script = ['#!ipxe', f'kernel loft.elf {machine.append}']
    for module in module_options(machine)[1::2]:
        file = shutil.copy(module.split()[0], folder)
        # iPXE has little room for the names of all modules: keep them as short as in `build`.
        script.append(f'module {os.path.basename(file)} {module.replace(f"{BUILD}/", "build/", 1)}')
    with open(f'{folder}/boot.ipxe', 'w', encoding='utf-8') as file:
        print(*script, 'boot', sep='\n', file=file)
    return folder


def boot_command(machine, where):
    command = ['scripts/run-qemu', '--mem', machine.mem, '--smp', machine.smp] + where
    if machine.program:
        command += ['--qemu', machine.program]
    if machine.cpu:
        command += ['--cpu', machine.cpu]
    if machine.icount:
        command += ['--icount', machine.icount]
    if machine.console:
        command += ['--debugcon', machine.log('e9')]
    extra = list(machine.qemu)
    for one in machine.disks:
        one.create()
        ours, qemu = one.options()
        command += ours
        extra += qemu
    extra = ['--', *extra] if extra else []
    if machine.boot == 'kernel':
        return command + module_options(machine) + ['--append', machine.append, machine.elf] + extra
    if machine.boot == 'iso':
        iso = machine.log('iso')
        subprocess.run(['scripts/make-iso', *module_options(machine), '--append', machine.append, machine.elf, iso],
                       check=True)
        return command + ['--iso', iso]
    if machine.boot == 'ipxe':
        return command + ['--network', ipxe_folder(machine)]
    if machine.boot == 'shim':
        return command + ['--append', machine.scenario, '--module', f'{machine.elf} {machine.append}',
                          *(module_options(machine) if machine.modules is not None else []), SHIM] + extra
    raise ValueError(f'{machine.name}: boot = {machine.boot}')


def name_of(status):
    return verdict.STATUS.get(status) or (f'signal {status - 128}' if status > 128 else 'QEMU ended by itself')


def judge(machine, status, text):
    result = Result(log=machine.log())
    if isinstance(status, Hung):
        result.fail(f'hung: {status}')
    else:
        result.check(status == machine.status, f'the status is {status} ({name_of(status)}), '
                                               f'expected was {machine.status} ({name_of(machine.status)})')
        if problem := verdict.disagrees(status, text):
            result.fail(problem)
    for pattern in machine.expect:
        result.check(re.search(pattern, text, re.MULTILINE), f'the log does not match {pattern!r}')
    for pattern in machine.forbid:
        found = re.search(pattern, text, re.MULTILINE)
        if found:
            result.fail(f'the log has {found.group(0)!r}')

    # A misuse that this kernel cannot show counts as skipped.
    result.skipped += len(re.findall(r'^loft: cannot do what was asked: crash=\S+ needs ', text, re.MULTILINE))
    if machine.ktap:
        report = ktap.parse(text)
        result.passed += report.passed
        result.failed += report.failed
        result.skipped += report.skipped
        result.problems += report.failures
        ran.update(report.ran)
        result.check(report.present and not report.errors,
                     'KTAP: ' + ('; '.join(report.errors[:5]) if report.present else 'no self-test ran'))
    if machine.memory != 'no':
        memory.check(result, text, machine.kernel.split('-')[0], machine.memory == 'whole')
    info = memory.parse_meminfo(text)
    for condition in machine.require:
        name, relation, number = CONDITION.match(condition).groups()
        value = info.get(name)
        holds = value is not None and {'==': value == int(number), '>=': value >= int(number),
                                       '<=': value <= int(number)}[relation]
        result.check(holds, f'{name} is {value} kB, expected was {condition}')
    if machine.disks:
        disk.check(result, machine.disks, text)
    if machine.console:
        result.check(read_log(machine.log('e9')) == text, 'the outputs on port 0xE9 and on the serial port differ')
    return result


def boot(machine, where):
    os.makedirs(LOGS, exist_ok=True)
    booted.add(machine.name)
    limits = machine.timeout, machine.processors()
    status = run_program(boot_command(machine, where), machine.log(), limits[0], processors=limits[1])
    result = judge(machine, status, read_log(machine.log()))
    if machine.shown:
        # The last line is the verdict of run-qemu.
        text = read_log(machine.log()) + '\n'.join(f'loft: {said}' for said in verdict.judge(status, read_log(machine.log()))[1])
        problem = readme.differs(text)
        result.check(not problem, problem)
    if machine.repeat:
        again = run_program(boot_command(machine, where), machine.log('again.log'), limits[0], processors=limits[1])
        result.check(again == status and read_log(machine.log('again.log')) == read_log(machine.log()),
                     f'a second run had a different log: compare {machine.log()} and {machine.log("again.log")}')
    return result


def gdb_session():
    result = Result(log=f'{LOGS}/gdb.log')
    status = run_program(['scripts/gdb-test', f'{BUILD}/{DEFAULT_KERNEL}/loft.elf'], result.log, 120)
    result.check(status == 0, 'a gdb session failed')
    return result


def self_tests():
    """{suite: [test]}, from the sources."""
    found = {}
    for path in sorted(glob.glob('tests/guest/*_test.cpp')):
        with open(path, encoding='utf-8') as file:
            for suite, test, program in NAME.findall(file.read()):
                found.setdefault(suite or NEEDS_PROGRAMS, []).append(test or program)
    return found


def every_self_test():
    """Each self-test ran in at least one guest: a test that every machine skips proves nothing."""
    result = Result()
    missing = {machine.name for machine in read_matrix() if machine.ktap} - booted
    if missing:
        result.skipped += 1
        result.notes.append(f'{len(missing)} guests did not boot in this run')
        return result
    names = {f'{suite}.{name}' for suite, names in self_tests().items() for name in names}
    skipped = sorted(names - ran - set(ELSEWHERE))
    result.check(not skipped, f'every guest skipped {", ".join(skipped)}')
    return result


def tests(where):
    """`where`: run-qemu's options for accelerator and program."""
    found = [Test(f'guest/{machine.name}', lambda machine=machine: boot(machine, where), machine.goals(),
                  int(machine.timeout), processors=machine.processors()) for machine in read_matrix()]
    found.append(Test('guest/every-self-test', every_self_test, last=True))
    found.append(Test('guest/gdb', gdb_session, (f'{BUILD}/{DEFAULT_KERNEL}/loft.elf',)))
    return found


def all_kernels():
    """The configurations of the highpte proposal: 5 x 2 x 2."""
    for memory_model in ('off', '4g', '4g-highpte', '64g', '64g-highpte'):
        for processors in ('up', 'smp'):
            for preempt in ('', '-preempt'):
                yield f'{memory_model}-{processors}{preempt}'


def matrix_tests(where):
    found = []
    default = {machine.name: machine for machine in read_matrix()}
    forbid = '\n'.join(next(iter(default.values())).forbid)
    for config in all_kernels():
        for compiler in ('', '-clang'):
            keys = {'kernel': config + compiler, 'forbid': forbid,
                    'mem': {'off': '1G', '4g': '4G', '64g': '8G'}[config.split('-')[0]]}
            machine = Machine(f'matrix-{config}{compiler}', keys)
            found.append(Test(f'matrix/{config}{compiler}', lambda machine=machine: boot(machine, where),
                              machine.goals()))
    return found
