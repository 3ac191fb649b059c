"""Where a mutant runs: the host tests of a configuration, or a kernel in QEMU; and what its tests say."""
import dataclasses
import os
import re

from runner import disk, verdict
from runner.result import Hung, run_captured


@dataclasses.dataclass
class Outcome:
    passed: bool
    failed: list  # tests, including the one in which the program died
    how: str = ''


class Host:
    """A Catch2 program of a configuration: host-tests, or the one that is named; a test case with one of the tags has to fail."""
    ALL_PASSED = re.compile(r'^All tests passed \(', re.MULTILINE)
    SUMMARY = re.compile(r'^test cases: +(\d+) \|(.*)$', re.MULTILINE)
    FAILED = re.compile(r'^-{70,}\n(.*?)\n-{70,}\n(\S+):\d+\n\.{70,}', re.MULTILINE | re.DOTALL)

    def __init__(self, where):
        self.config, *program = where.split()
        self.goal = f'build/host-{self.config}/{program[0] if program else "host-tests"}'
        self.objects = os.path.dirname(self.goal)

    def run(self, work, tests, timeout):
        status, text = run_captured([os.path.join(work, self.goal), *tests], timeout, cwd=work)
        if isinstance(status, Hung):
            return Outcome(False, [], 'hang'), text
        failed = [re.sub(r'\s+', ' ', name) for name, _ in self.FAILED.findall(text)]
        how = '' if 0 <= status < 128 and (status == 0 or self.SUMMARY.search(text)) else 'crash'
        return Outcome(status == 0 and bool(self.ALL_PASSED.search(text)), failed, how), text

    def killed_by(self, outcome, _tests):
        """Only tests with the tags of the list ran. A hang does not count, nor does a crash without the name of a test."""
        return bool(outcome.failed) and outcome.how != 'hang'

    def as_it_is(self, mutants):
        return sorted({tag for mutant in mutants for tag in mutant.tests})

    @staticmethod
    def select(tests):
        return [','.join(tests), '--abort']


class Guest:
    """A kernel in QEMU, with the programs of tests/user; one of the suites has to fail."""
    PROGRAMS = 'build/user/programs'  # a file that names them
    SUITE = re.compile(r'(not ok|ok) \d+ (\S+)')
    SUBTEST = '    # Subtest: '

    # Words of a machine that are options of run-qemu; a disk has commas instead of blanks (runner/disk.py).
    MACHINE = re.compile(r'(cpu|smp|disk)=(\S+)')

    def __init__(self, where):
        self.kernel, self.memory, *words = where.split()
        self.options = [word for word in words if not self.MACHINE.fullmatch(word)]
        found = [match.groups() for word in words if (match := self.MACHINE.fullmatch(word))]
        self.machine = [option for name, value in found if name != 'disk' for option in (f'--{name}', value)]
        self.disks = [value.replace(',', ' ') for name, value in found if name == 'disk']
        self.goal = f'build/{self.kernel}/loft.elf'
        self.objects = os.path.dirname(self.goal)

    def run(self, work, _tests, timeout):
        with open(os.path.join(work, self.PROGRAMS), encoding='utf-8') as names:
            modules = [option for name in names.read().split() for option in ('--module', name)]
        ours, qemu = [], []
        for number, text in enumerate(self.disks):
            one = disk.Disk(text, os.path.join(work, f'build/disk{number}'))
            one.create()
            ours += one.options()[0]
            qemu += one.options()[1]
        command = ['scripts/run-qemu', '--mem', self.memory, *self.machine, *modules, *ours,
                   '--append', ' '.join([*self.options, 'exit']), self.goal, *(['--', *qemu] if qemu else [])]
        status, text = run_captured(command, timeout, cwd=work)
        failed, current = [], 'boot'
        for line in text.splitlines():
            if line.startswith(self.SUBTEST):
                current = line.removeprefix(self.SUBTEST)
            elif match := self.SUITE.match(line):
                current = ''
                if match[1] == 'not ok':
                    failed.append(match[2])
        if isinstance(status, Hung):
            died = 'hang'
        else:
            died = {33: '', 35: '', 37: 'panic', 39: 'refused', 40: 'reset'}.get(status, f'status {status}')
        if died and current:
            failed.append(current)
        lie = verdict.disagrees(status, text)
        return Outcome(status == 33 and not failed and not lie, failed, died or lie), text

    def killed_by(self, outcome, tests):
        return bool(set(outcome.failed) & set(tests))

    def as_it_is(self, _mutants):
        return []

    @staticmethod
    def select(tests):
        return tests
