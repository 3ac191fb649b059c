"""mm over the simulated machine: the Catch2 programs of each configuration, what they cover, and the flush mutants."""
import glob
import os
import re
import threading

from .result import Result, Test, read_log, run_program

LOGS = 'build/logs'
# DEBUG=1 clears and flushes eagerly: another algorithm, so all of it runs in both.
PLAIN = ('64g', '4g', 'off', '64g-debug')
SANITIZED = ('64g-asan', '64g-debug-asan')
COVERED = SANITIZED  # what only DEBUG=1 runs counts, too
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


def counters(config):
    return glob.glob(f'build/host-{config}/**/*.gcda', recursive=True)


def run_cases(config):
    for data in counters(config):
        os.remove(data)
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
    """Uses what the sanitized programs have counted; runs those that have not run."""
    result = Result(log=f'{LOGS}/coverage.txt')
    for config in COVERED:
        if not counters(config):
            run_cases(config)
    status = run_program(['scripts/coverage', *(f'build/host-{config}' for config in COVERED)], result.log, 120)
    if result.check(status == 0, f'scripts/coverage ended with status {status}'):
        result.notes += read_log(result.log).splitlines()
    return result


def flush_sites(config):
    """The lines of mm that ask for a flush in this configuration, as the simulated machine names them."""
    os.makedirs(LOGS, exist_ok=True)
    out = f'{LOGS}/flush-sites-{config}-{os.getpid()}-{threading.get_ident()}.txt'
    run_program([program(config)], f'{LOGS}/flush-sites-{config}.log', TIMEOUT,
                {'LOFT_LIST_FLUSHES': os.path.abspath(out)})
    sites = {line.split()[0] for line in read_log(out).splitlines() if line.strip()} if os.path.exists(out) else ()
    if sites:
        os.remove(out)
    return sorted(site.removeprefix('./') for site in sites if re.match(r'(\./)?mm/', site))


REQUEST = re.compile(r'\b(tlb_flush_local_page|hal::invlpg|hal::flush_all|hal::flush_non_global)\(|(\.|->)flush\(')


def check_all_sites():
    """No flush stands in mm that no test of any configuration ever asked for: leaving it out would prove nothing.
    Lines that pass a site on, and the declarations that do, are not places that ask."""
    asked = set()
    for config in PLAIN:
        asked.update(':'.join(site.split(':')[:2]) for site in flush_sites(config))
    result = Result()
    for path in sorted(glob.glob('mm/*.[ch]pp')):
        with open(path, encoding='utf-8') as file:
            for number, line in enumerate(file, 1):
                code = line.split('//')[0]
                if REQUEST.search(code) and not re.search(r'\bsite\)|hal::Site', code):
                    result.check(f'{path}:{number}' in asked, f'{path}:{number}: no test asks for this flush')
    return result


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
    found.append(Test('host/coverage', run_coverage, tuple(program(config) for config in COVERED), last=True))
    return found


def flush_tests():
    found = [Test(f'flush/{config}', lambda config=config: run_mutants(config), (program(config),), 300)
             for config in PLAIN]
    found.append(Test('flush/every-request', check_all_sites, tuple(program(config) for config in PLAIN)))
    return found
