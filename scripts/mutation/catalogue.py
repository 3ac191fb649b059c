"""The list of all generated mutants: their names, what they change, and which of them are known to be equivalent.

The name of a mutant is FUNCTION:KIND:NUMBER. The function is qualified, without the namespace loft and without its file; its
parameters follow if there are several functions of that name. The number counts the mutants of the kind in the function, from 1.
"""
import collections
import dataclasses
import hashlib
import os
import re

from . import operators, tree

EQUIVALENT = 'tests/mutants/equivalent.txt'
LEAST = 3000


@dataclasses.dataclass
class Mutant:
    name: str
    kind: str
    file: str
    edits: list
    shown: str             # the changed text
    mark: str              # changes if the function or the change does
    at_compile_time: bool

    @property
    def group(self):
        return operators.KINDS[self.kind][0]


def short(text, most=60):
    text = re.sub(r'\s+', ' ', text).strip()
    return text if len(text) <= most else text[:most - 3] + '...'


def labels(functions):
    """A unique name for each function; parameters, and then the file's name, only where they are needed."""
    steps = (lambda f: f.name, lambda f: f.name + f.signature,
             lambda f: f'{f.name}{f.signature}@{os.path.basename(f.file).split(".")[0]}')
    names = {}
    rest = functions
    for step in steps:
        count = collections.Counter(map(step, rest))
        names.update({id(f): step(f) for f in rest if count[step(f)] == 1})
        rest = [f for f in rest if id(f) not in names]
    return names


def of_functions(functions):
    functions, found = list(functions), []
    names = labels(functions)
    for function in functions:
        number = collections.Counter()
        for kind, edits in operators.Finder(function).found:
            number[kind] += 1
            shown = '; '.join(f'{short(function.source[edit.begin:edit.end])} => {short(edit.text)}' for edit in edits)
            moved = [(edit.begin - function.begin, edit.end - function.begin, edit.text) for edit in edits]
            mark = hashlib.sha256(repr((function.text, moved)).encode()).hexdigest()[:16]
            found.append(Mutant(f'{names[id(function)]}:{kind}:{number[kind]}', kind, function.file, edits, shown, mark,
                                function.at_compile_time))
    return found


def generate(rooms=tree.ROOMS):
    return of_functions(tree.functions(rooms))


def read_equivalent(path=EQUIVALENT):
    """{name: (changed text, reason)}"""
    listed = {}
    with open(path, encoding='utf-8') as lines:
        for number, line in enumerate(lines, 1):
            line = line.strip()
            if not line or line.startswith('#'):
                continue
            name, first, rest = line.partition(' | ')
            shown, second, reason = rest.rpartition(' | ')
            if not first or not second or not reason:
                raise ValueError(f'{path}:{number}: a line has a name, the changed text and a reason')
            if name in listed:
                raise ValueError(f'{path}:{number}: {name} occurs twice')
            listed[name] = (shown, reason)
    return listed


def stale(mutants, listed):
    """What is wrong with the list of equivalent mutants."""
    known = {mutant.name: mutant for mutant in mutants}
    for name, (shown, _) in listed.items():
        if name not in known:
            yield f'{name} is no longer generated'
        elif known[name].shown != shown:
            yield f'{name} now changes {known[name].shown}'


def check():
    """Prints what is wrong; returns the number of mutants and of mistakes."""
    mutants = generate()
    wrong = [f'{EQUIVALENT}: {text}' for text in stale(mutants, read_equivalent())]
    twice = [name for name, count in collections.Counter(mutant.name for mutant in mutants).items() if count > 1]
    wrong += [f'two generated mutants are called {name}' for name in twice]
    if len(mutants) < LEAST:
        wrong.append(f'only {len(mutants)} mutants are generated, not {LEAST}')
    for text in wrong:
        print(text)
    return len(mutants), len(wrong)
