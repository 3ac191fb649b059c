"""Runs generated mutants and records what became of each.

A mutant that leaves out a lock is killed by clang's lock checks if these notice it: the builds by clang fail. Else it runs.
A mutant of mm runs with the host tests: first those with the tag of its unit, then all, then the explorer (for the class logic: the
explorer's tests of its room). One of a function that only DEBUG=1 calls runs with the host tests for DEBUG, one of kernel/threads
with thread-tests, those of its source first. One of the HAL is compiled into tests/instructions, which the link of every kernel inspects. Those of
kernel/threads and of the HAL that survive run in a kernel with all self-tests. A failed test, a crash, a panic or a hang kills a
mutant. One that does not compile is stillborn: it counts as nothing.
"""
import dataclasses
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import tempfile
import time

from runner import host, make

from . import copies, switched, tree
from .machines import Guest, Host

RESULTS = 'mutants-generated.jsonl'
# The explorer's tests that are closest to a room.
EXPLORER = {'ground': '[explorer-remote],[explorer-credits],[explorer-mutex]', 'tables': '[explorer-remote],[explorer-space]',
            'windows': '[explorer-pkmap],[explorer-local],[explorer-vmap]',
            'cache': '[explorer-space],[explorer-shared],[explorer-disk]',
            'spaces': '[explorer-space],[explorer-shared],[explorer-cow]',
            'frames': '[explorer-many],[explorer-vmap],[explorer-shared],[explorer-page]'}
# The tests that are closest to a source of kernel/threads.
THREADS = {'sleep': '[threads-time]', 'sync': '[threads-sync],[threads-time],[threads-park]',
           'scheduler': '[threads-switch],[threads-kick],[threads-pull],[threads-tick],[threads-park]'}
# Functions that only DEBUG=1 calls, besides those of free_checks.cpp.
ONLY_DEBUG = re.compile(r'(^|::)(local_map_debug|local_unmap_debug|check_rank|release_now|kunmap_debug|debug_\w+)(:|$)')
ERROR = re.compile(r'^(\S+?):(\d+):\d+: (?:fatal )?error: ', re.MULTILINE)
PLACE = re.compile(r'^(?:In file included from )?(\S+?):(\d+)(?::\d+)?[:,]', re.MULTILINE)


@dataclasses.dataclass
class Verdict:
    word: str  # killed, survived, stillborn, or open: not all tests have run
    by: str = ''
    seconds: float = 0.0


class Results:
    """What is known of each mutant."""

    def __init__(self, path):
        self.path, self.known = path, {}
        if os.path.exists(path):
            with open(path, encoding='utf-8') as lines:
                for line in lines:
                    entry = json.loads(line)
                    self.known[entry['name']] = (entry['mark'], Verdict(entry['verdict'], entry['by'], entry['seconds']))

    def of(self, mutant):
        mark, verdict = self.known.get(mutant.name, ('', None))
        return verdict if mark == mutant.mark else None

    def add(self, mutant, verdict):
        self.known[mutant.name] = (mutant.mark, verdict)
        with open(self.path, 'a', encoding='utf-8') as file:
            file.write(json.dumps({'name': mutant.name, 'mark': mutant.mark, 'verdict': verdict.word, 'by': verdict.by,
                                   'seconds': round(verdict.seconds, 1)}) + '\n')


class OnHost:
    folder = 'host'
    compiler, flags = 'print-host-compiler-64g', ('-iquote', 'tests/sim/kernel')  # the flags are those of kernel/threads
    goal = '64g'
    quick_tests = ['~[.]']

    def __init__(self):
        self.machine = Host(self.goal)

    @staticmethod
    def has(mutant):
        return mutant.file.startswith('mm/') and not OnDebug.has(mutant)

    @staticmethod
    def stages(mutant):
        """(tests to run, seconds of processor time after which they hang)"""
        room, stem = mutant.file.split('/')[1], os.path.basename(mutant.file).split('.')[0]
        yield [host.tags(stem), '--abort'], 20
        yield ['~[.]', '--abort'], 60
        near = EXPLORER.get(room, '[explorer-vmap]')
        yield [near, '--abort'], 200
        if mutant.group == 'logic':
            return
        # Random programs take longer than all others together; the explorer's tests of itself find no defect of mm.
        others = '[explorer]~[explorer-self]~[explorer-programs]' + ''.join(f'~{tag}' for tag in near.split(','))
        yield [others, '--abort'], 200
        yield ['[explorer-programs]', '--abort'], 300


