"""Parses the benchmark lines of a kernel's log."""
import re

LINE = re.compile(r'^(?:\[ *\d+\.\d+\] )?(?:\w+\[\d+\]: )?bench (\S+) (\d+(?:\.\d+)?) (ticks|per_op)$', re.MULTILINE)
MEMINFO = re.compile(r'^(MemTotal|LowTotal|LowFree|HighTotal|HighFree): +(\d+) kB$', re.MULTILINE)
COMPILER = re.compile(r'\] loft: .*; ((?:g\+\+|clang) [\w.]+)')

# In the order of the printed columns.
COUNTERS = ('invlpg', 'full_flushes', 'non_global_flushes', 'ipis', 'locks', 'waits')


def parse(text):
    """{name: {'ticks': ..., counter: ... per operation}} in the order of the log."""
    lines = {}
    for name, value, unit in LINE.findall(text):
        if unit == 'ticks':
            lines[name] = {'ticks': float(value)}
            continue
        path, _, counter = name.rpartition('.')
        if counter in COUNTERS and path in lines:
            lines[path][counter] = float(value)
    return lines


def meminfo(text):
    """kB by name."""
    return {name: int(value) for name, value in MEMINFO.findall(text)}


def compiler(text):
    found = COMPILER.search(text)
    return found.group(1) if found else 'an unknown compiler'
