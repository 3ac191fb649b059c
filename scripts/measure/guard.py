"""The committed table of the cost of each path, and the comparison with it."""
import re

from runner.make import BUILD

from . import lines, machine

TABLE = 'tests/bench/expected.txt'
PAGE = 'docs/paths.md'
KERNEL = '64g-highpte-smp-preempt'
ELF = f'{BUILD}/{KERNEL}/loft.elf'
LIMIT = 1.05  # the cost of a path may grow by 5 %
# Instructions of the work itself, one per word: only the rest is compared.
WORK = {'clear_highpage': 1024, 'clear_highpage.same': 1024, 'copy_highpage': 1024, 'copy_highpage.same': 1024}
COLUMNS = ('ticks', *lines.COUNTERS)
UNITS = dict(ticks='instructions', invlpg='invlpg', full_flushes='full flushes', non_global_flushes='CR3 loads',
             ipis='IPIs', locks='locks taken', waits='waits')

HEADER = f'''# What each path of high memory costs: instructions, and TLB operations, interrupts and locks, an operation each.
# `make test` measures the default kernel again and fails if one of them has grown by more than 5 %; `make bench-update`
# writes this file. kernel/proof/bench.hpp says what a line is. Other compilers make other code: with one that is not named here
# the figures are not compared.
'''


def measure(where, log='bench'):
    """The exact figures of the default kernel's paths."""
    return machine.loft(log, ELF, 'paths', where)


def read(path=TABLE):
    """The compiler, and the table as measure() returns it."""
    table, made_by = {}, ''
    with open(path, encoding='utf-8') as file:
        for line in file:
            words = line.split('#')[0].split()
            if words[:1] == ['compiler']:
                made_by = ' '.join(words[1:])
            elif words and words[0] != 'path':
                table[words[0]] = dict(zip(COLUMNS, map(float, words[1:])))
    return made_by, table


def page_differs(expected, path=PAGE):
    """Differences between the figures in the headings of PAGE and those of the table."""
    with open(path, encoding='utf-8') as file:
        headings = [line for line in file if line.startswith('## ')]
    said = re.findall(r'`([\w.]+)` (\d+(?:\.\d+)?)', ' '.join(headings))
    problems = [f'{path} says {name} {figure}, {TABLE} has {expected[name]["ticks"] if name in expected else "no such path"}'
                for name, figure in said if name not in expected or abs(expected[name]['ticks'] - float(figure)) > 0.05]
    return problems if said else [f'{path} names no path in its headings']


def write(found, made_by, path=TABLE, header=HEADER, columns=COLUMNS):
    width = max(map(len, found)) + 2
    head = 'path'.ljust(width) + ''.join(column.rjust(max(len(column), 9) + 2) for column in columns)
    with open(path, 'w', encoding='utf-8') as file:
        file.write(f'{header}compiler {made_by}\n{head}\n')
        for name, line in found.items():
            cells = (f'{line[column]:.4f}'.rstrip('0').rstrip('.').rjust(max(len(column), 9) + 2) for column in columns)
            file.write(name.ljust(width) + ''.join(cells) + '\n')


def compare(found, expected, path=TABLE):
    """Paths with a changed cost, or that are in only one of the two: lists of sentences (problems, notes)."""
    problems, notes = [], []
    for name, old in expected.items():
        new = found.get(name)
        if new is None:
            problems.append(f'{name} is in {path} and was not measured')
            continue
        for column in COLUMNS:
            before, after = old.get(column, 0.0), new.get(column, 0.0)
            work = WORK.get(name, 0) if column == 'ticks' else 0
            what = f'{name}: {after:g} {UNITS[column]}, {path} has {before:g}'
            if before > work:
                what += f' ({100 * (after - before) / (before - work):+.1f} %'
                what += f' without the {work} stores)' if work else ')'
            # The last printed digit of a counter is rounded.
            if after - work > (before - work) * LIMIT + (0 if column == 'ticks' else 0.0001):
                problems.append(what)
            elif column == 'ticks' and (after - work) * LIMIT < before - work:
                notes.append(what + ': cheaper; `make bench-update` records it')
    for name in found:
        if name not in expected:
            problems.append(f'{name} was measured and is not in {path}: `make bench-update` adds it')
    return problems, notes


def compilers_differ(text, made_by):
    mine = lines.compiler(text)
    return '' if mine == made_by else f'compiled by {mine}, {TABLE} by {made_by}'


