"""The duration of a test run: predicted from recorded times, and measured for later predictions."""
import os
import resource

TIMES = 'scripts/runner/times.txt'
BUILD = 'build'  # the line for make, from scratch
HEADER = '''# Seconds of processor time of each test, and of make from scratch; `make test` predicts its duration from these.
# `scripts/run-tests --record` writes the lines of the tests that it runs.
'''


def read(path=TIMES):
    try:
        with open(path, encoding='utf-8') as file:
            rows = [line.split() for line in file if line.strip() and not line.startswith('#')]
    except FileNotFoundError:
        return {}
    return {name: float(seconds) for name, seconds in rows}


def minutes(seconds):
    return 'less than a minute' if seconds < 50 else f'about {max(1, round(seconds / 60))} min'


def estimate(names, times):
    """Seconds of processor time. A test without a recorded time counts as the mean of its part."""
    known = [name for name in times if name != BUILD]
    total = 0.0
    for name in names:
        if name in times:
            total += times[name]
            continue
        alike = [times[other] for other in known if other.split('/')[0] == name.split('/')[0]] or \
            [times[other] for other in known] or [0.0]
        total += sum(alike) / len(alike)
    return total


def announce(tests, jobs, path=TIMES):
    times = read(path)
    processors = len(os.sched_getaffinity(0))
    at_once = min(jobs, processors)
    what = f'{len(tests)} test{"s" if len(tests) != 1 else ""}, {jobs} at a time'
    if not times:
        return f'{what}: no times are recorded in {path}'
    seconds = estimate([test.name for test in tests], times) / at_once
    said = f'{what}: {minutes(seconds)} on {at_once} idle processor{"s" if at_once != 1 else ""}'
    goals = {goal for test in tests for goal in test.goals}
    if BUILD in times and len(goals) > 10:  # most of all goals
        said += f', and up to {max(1, round(times[BUILD] / at_once / 60))} min more for the build'
    load = os.getloadavg()[0]
    if load > 1 and load > processors / 2:
        said += f'; this machine is busy (load {load:.1f}), so it takes longer'
    return said


def processor_time():
    """Seconds of processor time of all child processes that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def groups(results, building):
    """The processor time of each part of the tests."""
    parts = {'make': building}
    for name, result in results.items():
        part = name.split('/')[0]
        parts[part] = parts.get(part, 0.0) + result.processor
    return 'processor time: ' + ', '.join(f'{part} {seconds:.0f} s' for part, seconds in parts.items()) + \
        f'; in all {sum(parts.values()):.0f} s'


def record(results, building, path=TIMES):
    """Adds the tests that passed to the recorded times. `building`: make's time, or None if it did not build everything."""
    times = read(path)
    if building is not None and building > times.get(BUILD, 0.0):
        times[BUILD] = building
    times.update({name: result.processor for name, result in results.items() if not result.failed})
    with open(path, 'w', encoding='utf-8') as file:
        file.write(HEADER)
        for name in sorted(times):
            file.write(f'{name:<44} {times[name]:7.1f}\n')
