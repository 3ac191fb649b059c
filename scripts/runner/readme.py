"""Compares the boot in README.md with a new one: the lines must be the same, their numbers may differ."""
import re

PAGE = 'README.md'
HEADING = '## What a successful boot looks like'
# These may differ: times, sizes that depend on the kernel's size, numbers of tests, the compiler.
NUMBERS = re.compile(r'(?<=^\[)[ \d.]+(?=\])|\d+(?= kB$)|(?<=^1\.\.)\d+|(?<=ok )\d+|\d+(?= (?:passed|failed|skipped|self-tests passed))|'
                     r'(?<=g\+\+ )[\d.]+')


def shape(line):
    return re.sub(r' +', ' ', NUMBERS.sub('N', line.rstrip()))


def shown(path=PAGE):
    """The lines of the example; '...' stands for omitted lines."""
    with open(path, encoding='utf-8') as file:
        text = file.read().split(f'{HEADING}\n', 1)[1]
    lines = []
    for line in text.splitlines():
        if line.startswith('    '):
            lines.append(line[4:])
        elif line and lines:
            break
    return lines


def differs(log, path=PAGE):
    """The first difference, or ''. The lines of the example have to be in the log in the same order."""
    lines, at, left_out = [shape(line) for line in log.splitlines()], 0, True
    for line in shown(path):
        if line.strip() == '...':
            left_out = True
            continue
        wanted = shape(line)
        places = [i for i in range(at, len(lines) if left_out else min(at + 1, len(lines))) if lines[i] == wanted]
        if not places:
            instead = '' if left_out or at >= len(lines) else f': the log has {log.splitlines()[at]!r} there'
            return f'{path} shows {line!r}, which the boot does not{instead}'
        at, left_out = places[0] + 1, False
    return '' if at else f'{path} shows no boot below {HEADING!r}'