class OnDebug(OnHost):
    folder, goal = 'debug', '64g-debug-clang'

    @staticmethod
    def has(mutant):
        return mutant.file.startswith('mm/') and (mutant.file.endswith('/free_checks.cpp') or
                                                  bool(ONLY_DEBUG.search(mutant.name.partition('(')[0])))


class OnThreads(OnHost):
    goal = '64g thread-tests'
    quick_tests = ['[threads]']

    @staticmethod
    def has(mutant):
        return mutant.file.startswith('kernel/threads/') and not mutant.file.startswith('kernel/threads/clock.')

    @staticmethod
    def stages(mutant):
        near = THREADS.get(os.path.basename(mutant.file).split('.')[0], '[threads-join]')
        yield [near, '--abort'], 120
        yield ['[threads]' + ''.join(f'~{tag}' for tag in near.split(',')), '--abort'], 120


class OnInstructions:
    @staticmethod
    def has(mutant):
        return mutant.file.startswith('arch/i386/hal/')


class OnGuest:
    folder = 'guest'
    compiler, flags = 'print-compiler-64g-highpte-smp-preempt', ()
    quick_tests = ['all']  # a kernel runs all of its tests

    def __init__(self):
        self.machine = Guest('64g-highpte-smp-preempt 1G smp=4')

    @staticmethod
    def has(mutant):
        return not mutant.file.startswith('mm/')

    @staticmethod
    def stages(_mutant):
        yield [], 120


SIDES = (OnHost, OnDebug, OnThreads, OnInstructions, OnGuest)


def sides_of(mutant):
    """Where the mutant runs: if it survives one, in the next."""
    return tuple(side for side in SIDES if side.has(mutant))


def next_side(mutant, verdict):
    """Where the mutant has to run; None if nowhere. An open verdict names the side that it has survived."""
    sides = sides_of(mutant)
    if verdict is None:
        return sides[0]
    if verdict.word != 'open':
        return None
    done = [side.__name__ for side in sides].index(verdict.by) + 1 if verdict.by else 0
    return sides[done]


def run(side, work, mutant, quick, was_open, confirm=None):
    """With `quick`, all stages but the explorer; a mutant that was open after these needs only the explorer. `confirm` checks that
    the explorer's tests, which have not run before, pass without a mutant."""
    start = time.monotonic()
    if mutant.kind in ('guard-drop', 'lock-drop'):
        if warning := tree.lock_warning(mutant.file, switched.plain(mutant, tree.read(mutant.file))):
            return Verdict('killed', f'clang: {warning}', time.monotonic() - start)
    for tests, limit in side.stages(mutant):
        explorer = bool(tests) and tests[0].startswith('[explorer')
        if explorer and quick:
            return Verdict('open', '', time.monotonic() - start)
        if was_open and not quick and not explorer:
            continue
        outcome, text = side.machine.run(work, tests, limit)
        if outcome.failed or outcome.how:
            if explorer and confirm:
                confirm(tests, limit)
            copies.write_log(work, 'killed', text)
            by = '; '.join(outcome.failed[:2]) + (f' ({outcome.how})' if outcome.how else '')
            return Verdict('killed', by.strip(), time.monotonic() - start)
    return Verdict('survived', '', time.monotonic() - start)


def checksum(data):
    return hashlib.sha256(data).hexdigest()


