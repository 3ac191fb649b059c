"""mm and the kernel's threads on the simulated machine: the Catch2 programs of each configuration, their coverage, and the flush
mutants."""
import glob
import os
import re

from .make import BUILD, LOGS
from .result import Hung, Result, Test, read_log, run_program

# 64g-races: accesses to plain memory take part (tests/sim/races.hpp).
EXPLORED = ('64g', '64g-debug-clang', '4g', '64g-races')
LEAST_SCHEDULES = {'64g': 100_000, '64g-races': 100_000}
LEAST_COMPLETE = {'64g': 29}  # explorations without a bound that run to their end
THREADS = ('64g',)  # threads and programs do not depend on the memory model
LEAST_THREAD_SCHEDULES = 300_000
LEAST_THREADS_COMPLETE = 5
# DEBUG=1 clears and flushes eagerly: a different algorithm, so all tests run with both. clang builds one configuration: it checks
# the locks of mm, of the simulated machine and of the tests.
PLAIN = ('64g', '4g', 'off', '64g-debug-clang')
SANITIZED = ('64g-asan', '64g-debug-asan')
LONG = ('64g-debug-asan',)  # takes minutes to compile: in `make test-host` only; `make test` has the plain and the sanitized variant separately
# In one configuration only: what a power cut leaves on a disk, and the explorer's tests of itself, do not depend on the memory
# model; [long] ones fill more memory than shorter tests of the same code.
WHOLE = '64g'
ONCE = '~[ext2-power]~[long]'
TIMEOUT = 300
# Files of mm with tests under another file's tag, or under several.
TAGS = {'address_space': 'address_space space_root', 'space_map': 'address_space', 'space_fault': 'address_space', 'space_fork': 'address_space', 'tlb_batch': 'tlb',
        'interrupt_context': 'context', 'flush_clock': 'tlb', 'memory_object': 'object', 'page_index': 'object',
        'area': 'address_space', 'user_tables': 'address_space', 'user_pages': 'address_space', 'page_walk': 'walk',
        'free_checks': 'debug', 'space_swap': 'swap', 'swap_area': 'swap', 'last_resort': 'last-resort'}

ALL_PASSED = re.compile(r'^All tests passed \(\d+ assertions? in (\d+) test cases?\)$', re.MULTILINE)
SUMMARY = re.compile(r'^test cases: +(\d+) \|(.*)$', re.MULTILINE)


# The concurrency mutants that run each time; `make test-mutants` runs all.
BROKEN = ('remote-no-wait', 'remote-no-interrupt', 'remote-waits-deaf', 'tlb-idle-left-by-a-store',
          'tlb-frees-before-the-flush', 'pkmap-flush-after-the-reuse', 'pkmap-nobody-helps', 'pkmap-lost-slot-owes-nothing',
          'credits-woken-before-granted', 'credits-one-per-mapping', 'local-restored-without-flush',
          'space-unmap-does-not-flush', 'root-set-left-before-the-load', 'frames-pin-outside-the-mutex', 'slab-without-its-lock',
          'credits-waiter-read-after-granted', 'threads-park-by-a-store', 'threads-unpark-without-the-lock', 'threads-no-kick',
          'start-late-cpu-runs-on', 'futex-looks-before-the-lock', 'process-zombie-wakes-nobody')


# The generated mutants that run each time: some of each class, of mm and the HAL, quickly compiled and killed.
GENERATED = ('take_block:guard-drop:1', 'ObjectCache::give_back:ref-drop:1', 'ObjectCache::give_back:ref-double:1',
             'TlbBatch::execute:flush-drop:3', 'SpaceRoot::use:order-swap:1', 'Buddy::give:drop:1', 'Buddy::give:bound:2',
             'Buddy::give:arithmetic:9', 'hal::pte_exchange:atomic-split:1', 'hal::Atomic::load:order-relax:1')


def tags(stem):
    """Catch2's selection of the tests of a file of mm."""
    return ','.join(f'[{tag}]' for tag in TAGS.get(stem, stem).split())


def program(config, name='host-tests'):
    return f'{BUILD}/host-{config}/{name}'


def count_cases(text):
    """(passed, failed) of Catch2's closing lines, or None if they are missing."""
    if match := ALL_PASSED.search(text):
        return int(match.group(1)), 0
    if match := SUMMARY.search(text):
        failed = sum(int(n) for n in re.findall(r'(\d+) failed', match.group(2)))
        return int(match.group(1)) - failed, failed
    return None


