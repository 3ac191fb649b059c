"""What the paths of high memory cost, compared with the committed table: the emulator counts instructions, so each figure is
exact and every run says the same."""
from measure import guard, machine

from .result import Result, Test


def compare():
    result = Result()
    made_by, expected = guard.read()
    try:
        found, text = guard.measure(['--accel', 'tcg'], 'guard')
    except machine.Failed as failure:
        result.log = f'{machine.LOGS}/guard.log'
        result.fail(str(failure))
        return result
    if other := guard.compilers_differ(text, made_by):
        result.skipped += len(expected)
        result.notes.append(f'skipped: {other}')
        return result
    problems, result.notes = guard.compare(found, expected)
    for problem in problems:
        result.fail(problem)
    dearer = {problem.split(':')[0].split()[0] for problem in problems}
    result.passed += sum(name not in dearer for name in expected)
    return result


def page():
    result = Result()
    problems = guard.page_differs(guard.read()[1])
    result.check(not problems, '; '.join(problems))
    return result


def tests():
    return [Test('bench/instructions', compare, (guard.ELF,), slow=10), Test('bench/page', page)]