class Together:
    """All mutants of the sides with one folder in each of its programs (switched.py)."""

    def __init__(self, side, mutants, results, jobs):
        self.side, self.jobs, self.results = side, jobs, results
        self.work = os.path.realpath(os.path.join(make.BUILD, f'mutants-{side.folder}'))
        self.mutants = switched.numbers_of(mutant for mutant in mutants
                                           if any(getattr(one, 'folder', '') == side.folder for one in sides_of(mutant)))
        self.numbers = {mutant.name: number for number, mutant in self.mutants.items()}
        self.program = os.path.join(self.work, side.machine.goal)
        self.passed = f'passed-{os.path.basename(self.program)}'

    def build(self):
        left_out = {number for number, mutant in self.mutants.items()
                    if (known := self.results.of(mutant)) and known.word == 'stillborn'}
        for parts in switched.parts_of(self.mutants).values():
            self.stillborn(switched.crossing(parts) - left_out, left_out)
        sources = None
        while sources is None or sources:
            texts = switched.files_with(self.mutants, tree.read, left_out)
            copies.copy_tree(self.work, (), texts)
            sums = [checksum(repr(sorted(texts.items())).encode())]
            if sources is None and self.last_sums()[:1] == sums:
                break
            sources = self.compile(sources or sorted(path for path in texts if path.endswith('.cpp')), left_out)
        copies.write_log(self.work, self.passed, ' '.join([*sums, *self.last_sums()[1:]]))
        good, output = copies.build(self.work, self.side.machine.goal, self.jobs, 'WARNINGS=-w')
        if not good:
            raise SystemExit(f'{self.side.machine.goal} does not build with all mutants:\n{output[-3000:]}')
        switched.select(self.program, 0)
        with open(self.program, 'rb') as file:
            sums.append(checksum(file.read()))
        if self.last_sums()[:2] != sums:
            copies.write_log(self.work, self.passed, ' '.join(sums))
        for tests in self.side.quick_tests:
            self.passes([tests], 200)

    def last_sums(self):
        """Checksums of the sources with all mutants, and of their program, and the tests that it has passed without a selected one."""
        try:
            with open(os.path.join(self.work, f'build/{self.passed}.log'), encoding='utf-8') as file:
                return file.read().split()
        except FileNotFoundError:
            return []

    def stillborn(self, numbers, left_out):
        for number in numbers:
            self.results.add(self.mutants[number], Verdict('stillborn'))
        left_out |= numbers

    def compile(self, sources, left_out):
        """Parses the sources, and marks the mutants that are wrong. Returns the sources that had errors."""
        command = subprocess.run(make.command('-s', self.side.compiler, build='build'), cwd=self.work, env=make.environment(),
                                 capture_output=True, text=True, check=True).stdout.split()
        again = []
        for path in sources:
            done = subprocess.run([*command, *self.side.flags, '-w', '-fmax-errors=0', '-fsyntax-only', path], cwd=self.work, check=False,
                                  capture_output=True, text=True)
            if done.returncode == 0:
                continue
            again.append(path)
            wrong = self.wrong(done.stderr)
            if not wrong:
                raise SystemExit(f'{path} does not compile, and no mutant is the reason:\n{done.stderr[:3000]}')
            self.stillborn(wrong - left_out, left_out) # one of a header may be known from an earlier source
        return again

    def wrong(self, text):
        """The mutants on lines with errors; if an error has none, those on the lines that it refers to; else the one before."""
        found = set()
        pieces = re.split(r'(?=^\S+?:\d+:\d+: (?:fatal )?error: )', text, flags=re.MULTILINE)
        for before, piece in zip(pieces, pieces[1:]):
            path, line = ERROR.match(piece).groups()
            exact = self.number_at(path, int(line))
            if exact is None:
                # The head of the error is the end of the piece before it.
                others = PLACE.findall(before.rsplit('\n\n', 1)[-1][-1500:]) + PLACE.findall(piece)
                exact = next((number for place, at in others if (number := self.number_at(place, int(at))) is not None), None)
            if exact is None:
                exact = next((number for at in range(int(line) - 1, 0, -1)
                              if (number := self.number_at(path, at)) is not None), None)
            if exact is not None:
                found.add(exact)
        return found

    def number_at(self, path, line):
        full = os.path.join(self.work, path)
        if not os.path.isfile(full):
            return None
        with open(full, encoding='latin-1') as file:
            lines = file.read().split('\n')
        match = switched.MARK.match(lines[line - 1]) if line <= len(lines) else None
        return int(match[1]) if match else None

    def judge(self, mutant, quick, was_open):
        switched.select(self.program, self.numbers[mutant.name])
        try:
            return run(self.side, self.work, mutant, quick, was_open, self.passes)
        finally:
            switched.select(self.program, 0)

    def passes(self, tests, limit):
        """Stops if these tests do not pass without a selected mutant."""
        sums = self.last_sums()
        if tests[0] in sums:
            return
        switched.select(self.program, 0)
        outcome, text = self.side.machine.run(self.work, tests, limit)
        if not outcome.passed:
            raise SystemExit(f'{tests[0]} does not pass without a selected mutant: {outcome.failed} {outcome.how}\n{text[-2000:]}')
        copies.write_log(self.work, self.passed, ' '.join([*sums, tests[0]]))


