"""Compares the cost of the paths of high memory with the committed table. The emulator counts instructions, so each figure is
exact and the same in every run."""
import re

from measure import files, guard, machine

from .result import Result, Test, read_log, run_program


def compare(table, measure, log):
    result = Result()
    made_by, expected = guard.read(table)
    try:
        found, text = measure()
    except machine.Failed as failure:
        result.log = f'{machine.LOGS}/{log}.log'
        result.fail(str(failure))
        return result
    if other := guard.compilers_differ(text, made_by):
        result.skipped += len(expected)
        result.notes.append(f'skipped: {other}')
        return result
    problems, result.notes = guard.compare(found, expected, table)
    for problem in problems:
        result.fail(problem)
    dearer = {problem.split(':')[0].split()[0] for problem in problems}
    result.passed += sum(name not in dearer for name in expected)
    return result


def paths():
    return compare(guard.TABLE, lambda: guard.measure(['--accel', 'tcg'], 'guard'), 'guard')


def on_files():
    return compare(files.TABLE, files.loft_tmpfs, 'bench-files-files-tmpfs')


def page():
    result = Result()
    problems = guard.page_differs(guard.read()[1])
    result.check(not problems, '; '.join(problems))
    return result


def listing():
    """Checks the listing of a kmap hit: instructions in order, with source lines."""
    result = Result(log=f'{machine.LOGS}/bench-listing.log')
    status = run_program(['scripts/bench-listing', 'kmap.hot'], result.log, 200)
    result.check(status == 0, f'the status is {status}')
    text = read_log(result.log)
    said = re.search(r'^kmap\.hot: (\d+) instructions; ([\d.]+) in the mean', text, re.MULTILINE)
    result.check(said and float(said[1]) == float(said[2]), 'it does not print the number of instructions')
    numbers = [int(number) for number in re.findall(r'^ *(\d+)  \w', text, re.MULTILINE)]
    result.check(said and numbers == list(range(1, int(said[1]) + 1)), 'it does not list them')
    result.check('lock cmpxchg' in text and re.search(r' kmap mm/windows/pkmap\.hpp:\d+ .*compare_exchange', text),
                 'it does not show the exchange with its source line')
    return result


def tests():
    return [Test('bench/listing', listing, (guard.ELF,), slow=10), Test('bench/instructions', paths, (guard.ELF,), slow=10),
            Test('bench/files', on_files, (guard.ELF, files.PROGRAM), slow=5), Test('bench/page', page)]
