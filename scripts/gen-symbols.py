#!/usr/bin/env python3
"""Makes the table of a linked kernel's functions, which the next link puts into the kernel.

usage: gen-symbols.py KERNEL          print the table of KERNEL's functions, as NASM source
       gen-symbols.py --empty         print a table without entries, for the first link
       gen-symbols.py --same A B      fail unless the functions of A and B are at the same addresses
       gen-symbols.py --help

The kernel prints backtraces by this table. Its format, in section .symtab_blob:

    loft_symbols_begin:
        u32 count
        count x { u32 address, u32 name }    sorted by address; `name` is an offset from loft_symbols_begin
        the names                            each ended by a NUL
    loft_symbols_end:

A function extends to the next entry. The last entry, with the name "", marks the end of the text.
Names are demangled and shortened: no argument lists, no return types, long template arguments as <...>.
"""
import re
import subprocess
import sys

LONGEST_TEMPLATE_ARGUMENTS = 24
# Suffixes that compilers append to the name of a part or copy of a function. Any other dot is a local label of NASM.
CLONE = re.compile(r'\.(cold|part|isra|constprop|lto_priv|llvm)(\.\d+)*')


def functions(kernel):
    """The functions of an ELF file as {address: mangled name}, and the end of its text."""
    text = subprocess.run(['readelf', '-SsW', kernel], check=True, capture_output=True, text=True).stdout
    executable, found, end = set(), {}, 0
    for line in text.splitlines():
        section = re.match(r'\s*\[\s*(\d+)\]\s+\S+\s+(\S+)\s+([0-9a-f]+)\s+\S+\s+([0-9a-f]+)\s+\S+\s+(\w*)', line)
        if section:
            number, kind, address, size, flags = section.groups()
            if kind == 'PROGBITS' and 'X' in flags and 'A' in flags:
                executable.add(number)
                end = max(end, int(address, 16) + int(size, 16))
            continue
        # Num: Value Size Type Bind Vis Ndx Name
        symbol = line.split()
        if len(symbol) < 8 or not symbol[0].endswith(':') or symbol[6] not in executable:
            continue
        address, kind, binding, name = int(symbol[1], 16), symbol[3], symbol[4], symbol[7]
        if kind not in ('FUNC', 'NOTYPE'):
            continue
        if kind == 'NOTYPE' and (name.startswith('__') or '.' in name):
            continue  # a boundary defined by linker.ld, a local label of NASM
        if CLONE.sub('', name).count('.'):
            continue
        # Of several names of an address, prefer a global one, then the shortest.
        rank = (binding != 'GLOBAL', len(name), name)
        if address not in found or rank < found[address]:
            found[address] = rank
    return {address: rank[2] for address, rank in sorted(found.items())}, end


def closing(text, at, opening, closing_mark):
    """The index after the bracket that closes the one at `at`; the caller has replaced brackets of operators."""
    depth = 0
    for i in range(at, len(text)):
        if text[i] == opening:
            depth += 1
        elif text[i] == closing_mark and text[i - 1] != '-':
            depth -= 1
            if depth == 0:
                return i + 1
    return len(text)


def shorten(name):
    """loft::Foo::bar of `unsigned int loft::Foo::bar<true>(int, char const*) const`."""
    clone = re.search(r' \[clone (\.[^\]]+)\]', name)
    name = re.sub(r' \[clone [^\]]+\]', '', name)
    name = name.replace('(anonymous namespace)', '{anonymous}').replace('decltype(auto)', 'auto')
    operator = re.search(r'\boperator\s*(\(\)|<=>|<<=?|>>=?|->\*?|<=|>=|<|>|new(\[\])?|delete(\[\])?)', name)
    mark = '\x01'
    if operator:
        name = name[:operator.start()] + mark + name[operator.end():]
    out, i, start = [], 0, 0
    while i < len(name):
        c = name[i]
        if c == '<':
            end = closing(name, i, '<', '>')
            arguments = name[i:end]
            out.append(arguments if len(arguments) <= LONGEST_TEMPLATE_ARGUMENTS else '<...>')
            i = end
        elif c == '(':
            break  # the arguments, or those of the function that contains a local entity
        elif c == ' ' and not ''.join(out[start:]).endswith('operator'):
            start, i = len(out) + 1, i + 1  # the text so far was the return type
            out.append(c)
        else:
            out.append(c)
            i += 1
    # A lambda, or a class in a function: `f()::{lambda()#1}::operator()`.
    rest = name[closing(name, i, '(', ')'):] if i < len(name) else ''
    if '::' in rest:
        out.append(re.sub(r'\([^()]*\)', '', rest.removeprefix(' const').rstrip()).removesuffix(' const'))
    text = ''.join(out[start:])
    if operator:
        text = text.replace(mark, operator.group(0))
    return text + (clone.group(1) if clone else '')


def demangle(names):
    run = subprocess.run(['c++filt'], input='\n'.join(names), check=True, capture_output=True, text=True)
    return run.stdout.split('\n')[:len(names)]


def print_table(entries):
    names, offsets = {}, []
    end_of_table = 4 + 8 * len(entries)
    size = end_of_table
    for _, name in entries:
        if name not in names:
            names[name] = size
            size += len(name.encode()) + 1
        offsets.append(names[name])
    out = ['; Made by scripts/gen-symbols.py, which describes the format.',
           'global loft_symbols_begin, loft_symbols_end',
           'section .symtab_blob progbits alloc noexec nowrite align=4',
           'loft_symbols_begin:',
           f'    dd {len(entries)}']
    out += [f'    dd 0x{address:08x}, {offset}' for (address, _), offset in zip(entries, offsets)]
    out += [f'    db `{name}`, 0' if name else '    db 0' for name in names]
    out += ['loft_symbols_end:', 'section .note.GNU-stack noalloc noexec nowrite progbits']
    print('\n'.join(out))


def main(arguments):
    if arguments == ['--empty']:
        print_table([])
    elif len(arguments) == 3 and arguments[0] == '--same':
        if functions(arguments[1]) != functions(arguments[2]):
            sys.exit(f'gen-symbols: functions moved between {arguments[1]} and {arguments[2]}; '
                     'linker.ld has to place .symtab_blob behind all text')
    elif len(arguments) == 1 and not arguments[0].startswith('-'):
        table, end = functions(arguments[0])
        names = [shorten(name) for name in demangle(table.values())]
        print_table(list(zip(table, names)) + [(end, '')])
    else:
        print(__doc__, file=sys.stdout if arguments == ['--help'] else sys.stderr)
        sys.exit(0 if arguments == ['--help'] else 2)


if __name__ == '__main__':
    main(sys.argv[1:])