class Alone:
    """One mutant at a time, compiled into the program by itself."""

    def __init__(self, side, jobs):
        self.side, self.jobs = side, jobs
        self.work = os.path.realpath(os.path.join(make.BUILD, 'mutants-debug' if side.folder == 'debug' else 'mutants'))

    def build(self):
        copies.copy_tree(self.work, [self.side.machine.objects])
        good, output = copies.build(self.work, self.side.machine.goal, self.jobs)
        if not good:
            raise SystemExit(f'{self.side.machine.goal} does not build without a mutant:\n{output[-3000:]}')

    def judge(self, mutant, quick, was_open):
        text = switched.plain(mutant, tree.read(mutant.file)).encode('latin-1').decode()
        with copies.Broken(self.work, {mutant.file: text}, self.side.machine.objects):
            good, _ = copies.build(self.work, self.side.machine.goal, self.jobs)
            return run(self.side, self.work, mutant, quick, was_open) if good else Verdict('stillborn')


class Inspect:
    """A mutant of the HAL in tests/instructions: the instructions of its operations have to be those of check-instructions."""
    CONFIG = '64g-highpte-smp-preempt'

    def __init__(self, *_):
        loader = importlib.machinery.SourceFileLoader('check_instructions', 'scripts/check-instructions')
        self.check = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
        loader.exec_module(self.check)

    def build(self):
        self.command = subprocess.run(make.command('-s', f'print-compiler-{self.CONFIG}'), env=make.environment(), check=True,
                                      capture_output=True, text=True).stdout.split()
        if problems := self.problems():
            raise SystemExit(f'tests/instructions has problems without a mutant: {problems}')

    def problems(self, mutant=None):
        """None if the mutant does not compile."""
        with tempfile.TemporaryDirectory() as top:
            if mutant:
                # <hal/...> is looked up here first.
                os.makedirs(f'{top}/hal')
                copies.write_changed(f'{top}/hal/{os.path.basename(mutant.file)}', switched.plain(mutant, tree.read(mutant.file)))
            done = subprocess.run([self.command[0], f'-I{top}', *self.command[1:], '-w', '-c', 'tests/instructions/hal.cpp', '-o',
                                   f'{top}/hal.o'], capture_output=True, check=False)
            if done.returncode != 0:
                return None
            return self.check.check_hal(self.check.disassembly(f'{top}/hal.o', '-r'), self.CONFIG)

    def judge(self, mutant, *_):
        start = time.monotonic()
        problems = self.problems(mutant)
        word = 'stillborn' if problems is None else 'killed' if problems else 'survived'
        return Verdict(word, f'check-instructions: {problems[0]}' if problems else '', time.monotonic() - start)
