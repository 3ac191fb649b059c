"""All mutants of the sources in one program: each change stands beside the original text, behind a comparison with the number of
the selected mutant. The number is in the program's file, so that selecting another mutant needs no compiler.
"""
import collections
import hashlib
import re

HEADER = '''// Generated: the selected mutant of this program.
#pragma once
#include <new>
#include <type_traits>
#include <utility>
extern "C" unsigned loft_mutant[5];
inline bool loft_is(unsigned number) { return loft_mutant[4] == number; }
// In functions that the compiler may evaluate: it uses the original.
constexpr bool loft_is_constant(unsigned number) { return !__builtin_is_constant_evaluated() && loft_mutant[4] == number; }
// A guard that may be left out.
template <typename T> class LoftMaybe {
  public:
    LoftMaybe() {}
    ~LoftMaybe() {
        if (made_) it_.~T();
    }
    template <typename... A> void make(A&&... a) {
        new (static_cast<void*>(&it_)) T(std::forward<A>(a)...);
        made_ = true;
    }

  private:
    union {
        T it_;
    };
    bool made_ = false;
};
'''
MAGIC = (0x746f6c21, 0x6174756d, 0x2e73746e, 0x656e6f21)
SOURCE = '#include "arch/base/mutant.hpp"\nunsigned loft_mutant[5] = {' + ', '.join(map(hex, MAGIC)) + ', 0};\n'
FILES = {'arch/base/mutant.hpp': HEADER, 'arch/base/mutant.cpp': SOURCE}
MARK = re.compile(r'^/\*#(\d+)\*/')
GUARD = re.compile(r'(?:const\s+)?([\w:]+)\s+(\w+)\{(.*)\};?$', re.DOTALL)

Part = collections.namedtuple('Part', 'begin end text style number constant')


def one_line(text):
    return re.sub(r'\s+', ' ', re.sub(r'//[^\n]*', '', text)).strip()


def test(part):
    return f'loft_is{"_constant" if part.constant else ""}({part.number})'


def wrapped(parts, original, plain):
    """The text for all parts with the same place. `original` has the switches of smaller parts, `plain` none. Each alternative
    begins a line with its number."""
    style = parts[0].style
    if style == 'guard':
        kind, name, given = GUARD.match(one_line(plain)).groups()
        end = ';' if plain.endswith(';') else ''
        return f'\n/*#{parts[0].number}*/ LoftMaybe<{kind}> {name}; if (!{test(parts[0])}) {name}.make({given}){end}\n'
    if style == 'statement':
        head = ''.join(f'\n/*#{part.number}*/ if ({test(part)}) {{ {one_line(part.text)} }} else' for part in parts)
        return f'{{{head} {{\n{original}\n}}}}'
    head = ''.join(f'\n/*#{part.number}*/ {test(part)} ? ({one_line(part.text)}) :' for part in parts)
    return f'({head}\n({original}))'


def render(source, parts, begin=0, end=None):
    end = len(source) if end is None else end
    places = collections.defaultdict(list)
    for part in sorted(parts, key=lambda part: part.number):
        places[part.begin, part.end].append(part)
    out, at = [], begin
    for (first, last), same in sorted(places.items(), key=lambda item: (item[0][0], -item[0][1])):
        if first < at:
            continue  # inside of the last one, which has rendered it
        inner = [part for part in parts if first <= part.begin and part.end <= last and (part.begin, part.end) != (first, last)]
        out += [source[at:first], wrapped(same, render(source, inner, first, last), source[first:last])]
        at = last
    return ''.join(out) + source[at:end]


def crossing(parts):
    """Numbers of mutants with a part that neither contains nor avoids an earlier one."""
    bad, open_ends = set(), []
    for part in sorted(parts, key=lambda part: (part.begin, -part.end)):
        while open_ends and open_ends[-1] <= part.begin:
            open_ends.pop()
        if open_ends and part.end > open_ends[-1]:
            bad.add(part.number)
        else:
            open_ends.append(part.end)
    return bad


def numbers_of(mutants):
    """{number: mutant}, from 1. A number depends on the mutant's name, so that changes elsewhere do not change it."""
    numbers = {}
    for mutant in sorted(mutants, key=lambda mutant: mutant.name):
        number = int(hashlib.sha256(mutant.name.encode()).hexdigest()[:7], 16) + 1
        while number in numbers:
            number += 1
        numbers[number] = mutant
    return numbers


def parts_of(numbers):
    """{file: parts} of {number: mutant}"""
    files = collections.defaultdict(list)
    for number, mutant in numbers.items():
        for edit in mutant.edits:
            files[mutant.file].append(Part(*edit, number, mutant.at_compile_time))
    return files


def files_with(numbers, read, left_out=()):
    """{file: text with all mutants but those whose numbers are left out}, and the helper files."""
    texts = {}
    for path, parts in parts_of(numbers).items():
        parts = [part for part in parts if part.number not in left_out]
        texts[path] = '#include "arch/base/mutant.hpp"\n' + render(read(path), parts)
    return {**texts, **FILES}


def plain(mutant, source):
    """The text of the mutant's file with this mutant alone."""
    for edit in sorted(mutant.edits, reverse=True):
        source = source[:edit.begin] + edit.text + source[edit.end:]
    return source


def select(program, number):
    """Selects a mutant in the file of a program; 0 is none."""
    magic = b''.join(word.to_bytes(4, 'little') for word in MAGIC)
    with open(program, 'r+b') as file:
        data = file.read()
        if data.count(magic) != 1:
            raise ValueError(f'{program} has {data.count(magic)} places for the number of a mutant')
        file.seek(data.index(magic) + len(magic))
        file.write(number.to_bytes(4, 'little'))
