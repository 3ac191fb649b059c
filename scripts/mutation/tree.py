"""The syntax trees of the code to mutate, by libclang: its functions, with the text of each.

Every source is parsed with the command by which clang compiles the default kernel. Headers are parsed first, all together, and
precompiled for the sources. Offsets count bytes; a text is decoded so that its characters are bytes.
"""
import dataclasses
import functools
import glob
import os
import re
import subprocess
import sys
import tempfile

from runner import make

ROOMS = ('mm', 'arch/i386/hal', 'kernel/threads')
CONFIG = '64g-highpte-smp-preempt-clang'
# What CONFIG makes of the constants of arch/base/config.hpp: code that it leaves out is not mutated.
TRUE = {'kHighMem', 'kHighPte', 'kPae', 'kSmp', 'kPreempt'}
FALSE = {'kDebug'}
CONSTANT = re.compile(r'(!?)\s*config::(k\w+)')
FUNCTIONS = ('FUNCTION_DECL', 'CXX_METHOD', 'CONSTRUCTOR', 'DESTRUCTOR', 'CONVERSION_FUNCTION', 'FUNCTION_TEMPLATE')
SCOPES = ('NAMESPACE', 'CLASS_DECL', 'STRUCT_DECL', 'CLASS_TEMPLATE', 'CLASS_TEMPLATE_PARTIAL_SPECIALIZATION', 'LINKAGE_SPEC',
          'UNEXPOSED_DECL')


def cindex():
    """Debian's binding of libclang; python3 may be another one than Debian's, which does not find it by itself."""
    try:
        from clang import cindex as module
    except ImportError:
        sys.path.append('/usr/lib/python3/dist-packages')
        try:
            from clang import cindex as module
        except ImportError:
            sys.exit("mutants: python3 has no module clang.cindex: scripts/setup installs it (Debian's python3-clang)")
    return module


@dataclasses.dataclass
class Function:
    name: str           # qualified, without the namespace loft
    signature: str      # the types of its parameters
    file: str
    begin: int
    end: int
    at_compile_time: bool  # constexpr: the compiler may call it
    cursor: object
    source: str         # the text of the whole file

    @property
    def text(self):
        return self.source[self.begin:self.end]


def constant(condition):
    """The value of the condition of an `if constexpr` in CONFIG, if it is a constant of config.hpp; else None."""
    match = CONSTANT.fullmatch(condition.strip())
    if not match or match[2] not in TRUE | FALSE:
        return None
    return (match[2] in TRUE) != bool(match[1])


def span(cursor):
    return cursor.extent.start.offset, cursor.extent.end.offset


def read(path):
    with open(path, encoding='latin-1', newline='') as file:
        return file.read()


@functools.cache
def flags():
    make.ready()
    subprocess.run(make.command('-s', f'{make.BUILD}/include'), check=True, env=make.environment(), stdout=subprocess.DEVNULL)
    command = subprocess.run(make.command('-s', f'print-compiler-{CONFIG}'), capture_output=True, text=True, check=True,
                             env=make.environment()).stdout.split()
    return [word for word in command[1:] if word != '-Werror']


def complain(unit, name):
    errors = [problem for problem in unit.diagnostics if problem.severity >= 3]
    if errors:
        sys.exit(f'mutants: libclang cannot parse {name}: {errors[0]}')


def units(rooms=ROOMS):
    """(translation unit, files of it whose functions count): the headers together, then each source."""
    clang = cindex()
    index = clang.Index.create()
    headers = sorted(path for room in rooms for path in glob.glob(f'{room}/**/*.hpp', recursive=True))
    sources = sorted(path for room in rooms for path in glob.glob(f'{room}/**/*.cpp', recursive=True))
    include = lambda path: f'#include <{path.removeprefix("arch/i386/")}>\n' if path.startswith('arch/') else f'#include "{path}"\n'
    text = '#pragma once\n' + ''.join(map(include, headers))
    options = flags()
    unit = index.parse('mutation.hpp', ['-x', 'c++-header', *options], [('mutation.hpp', text)])
    complain(unit, 'the headers')
    with tempfile.TemporaryDirectory() as folder:
        precompiled = f'{folder}/headers.pch'
        unit.save(precompiled)
        yield unit, set(headers)
        for path in sources:
            unit = index.parse(path, ['-include-pch', precompiled, *options])
            complain(unit, path)
            yield unit, {path}


def lock_warning(path, text):
    """What clang's lock checks say of a file with this text; '' if nothing. Every build by clang would fail."""
    unit = cindex().Index.create().parse('one.cpp', flags(), [('one.cpp', f'#include "{path}"\n'), (path, text)])
    return next((problem.spelling for problem in unit.diagnostics if problem.option.startswith('-Wthread-safety')), '')


def functions(rooms=ROOMS):
    """All functions with a body, in a fixed order."""
    found = [function for unit, files in units(rooms) for function in of_unit(unit, files, read)]
    return sorted(found, key=lambda function: (function.file, function.begin))


def of_unit(unit, files, text_of):
    texts = {path: text_of(path) for path in files}
    for cursor, scope in definitions(unit.cursor, files, ()):
        path = os.path.normpath(cursor.location.file.name)
        begin, end = span(cursor)
        name = cursor.spelling.split('<')[0] if cursor.kind.name == 'CONSTRUCTOR' else cursor.spelling
        types = [re.sub(r'\bloft::| ', '', child.type.spelling) for child in cursor.get_children() if child.kind.name == 'PARM_DECL']
        head = texts[path][begin:end].split('{')[0]
        signature = f'({",".join(types)}){"const" if cursor.is_const_method() else ""}'
        yield Function('::'.join((*scope, name)), signature, path, begin, end, bool(re.search(r'\bconst(expr|eval)\b', head)),
                       cursor, texts[path])


def definitions(cursor, files, scope):
    for child in cursor.get_children():
        place = child.location.file
        if place is None or os.path.normpath(place.name) not in files:
            continue
        kind = child.kind.name
        if kind in FUNCTIONS:
            if child.is_definition() and any(part.kind.name in ('COMPOUND_STMT', 'CXX_TRY_STMT') for part in child.get_children()):
                yield child, tuple(part for part in owners(child) if part != 'loft')
        elif kind in SCOPES:
            yield from definitions(child, files, scope)


def owners(cursor):
    """The names of the namespaces and classes that the function is a member of."""
    names, parent = [], cursor.semantic_parent
    while parent is not None and parent.kind.name != 'TRANSLATION_UNIT':
        if parent.spelling and not parent.spelling.startswith('('):
            names.append(parent.spelling)
        parent = parent.semantic_parent
    return reversed(names)