def counters(config):
    return glob.glob(f'{BUILD}/host-{config}/**/*.gcda', recursive=True)


def flushes(config):
    """File with the lines that requested a flush in the last run of all tests, if that run passed."""
    return f'{BUILD}/host-{config}/flushes'


def new_flushes(config):
    """File in which a new run lists them."""
    path = flushes(config) + '.new'
    for old in (path, flushes(config)):
        if os.path.exists(old):
            os.remove(old)
    return path


def run_catch(config, log, timeout, *selection, env=None, name='host-tests'):
    """One run of a configuration's program: its result and its output."""
    result = Result(log=f'{LOGS}/{log}.log')
    status = run_program([program(config, name), *selection], result.log, timeout,
                         {'ASAN_OPTIONS': 'detect_stack_use_after_return=0', 'UBSAN_OPTIONS': 'print_stacktrace=1', **(env or {})})
    text = read_log(result.log)
    cases = count_cases(text)
    if isinstance(status, Hung):
        result.fail(f'hung: {status}')
    elif cases is None or cases == (0, 0):
        result.fail(f'ended with status {status} without a result')
    else:
        result.passed, result.failed = cases
        if result.failed:
            result.problems.append(f'{result.failed} test cases failed')
        elif status != 0:
            result.fail(f'all cases passed, and the status is {status}')
    return result, text


def run_cases(config):
    for data in counters(config):
        os.remove(data)
    listed = new_flushes(config)
    # Under the sanitizers all cases take longer than one time limit.
    parts = {'': '~[ext2]~[.]', '-ext2': '[ext2]~[.]'} if config in SANITIZED else {'': '~[.]'}
    less = '' if config == WHOLE else ONCE
    results = [run_catch(config, f'host-{config}{name}', TIMEOUT, part + less, env={'LOFT_LIST_FLUSHES': listed})[0]
               for name, part in parts.items()]
    result = max(results, key=lambda one: one.failed)  # the log of a failure is shown
    for other in results:
        if other is not result:
            result.passed, result.failed = result.passed + other.passed, result.failed + other.failed
            result.problems += other.problems
    if result.failed == 0 and os.path.exists(listed):
        os.replace(listed, flushes(config))
    return result


EXPLORATION = re.compile(r'^(.+): (\d+) schedules, (complete|stopped|by chance)( within [^;]*)?;', re.MULTILINE)


def write_explorations(text, path):
    """Writes a table of the explorations in a program's output. Returns the number of each extent."""
    counts = {}
    with open(path, 'w', encoding='utf-8') as table:
        for name, schedules, extent, bound in EXPLORATION.findall(text):
            kind = extent + (' within a bound' if bound else '')
            counts[kind] = counts.get(kind, 0) + 1
            table.write(f'{int(schedules):9}  {extent + bound:42}  {name}\n')
    return counts


def check_schedules(result, text, least, least_complete=0):
    """Checks that the numbers of schedules and of complete explorations have not shrunk. Writes the table of explorations."""
    sums = re.search(r'^explorer: (\d+) schedules explored in all$', text, re.MULTILINE)
    schedules = int(sums.group(1)) if sums else 0
    path = result.log.removesuffix('.log') + '.explorations'
    counts = write_explorations(text, path)
    complete = counts.get('complete', 0)
    result.check(complete >= least_complete, f'{complete} explorations complete, not {least_complete}: see {path}')
    if result.check(schedules >= least, f'{schedules} schedules explored, not {least}'):
        result.notes.append(f'{schedules} schedules explored; explorations: ' +
                            ', '.join(f'{counts[kind]} {kind}' for kind in sorted(counts)) + f' ({path})')
    return result


def run_explorer(config):
    """Explores all or many schedules of small cases."""
    what = '[explorer]' if config in (WHOLE, '64g-races') else '[explorer]~[explorer-self]'
    return check_schedules(*run_catch(config, f'explorer-{config}', 2 * TIMEOUT, what), LEAST_SCHEDULES.get(config, 1),
                           LEAST_COMPLETE.get(config, 0))


def run_threads(config):
    """The same, with the kernel's threads and programs."""
    return check_schedules(*run_catch(config, f'threads-{config}', TIMEOUT, '[threads]', name='thread-tests'),
                           LEAST_THREAD_SCHEDULES, LEAST_THREADS_COMPLETE)


