"""Describes the end of a boot by QEMU's status and the kernel's log, and checks that they agree.

A status alone proves nothing: 33 counts as passed only if the log shows what has passed.
"""
import re

from . import ktap

PASSED, FAILED, PANIC, REFUSED, RESET, LATE = 33, 35, 37, 39, 40, 124
STATUS = {0: 'QEMU was left', PASSED: 'passed', FAILED: 'failed', PANIC: 'panic', REFUSED: 'refused',
          RESET: 'the machine was reset, as by a triple fault', 2: 'run-qemu was called wrongly'}
# Lines of the kernel about its end, from column 0 (kernel/main.cpp, kernel/proof/crash.cpp, kernel/proof/bench.cpp).
NOTHING_RAN = re.compile(r'^loft: (no self-test ran: .*)$', re.MULTILINE)
IGNORED = re.compile(r'^loft: (not understood and ignored: .*)$', re.MULTILINE)
REPORTED = re.compile(r'^(crash: \S+ was reported)$', re.MULTILINE)
OTHER_FAILURES = re.compile(r'^(crash: \S+ was not caught|bench: .*)$', re.MULTILINE)
PANICKED = re.compile(r'^(panic: .*)$', re.MULTILINE)
# The problem; the log continues with the remedy.
REFUSAL = re.compile(r'^loft: (cannot (?:start|do what was asked): .*)', re.MULTILINE)
MANY = 5


def plural(number, what):
    return f'{number} {what}' if number == 1 else f'{number} {what}s'


def why_passed(text):
    """(what has passed, '') if the log shows it, otherwise ('', the problem of the log)."""
    report = ktap.parse(text)
    if panic := PANICKED.search(text):
        return '', f'the log has "{panic.group(1)}"'
    if report.present:
        if report.errors:
            return '', '; '.join(report.errors[:MANY])
        if report.failed:
            return '', f'the log has {plural(report.failed, "failed self-test")}'
        if report.passed == 0:
            return f'no self-test ran: all {report.skipped} were skipped', ''
        skipped = f', {report.skipped} skipped' if report.skipped else ''
        return f'{plural(report.passed, "self-test")} passed{skipped}', ''
    if said := REPORTED.search(text) or NOTHING_RAN.search(text):
        return said.group(1), ''
    return '', 'the log does not say what has passed; is it whole?'


def why_failed(text):
    names = [failure.splitlines()[0] for failure in ktap.parse(text).failures]
    if names:
        more = f' and {len(names) - MANY} more' if len(names) > MANY else ''
        return f'{plural(len(names), "self-test")} failed: {", ".join(names[:MANY])}{more}'
    other = OTHER_FAILURES.findall(text) + NOTHING_RAN.findall(text)
    return '; '.join(other) if other else 'something failed; the log does not say what'


def disagrees(status, text):
    """The contradiction between status and log, or ''."""
    if status == PASSED:
        return (problem := why_passed(text)[1]) and f'the status is {PASSED} (passed), but {problem}'
    if status == PANIC and not PANICKED.search(text):
        return f'the status is {PANIC} (panic), but the log has no panic'
    if status == REFUSED and not REFUSAL.search(text):
        return f'the status is {REFUSED} (refused), but the log has no refusal'
    return ''


def judge(status, text, wants_exit=False, limit=''):
    """(good, sentences) about a boot that ended with `status` and printed `text`. `wants_exit`: the kernel was told to
    end QEMU, so only the kernel may have ended it."""
    ignored = [f'warning: {said}' for said in IGNORED.findall(text)]
    if status == PASSED:
        passed, problem = why_passed(text)
        if problem:
            return False, [f'status {PASSED}, passed, but {problem}', *ignored]
        return True, [passed, *ignored]
    if status == FAILED:
        return False, [why_failed(text), *ignored]
    if status == PANIC:
        said = PANICKED.search(text)
        return False, [said.group(1) if said else 'panic; the log does not say why', *ignored]
    if status == REFUSED:
        said = REFUSAL.search(text)
        return False, [said.group(1) if said else 'refused to start; the log does not say why', *ignored]
    if status == RESET:
        return False, ['the machine was reset: a triple fault, or the kernel asked for it']
    if status == LATE:
        return False, [f'still running after {limit} seconds' if limit else 'still running at the end of its time']
    if status == 0:
        return (False, ['QEMU was left before the kernel ended it']) if wants_exit else (True, ['QEMU was left'])
    if status > 128:
        return False, [f'QEMU was ended by signal {status - 128}']
    return False, [f'QEMU ended with status {status}']
