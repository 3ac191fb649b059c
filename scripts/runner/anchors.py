"""Finds the definitions of functions, types and variables by their names, without their files.

A name is as long as needed to be unique: `flush`, `TlbBatch::flush`. Several definitions may match (overloads; a class includes
its members). In assembly: a constant, or a non-local label with the lines up to the next one. Universal Ctags parses the C++.
"""
import collections
import glob
import json
import re
import shutil
import subprocess
import sys

# The folders to search; the prefix in `sim:NAME` selects the simulated machine.
ROOMS = {'': ('boot', 'arch', 'mm', 'kernel'), 'sim': ('tests/sim',)}
KINDS = {'function', 'class', 'struct', 'union', 'enum', 'variable', 'macro'}
# Annotation macros, which ctags must ignore (arch/base/thread_safety.hpp); +: with arguments.
IGNORED = ("LOFT_GUARD,LOFT_UNCHECKED,LOFT_LOCK+,LOFT_GUARDED_BY+,LOFT_REQUIRES+,LOFT_TAKES+,LOFT_TRIES+,LOFT_GIVES_BACK+"
           ",LOFT_PERCPU")
LABEL = re.compile(r'^([A-Za-z_]\w*)(:|\s+equ\b)')


class Place(collections.namedtuple('Place', 'file first last')):
    """Lines of a file, counted from 1, both ends included."""

    def __str__(self):
        return f'{self.file}:{self.first}'

    def inside(self, other):
        return self.file == other.file and other.first <= self.first and self.last <= other.last


def sources(rooms):
    return sorted(path for room in rooms for ending in ('cpp', 'hpp', 'asm')
                  for path in glob.glob(f'{room}/**/*.{ending}', recursive=True))


def read_lines(path):
    with open(path, encoding='utf-8') as file:
        return file.read().split('\n')


def begin_of(lines, first):
    """The first line of the definition: a template's head, a requirement or a type may be above the line with the name."""
    while first > 1:
        above = lines[first - 2].split('//')[0].rstrip()
        if not above.strip() or above.startswith('#') or above[-1] in ';{}' or re.search(r'\b(public|private|protected):$', above):
            break
        first -= 1
    return first


def end_of(lines, first):
    """The last line of a statement, if ctags does not know it: that of the first semicolon outside of all brackets."""
    depth = 0
    for number in range(first, len(lines) + 1):
        for sign in re.sub(r'"(\\.|[^"\\])*"|\'(\\.|[^\'\\])\'', '', lines[number - 1].split('//')[0]):
            depth += (sign in '({[') - (sign in ')}]')
            if sign == ';' and depth == 0:
                return number
    return first


def assembly(path):
    lines = read_lines(path)
    labels = [(number, *match.groups()) for number, line in enumerate(lines, 1) if (match := LABEL.match(line))]
    for (first, name, sign), (following, *_) in zip(labels, labels[1:] + [(len(lines) + 1,)]):
        yield name, Place(path, first, following - 1 if sign == ':' else first)


class Definitions:
    """All definitions in some folders; paths are relative to the current folder."""

    def __init__(self, rooms):
        self.of = collections.defaultdict(set)  # last part of the name: {(full name, place)}
        files = sources(rooms)
        texts = {path: read_lines(path) for path in files}
        for path in files:
            if path.endswith('.asm'):
                for name, place in assembly(path):
                    self.of[name].add((name, place))
        command = [shutil.which('ctags-universal') or 'ctags', '--output-format=json', '--fields=+neKs',
                   '--languages=C++', '--langmap=C++:.cpp.hpp', '--kinds-C++=fcsugvd', '-D', 'SELFTEST(a,b)=void a##b()', '-I', IGNORED, '-f', '-', '-L', '-']
        run = subprocess.run(command, input='\n'.join(path for path in files if not path.endswith('.asm')), check=False,
                             stdout=subprocess.PIPE, encoding='utf-8')
        if run.returncode != 0 or not run.stdout:
            sys.exit(f'{command[0]} cannot list what C++ files define: Universal Ctags can (scripts/setup installs it)')
        for line in run.stdout.splitlines():
            tag = json.loads(line)
            if tag.get('_type') != 'tag' or tag['kind'] not in KINDS or tag['name'].startswith('__anon'):
                continue
            lines = texts[tag['path']]
            scope = [part for part in re.sub(r'<[^<>]*>', '', tag.get('scope', '')).split('::')
                     if part and not part.startswith('__anon') and part != 'loft']
            place = Place(tag['path'], begin_of(lines, tag['line']), max(tag.get('end', 0), tag['line']) if 'end' in tag
                          else end_of(lines, tag['line']))
            self.of[tag['name']].add(('::'.join([*scope, tag['name']]), place))

    def find(self, name):
        """The places of all definitions with this name, without those inside of others."""
        found = {place for full, place in self.of.get(name.split('::')[-1], ())
                 if full == name or full.endswith('::' + name)}
        return sorted(place for place in found if not any(place != other and place.inside(other) for other in found))


class World:
    """The definitions of loft and of the simulated machine, each read at its first use."""

    def __init__(self):
        self.read = {}

    def definitions(self, anchor):
        """The definitions to search for this anchor, and the anchor's name without the prefix."""
        prefix, _, name = anchor.rpartition(':') if re.match(r'\w+:[^:]', anchor) else ('', '', anchor)
        if prefix not in self.read:
            self.read[prefix] = Definitions(ROOMS[prefix])
        return self.read[prefix], name

    def find(self, anchor):
        known, name = self.definitions(anchor)
        return known.find(name)
