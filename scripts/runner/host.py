"""mm over the simulated machine: the Catch2 programs of each configuration, what they cover, and the flush mutants."""
import glob
import os
import re

from .result import Result, Test, read_log, run_program

LOGS = 'build/logs'
# DEBUG=1 clears and flushes eagerly: another algorithm, so all of it runs in both.
PLAIN = ('64g', '4g', 'off', '64g-debug')
SANITIZED = ('64g-asan', '4g-asan', '64g-debug-asan')
COVERAGE = '64g-cov'
TIMEOUT = 300

ALL_PASSED = re.compile(r'^All tests passed \(\d+ assertions? in (\d+) test cases?\)$', re.MULTILINE)
SUMMARY = re.compile(r'^test cases: +(\d+) \|(.*)$', re.MULTILINE)


def program(config):
    return f'build/host-{config}/host-tests'


def count_cases(text):
    """(passed, failed) of Catch2's closing lines, or None if it did not get there."""
    if match := ALL_PASSED.search(text):
        return int(match.group(1)), 0
    if match := SUMMARY.search(text):
        failed = sum(int(n) for n in re.findall(r'(\d+) failed', match.group(2)))
        return int(match.group(1)) - failed, failed
    return None


def run_cases(config):
    result = Result(log=f'{LOGS}/host-{config}.log')
    status = run_program([program(config)], result.log, TIMEOUT,
                         {'ASAN_OPTIONS': 'detect_stack_use_after_return=0', 'UBSAN_OPTIONS': 'print_stacktrace=1'})
    cases = count_cases(read_log(result.log))
    if status is None:
        result.fail(f'hung: still running after {TIMEOUT} s')
    elif cases is None or cases == (0, 0):
        result.fail(f'ended with status {status} without a result')
    else:
        result.passed, result.failed = cases
        if result.failed:
            result.problems.append(f'{result.failed} test cases failed')
        elif status != 0:
            result.fail(f'all cases passed, and the status is {status}')
    return result


def run_coverage():
    for data in glob.glob(f'build/host-{COVERAGE}/**/*.gcda', recursive=True):
        os.remove(data)
    log = f'{LOGS}/host-{COVERAGE}.log'
    result = Result(log=log)
    status = run_program([program(COVERAGE)], log, TIMEOUT)
    result.check(status == 0, f'the run that is measured ended with status {status}')
    report = f'{LOGS}/coverage.txt'
    status = run_program(['scripts/coverage', f'build/host-{COVERAGE}'], report, 120)
    if result.check(status == 0, 'scripts/coverage failed: ' + report):
        result.notes += read_log(report).splitlines()
    return result


def flush_sites(config):
    """The lines of mm that ask for a flush in this configuration, as the simulated machine names them."""
    out = f'{LOGS}/flush-sites-{config}.txt'
    if os.path.exists(out):
        os.remove(out)
    run_program([program(config)], f'{LOGS}/flush-sites-{config}.log', TIMEOUT,
                {'LOFT_LIST_FLUSHES': os.path.abspath(out)})
    sites = {line.split()[0] for line in read_log(out).splitlines() if line.strip()}
    return sorted(site.removeprefix('./') for site in sites if re.match(r'(\./)?mm/', site))


def run_mutants(config):
    """Leaves out the flushes of one site after the other; each time a test has to fail."""
    result = Result()
    sites = flush_sites(config)
    result.check(sites, 'no flush was asked for at all')
    for site in sites:
        log = f'{LOGS}/flush-{config}-{site.replace("/", "_").replace(":", "-")}.log'
        status = run_program([program(config), '--abort'], log, TIMEOUT, {'LOFT_DROP_FLUSH': site})
        cases = count_cases(read_log(log))
        seen = status not in (None, 0) and cases is not None and cases[1] > 0
        result.check(seen, f'without the flush of {site} ' + ('the tests hang' if status is None else
                     'every test passes' if status == 0 else f'the tests end with status {status} and no result'))
        if not seen:
            result.log = log
    return result


def tests():
    found = [Test(f'host/{config}', lambda config=config: run_cases(config), (program(config),), 200)
             for config in PLAIN + SANITIZED]
    found.append(Test('host/coverage', run_coverage, (program(COVERAGE),), 200))
    return found


def flush_tests():
    return [Test(f'flush/{config}', lambda config=config: run_mutants(config), (program(config),), 300)
            for config in PLAIN]