def run_explorer_mutants():
    """Applies one concurrency defect to mm at a time: the explorer has to find a schedule that shows it. That it finds nothing
    without a defect is tested by explorer/*, with the same programs."""
    result = Result(log=f'{LOGS}/explorer-mutants.log')
    only = [word for name in BROKEN for word in ('--only', name)]
    status = run_program(['scripts/mutants', 'explorer', '--work', f'{BUILD}/mutants-explorer', '--jobs', '1', '--trust', *only],
                         result.log, 3 * TIMEOUT)
    text = read_log(result.log)
    if sums := re.search(r'^(\d+) killed, (\d+) not$', text, re.MULTILINE):
        result.passed, result.failed = int(sums.group(1)), int(sums.group(2))
        result.problems += re.findall(r'^NOT +(.*)', text, re.MULTILINE)
        result.check(result.passed + result.failed == len(BROKEN), f'the number of mutants is not {len(BROKEN)}')
    else:
        result.fail(f'scripts/mutants ended with status {status} without a result')
    return result


def run_generated_mutants():
    """Compiles a few of the generated mutants, one at a time: host tests or the look at the instructions have to fail."""
    result = Result(log=f'{LOGS}/generated-mutants.log')
    only = [word for name in GENERATED for word in ('--only', name)]
    status = run_program(['scripts/mutants', 'generated', '--alone', '--again', '--jobs', '1', *only], result.log, TIMEOUT)
    text = read_log(result.log)
    if sums := re.search(r'^(\d+) killed, (\d+) not$', text, re.MULTILINE):
        result.passed, result.failed = int(sums.group(1)), int(sums.group(2))
        result.problems += re.findall(r'^(?:survived|stillborn) +(.*)', text, re.MULTILINE)
        result.check(result.passed + result.failed == len(GENERATED), f'the number of mutants is not {len(GENERATED)}')
    else:
        result.fail(f'scripts/mutants ended with status {status} without a result')
    return result


def run_coverage():
    """Uses the counters of the sanitized programs, also those with DEBUG=1 if they have run."""
    result = Result(log=f'{LOGS}/coverage.txt')
    if not counters(SANITIZED[0]):
        run_cases(SANITIZED[0])
    covered = [f'{BUILD}/host-{config}' for config in SANITIZED if counters(config)]
    status = run_program(['scripts/coverage', *covered], result.log, 120)
    if result.check(status == 0, f'scripts/coverage ended with status {status}'):
        result.notes += read_log(result.log).splitlines()
    return result


def run_flush_mutants():
    """Suppresses each flush of mm by scripts/flush-mutants, in the configurations that are tested anyway."""
    result = Result(log=f'{LOGS}/flush-mutants.log')
    status = run_program(['scripts/flush-mutants', '--no-build', *PLAIN], result.log, 2 * TIMEOUT,
                         processors=2)
    text = read_log(result.log)
    if sums := re.search(r'^(\d+) passed, (\d+) failed$', text, re.MULTILINE):
        result.passed, result.failed = int(sums.group(1)), int(sums.group(2))
        result.problems += re.findall(r'^FAIL +(.*)', text, re.MULTILINE)
    else:
        result.fail(f'scripts/flush-mutants ended with status {status} without a result')
    return result


def tests():
    found = [Test(f'host/{config}', lambda config=config: run_cases(config), (program(config),), 200,
                  named=config in LONG) for config in PLAIN + SANITIZED]
    found.append(Test('host/coverage', run_coverage, (program(SANITIZED[0]),), last=True))
    return found


def explorer_tests():
    found = [Test(f'explorer/{config}', lambda config=config: run_explorer(config), (program(config),), 100)
             for config in EXPLORED]
    found += [Test(f'explorer/threads-{config}', lambda config=config: run_threads(config), (program(config, 'thread-tests'),), 90)
              for config in THREADS]
    found.append(Test('explorer/mutants', run_explorer_mutants,
                      (program('64g'), program('64g-races'), program('64g', 'thread-tests')), 280))
    found.append(Test('mutants/generated', run_generated_mutants, (program('64g'), f'{BUILD}/include'), 60))
    return found


def flush_tests():
    return [Test('flush/mutants', run_flush_mutants, tuple(program(config) for config in PLAIN), 300, last=True)]
