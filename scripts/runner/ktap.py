"""Parses the KTAP version 1 of a booted kernel: suites at the left margin, their tests indented by four.

Plans, numbers, the verdict of each suite and the closing line are compared with the counted results.
"""
import re

TEST = re.compile(r'(not ok|ok) (\d+) (\S+)(?: # SKIP ?(.*))?$')
CLOSING = re.compile(r'# (\d+) passed, (\d+) failed, (\d+) skipped$')
LOG_LINE = re.compile(r'\[ *\d+\.\d{6}\] ')


class Ktap:
    def __init__(self):
        self.present = False
        self.passed = self.failed = self.skipped = 0
        self.failures = []  # "suite.test", with the preceding diagnostics
        self.tests = []     # every "suite.test" in order
        self.ran = set()    # those that were not skipped
        self.errors = []    # errors of the report itself


def parse(text):
    out = Ktap()
    lines = text.splitlines()
    if 'KTAP version 1' not in lines:
        return out
    out.present = True
    plan = suite = closing = None
    suites = 0
    tests = None  # of the open suite: [plan, count, failed, skipped]
    diagnostics = []

    for line in lines[lines.index('KTAP version 1') + 1:]:
        if LOG_LINE.match(line):
            continue
        if line.startswith('    '):
            inner = line[4:]
            if inner == 'KTAP version 1':
                if tests is not None:
                    out.errors.append(f'suite {suite} has no result line')
                suite, tests, diagnostics = None, [None, 0, 0, 0], []
            elif tests is None:
                if not inner.startswith('#'):
                    out.errors.append(f'outside of a suite: {line!r}')
            elif inner.startswith('# Subtest: '):
                suite = inner.removeprefix('# Subtest: ')
            elif re.fullmatch(r'1\.\.\d+', inner):
                tests[0] = int(inner[3:])
            elif match := TEST.match(inner):
                verdict, number, name, skip = match.groups()
                tests[1] += 1
                out.tests.append(f'{suite}.{name}')
                if skip is None:
                    out.ran.add(f'{suite}.{name}')
                if int(number) != tests[1]:
                    out.errors.append(f'{suite}.{name} has number {number}, it is test {tests[1]}')
                if verdict == 'not ok':
                    tests[2] += 1
                    out.failed += 1
                    out.failures.append('\n'.join([f'{suite}.{name}'] + diagnostics))
                elif skip is not None:
                    tests[3] += 1
                    out.skipped += 1
                else:
                    out.passed += 1
                diagnostics = []
            elif inner.startswith('#'):
                diagnostics.append(inner)
            else:
                out.errors.append(f'not KTAP: {line!r}')
        elif re.fullmatch(r'1\.\.\d+', line) and plan is None:
            plan = int(line[3:])
        elif match := TEST.match(line):
            verdict, number, name, skip = match.groups()
            suites += 1
            if tests is None:
                out.errors.append(f'{name} is a result without a suite')
                continue
            if name != suite or int(number) != suites:
                out.errors.append(f'suite {suite}, number {suites}, ends with {line!r}')
            if tests[0] != tests[1]:
                out.errors.append(f'suite {suite} planned {tests[0]} tests and ran {tests[1]}')
            if (verdict == 'not ok') != (tests[2] > 0):
                out.errors.append(f'suite {suite} says {verdict!r} and {tests[2]} of its tests failed')
            if (skip is not None) != (tests[1] > 0 and tests[1] == tests[3]):
                out.errors.append(f'suite {suite} does not count as skipped as its tests do')
            tests = None
        elif match := CLOSING.match(line):
            closing = tuple(int(n) for n in match.groups())
            break

    if tests is not None:
        out.errors.append(f'suite {suite} has no result line')
    if plan != suites:
        out.errors.append(f'{plan} suites were planned and {suites} ran')
    if closing is None:
        out.errors.append('the closing line "# N passed, N failed, N skipped" is missing')
    elif closing != (out.passed, out.failed, out.skipped):
        out.errors.append(f'the closing line says {closing}, counted were {(out.passed, out.failed, out.skipped)}')
    if out.passed + out.failed + out.skipped == 0:
        out.errors.append('no test ran')
    return out
