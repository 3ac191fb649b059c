"""scripts/mutants generated: mutants that a program makes from the syntax tree of mm, the HAL and kernel/threads.

The classes flush, lock, reference and order have to be killed completely. Of the class logic, a random sample of 300 is enough,
of which 92 % have to be killed. Equivalent mutants, which no test can detect, are listed with the reason in
tests/mutants/equivalent.txt and are not run.

Results are kept in mutants-generated.jsonl in the output folder of make: a mutant whose function is as it was is not run again.
So an interrupted run continues. The last lines are a table of all results of the selected mutants.
"""
import argparse
import fnmatch
import hashlib
import math
import os
import sys
import time

from runner import make

from . import catalogue, judge, operators

SAMPLE, SEED, LEAST_OF_LOGIC = 300, 1, 0.92


def arguments(words):
    parser = argparse.ArgumentParser(prog='mutants generated', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--list', action='store_true', help='print the selected mutants and stop')
    parser.add_argument('--table', action='store_true', help='print the results so far and stop')
    parser.add_argument('--class', dest='group', metavar='CLASS', action='append', choices=operators.CLASSES,
                        help=f'only this class: {", ".join(operators.CLASSES)}; may be repeated')
    parser.add_argument('--kind', action='append', choices=tuple(operators.KINDS),
                        help=f'only this kind: {", ".join(operators.KINDS)}; may be repeated')
    parser.add_argument('--only', metavar='GLOB', action='append', help='only mutants with a matching name; may be repeated')
    parser.add_argument('--room', metavar='FOLDER', action='append', help='only of files in this folder; may be repeated')
    parser.add_argument('--sample', type=int, default=SAMPLE, metavar='N',
                        help=f'the number of mutants of the class logic, chosen at random; 0: all ({SAMPLE})')
    parser.add_argument('--seed', type=int, default=SEED, help=f'of the choice ({SEED})')
    parser.add_argument('--shard', default='1/1', metavar='I/N', help='the I-th of N parts')
    parser.add_argument('--seconds', type=float, default=math.inf, help='start no mutant after this time')
    parser.add_argument('--again', action='store_true', help='run also what has a result')
    parser.add_argument('--quick', action='store_true', help='without the explorer of mm and without a kernel that boots; a mutant '
                        'that survives stays open')
    parser.add_argument('--alone', action='store_true', help='compile each mutant by itself, which is slower for many, and '
                        'faster for a few in one source')
    parser.add_argument('--equivalent', action='store_true', help='run those that are listed as equivalent, too')
    parser.add_argument('--jobs', type=int, default=2, help='compilers at a time (2)')
    return parser.parse_args(words)


def shard_of(text):
    part, _, parts = text.partition('/')
    if not part.isdigit() or not parts.isdigit() or not 1 <= int(part) <= int(parts):
        sys.exit(f'mutants: the shard {text} is not I/N, with I from 1 to N')
    return int(part), int(parts)


def select(mutants, chosen):
    """The mutants to run, the most important and fastest first."""
    part, parts = shard_of(chosen.shard)
    picked = [mutant for mutant in mutants
              if (not chosen.group or mutant.group in chosen.group) and (not chosen.kind or mutant.kind in chosen.kind) and
              (not chosen.room or any(mutant.file.startswith(room.rstrip('/') + '/') for room in chosen.room)) and
              (not chosen.only or any(fnmatch.fnmatchcase(mutant.name, glob) for glob in chosen.only))]
    logic = [mutant.name for mutant in picked if mutant.group == 'logic']
    if 0 < chosen.sample < len(logic) and not chosen.only:
        # The rank depends on the name alone: after a change of the sources most of the sample is as before.
        sample = sorted(logic, key=lambda name: hashlib.sha256(f'{chosen.seed} {name}'.encode()).digest())[:chosen.sample]
        picked = [mutant for mutant in picked if mutant.group != 'logic' or mutant.name in sample]
    sides = list(judge.SIDES)
    picked.sort(key=lambda mutant: (sides.index(judge.sides_of(mutant)[0]), mutant.group == 'logic'))
    return picked[part - 1::parts]


def wilson(hits, runs, z=1.96):
    """The 95 % interval of a proportion (Wilson, 1927)."""
    if runs == 0:
        return 0.0, 1.0
    share, square = hits / runs, z * z
    middle, half = share + square / (2 * runs), z * math.sqrt(share * (1 - share) / runs + square / (4 * runs * runs))
    return (middle - half) / (1 + square / runs), (middle + half) / (1 + square / runs)


def table(mutants, results, equivalent):
    """Lines of the table, and whether the classes reach what they have to."""
    heads = ('generated', 'equivalent', 'stillborn', 'run', 'killed', 'survived', 'open', 'not run')
    lines, good = [f'{"":14}' + ''.join(f'{head:>11}' for head in heads)], True
    sums = {group: dict.fromkeys(heads, 0) for group in operators.CLASSES}
    for kind, (group, _) in operators.KINDS.items():
        row = dict.fromkeys(heads, 0)
        for mutant in (mutant for mutant in mutants if mutant.kind == kind):
            verdict = results.of(mutant)
            row['generated'] += 1
            if mutant.name in equivalent:
                row['equivalent'] += 1
            elif verdict:
                row[verdict.word] += 1
                row['run'] += verdict.word in ('killed', 'survived')
        if not row['generated']:
            continue
        row['not run'] = row['generated'] - row['equivalent'] - row['stillborn'] - row['run'] - row['open']
        for head in heads:
            sums[group][head] += row[head]
        lines.append(f'{kind:14}' + ''.join(f'{row[head]:11}' for head in heads))
    for group, row in sums.items():
        if not row['run']:
            continue
        share, (low, high) = row['killed'] / row['run'], wilson(row['killed'], row['run'])
        need = LEAST_OF_LOGIC if group == 'logic' else 1.0
        good = good and share >= need
        # Those that are open have survived the tests so far: the share is not known without them.
        still = f'; {row["open"]} are open' if row['open'] else ''
        good = good and not still
        lines.append(f'{group}: {row["killed"]} of {row["run"]} killed: {share:.1%}, 95 % interval {low:.1%} to {high:.1%}; '
                     f'needed: {need:.0%}{still}')
    return lines, good


def main(words):
    chosen = arguments(words)
    mutants, equivalent = catalogue.generate(), catalogue.read_equivalent()
    picked = select(mutants, chosen)
    if not picked:
        sys.exit('mutants: no generated mutant is selected')
    if chosen.list:
        for mutant in picked:
            print(f'{mutant.name:52} {mutant.file}: {mutant.shown}')
        print(f'{len(picked)} of {len(mutants)} generated mutants')
        return 0
    results = judge.Results(os.path.join(make.BUILD, judge.RESULTS))
    end = time.monotonic() + chosen.seconds
    for side in judge.SIDES if not chosen.table else ():
        run(side, mutants, picked, results, equivalent, chosen, end)
    lines, good = table(picked, results, equivalent)
    print('\n'.join(lines))
    missing = sum(has_to_run(results.of(mutant)) and mutant.name not in equivalent for mutant in picked)
    survived = sum(bool(verdict := results.of(mutant)) and verdict.word == 'survived' and mutant.name not in equivalent
                   for mutant in picked)
    killed = sum(bool(verdict := results.of(mutant)) and verdict.word == 'killed' for mutant in picked)
    print(f'{killed} killed, {survived} not' + (f', {missing} have not run' if missing else ''))
    return 0 if good and not missing else 1


def has_to_run(verdict):
    return verdict is None or verdict.word == 'open'


def run(side, mutants, picked, results, equivalent, chosen, end):
    def is_wanted(mutant):
        if not chosen.equivalent and mutant.name in equivalent:
            return False
        verdict = results.of(mutant)
        if chosen.again and side is judge.sides_of(mutant)[0]:
            return True
        return judge.next_side(mutant, verdict) is side and not (chosen.quick and verdict and not verdict.by)

    wanted = [mutant for mutant in picked if is_wanted(mutant)]
    if not wanted or time.monotonic() > end or (chosen.quick and side is judge.OnGuest):
        return
    if side is judge.OnInstructions:
        way = judge.Inspect()
    elif chosen.alone or side is judge.OnDebug:
        way = judge.Alone(side(), chosen.jobs)
    else:
        way = judge.Together(side(), mutants, results, chosen.jobs)
    way.build()
    for mutant in wanted:
        if time.monotonic() > end:
            break
        known = results.of(mutant)
        if not chosen.alone and known and known.word == 'stillborn':
            continue
        was_open = not chosen.again and known is not None and known.word == 'open' and not known.by
        verdict = way.judge(mutant, chosen.quick, was_open)
        if verdict.word == 'survived' and side is not judge.sides_of(mutant)[-1]:
            verdict = judge.Verdict('open', side.__name__, verdict.seconds)
        # By itself a mutant is compiled with all warnings, which the program of all mutants ignores.
        if not (chosen.alone and verdict.word == 'stillborn'):
            results.add(mutant, verdict)
        print(f'{verdict.word:9} {mutant.name:52} {mutant.shown if verdict.word == "survived" else verdict.by}  '
              f'[{verdict.seconds:.0f} s]', flush=True)
