"""Compares a kernel's memory figures with the firmware's map in its log, page by page.

This computes the sums by another method than mm's (a sweep over sorted borders that counts open entries), so that the same
mistake is unlikely in both.
"""
import re

PAGE = 4096
MIB = 1 << 20
DMA_END = 16 * MIB
LOWMEM = 896 * MIB
# Video memory and ROMs of every PC: never RAM, whatever the firmware reports.
ISA_HOLE = (0xa0000, 0x100000, 2)
REACH = {'64g': 1 << 36, '4g': 1 << 32}

FIRMWARE = re.compile(r'\] mm: firmware \[([0-9a-f]+)-([0-9a-f]+)\) type (\d+)')
IN_USE = re.compile(r'\] mm: in use +\[([0-9a-f]+)-([0-9a-f]+)\)')
ZONE = re.compile(r'\] mm: zone (\w+): (\d+) frames present, (\d+) managed')
# The address width from CPUID, and the one that the processor supports, if that is less.
PHYS_BITS = re.compile(r'\] cpu: .*(?:\(| have )(\d+) (?:physical address )?bits')
DIRECT = re.compile(r'\] map: ([0-9a-f]{8})-([0-9a-f]{8}) .*\bdirect map')
MEMINFO = re.compile(r'(\w+): +(\d+) kB$', re.MULTILINE)
NAMES = ('MemTotal', 'MemFree', 'LowTotal', 'LowFree', 'HighTotal', 'HighFree', 'PageTables', 'Bounce')


def usable_pages(entries):
    """Page-number ranges that a usable entry covers and no other entry overlaps. Entries are (begin, end, type) with
    the end exclusive; one that wraps extends to 2^64."""
    borders = []
    for begin, end, kind in [*entries, ISA_HOLE]:
        if begin == end:
            continue
        if end < begin:
            end = 1 << 64
        borders += [(begin, kind == 1, +1), (end, kind == 1, -1)]
    borders.sort()
    usable = other = 0
    runs, start = [], None
    for i, (at, is_usable, step) in enumerate(borders):
        if is_usable:
            usable += step
        else:
            other += step
        if i + 1 < len(borders) and borders[i + 1][0] == at:
            continue
        is_open = usable > 0 and other == 0
        if is_open and start is None:
            start = at
        elif not is_open and start is not None:
            runs.append((start, at))
            start = None
    pages = []
    for begin, end in runs:
        first, last = -(-begin // PAGE), end // PAGE
        if first < last:
            pages.append((first, last))
    return pages


def count_between(pages, begin, end):
    return sum(max(0, min(last, end // PAGE) - max(first, begin // PAGE)) for first, last in pages)


def count_in_use(text, pages, begin, end):
    """Usable pages between two addresses that are partly in use at boot, such as by a module."""
    used = set()
    for first, last in IN_USE.findall(text):
        used.update(range(max(int(first, 16), begin) // PAGE, -(-min(int(last, 16), end) // PAGE)))
    return sum(1 for page in used if any(first <= page < last for first, last in pages))


def parse_meminfo(text):
    return {name: int(value) for name, value in MEMINFO.findall(text) if name in NAMES}


def check(result, text, highmem, whole):
    """Adds the checks of one boot's log to `result`. `whole`: no command-line option hides a part of memory."""
    entries = [(int(a, 16), int(b, 16), int(t)) for a, b, t in FIRMWARE.findall(text)]
    info = parse_meminfo(text)
    direct = DIRECT.search(text)
    if not result.check(entries and direct and all(name in info for name in NAMES),
                        'the log lacks the firmware map, the address map, or lines of meminfo'):
        return
    pages = usable_pages(entries)
    reach = min([REACH.get(highmem, LOWMEM)] + [1 << int(bits) for bits in PHYS_BITS.findall(text)])
    direct_end = int(direct.group(2), 16) + 1 - int(direct.group(1), 16)
    lowmem = min(LOWMEM, direct_end)
    high = count_between(pages, lowmem, reach) if highmem in REACH else 0

    zones = {name.lower(): (int(present), int(managed)) for name, present, managed in ZONE.findall(text)}
    expected = {'dma': count_between(pages, 0, min(DMA_END, lowmem)),
                'normal': count_between(pages, DMA_END, max(DMA_END, lowmem))}
    for name, present in expected.items():
        if name in zones:
            result.check(zones[name][0] == present,
                         f'zone {name}: {zones[name][0]} frames present, the firmware map has {present}')
    low_managed = sum(managed for name, (_, managed) in zones.items() if name in expected)
    result.check(info['LowTotal'] * 1024 == low_managed * PAGE,
                 f'LowTotal is {info["LowTotal"]} kB, DMA and Normal manage {low_managed} frames')
    if whole:
        if 'highmem' in zones:
            result.check(zones['highmem'][0] == high,
                         f'zone HighMem: {zones["highmem"][0]} frames present, the firmware map has {high}')
        used = count_in_use(text, pages, lowmem, reach) if highmem in REACH else 0
        result.check(info['HighTotal'] * 1024 == (high - used) * PAGE,
                     f'HighTotal is {info["HighTotal"]} kB, the firmware map has {high * PAGE // 1024} kB above lowmem '
                     f'and {used} of these pages are in use')
        ram_end = max((last * PAGE for _, last in pages), default=0)
        if highmem in REACH:
            ram_end = min(ram_end, reach)
        result.check(direct_end == min(LOWMEM, ram_end),
                     f'the direct map is {direct_end:#x} bytes long, RAM ends at {ram_end:#x}')
    else:
        result.check(info['HighTotal'] * 1024 <= high * PAGE,
                     f'HighTotal is {info["HighTotal"]} kB, the firmware map has only {high * PAGE // 1024} kB')
    result.check(info['MemTotal'] == info['LowTotal'] + info['HighTotal'], 'MemTotal is not LowTotal + HighTotal')
    result.check(info['MemFree'] == info['LowFree'] + info['HighFree'], 'MemFree is not LowFree + HighFree')
    result.check(info['LowFree'] <= info['LowTotal'] and info['HighFree'] <= info['HighTotal'],
                 'free memory exceeds total memory')
