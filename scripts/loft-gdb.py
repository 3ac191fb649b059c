"""loft's commands for gdb: what the kernel knows about its memory, read from a stopped machine.

Everything is read out of the kernel's own variables by their names in the debug information; nothing is called in the
kernel, so this works at any instruction, in a panic and before paging is on.
"""
import re

import gdb

PAGE_OFFSET = 0xC000_0000
PRESENT, WRITE, USER, ACCESSED, DIRTY, LARGE, GLOBAL = 1, 2, 4, 0x20, 0x40, 0x80, 0x100
NO_EXECUTE = 1 << 63
FRAME = 0x000F_FFFF_FFFF_F000


def variable(name, file=''):
    """A global or static variable; `file` tells those of anonymous namespaces apart. None if this kernel has none."""
    symbols = [gdb.lookup_global_symbol(name)] + list(gdb.lookup_static_symbols(name))
    for symbol in symbols:
        if symbol and file in symbol.symtab.filename:
            return symbol.value()
    return None


def local_static(function, name):
    """A static variable inside a function."""
    for symbol in gdb.lookup_static_symbols(function) + [gdb.lookup_global_symbol(function)]:
        if symbol is None:
            continue
        value = symbol.value()
        block = gdb.block_for_pc(int(value.address))
        for inner in block:
            if inner.name == name:
                return inner.value()
    return None


def number(value):
    """A number out of Pfn, VirtAddr, Atomic<u32> and the like: objects with one field, however deep."""
    while value.type.strip_typedefs().code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
        fields = [field for field in value.type.strip_typedefs().fields() if not hasattr(field, 'enumval')
                  and hasattr(field, 'bitpos')]
        value = value[fields[0]]
    return int(value)


def elements(array):
    """The values of a C array or a std::array."""
    if array.type.strip_typedefs().code == gdb.TYPE_CODE_STRUCT:
        array = array['_M_elems']
    first, last = array.type.strip_typedefs().range()
    return [array[i] for i in range(first, last + 1)]


def print_line(title, values):
    print(title)
    for name, value in values.items():
        print(f'    {name:<14} {value}')


def print_fields(title, value):
    print(title)
    for field in value.type.strip_typedefs().fields():
        if hasattr(field, 'bitpos') and not field.is_base_class:
            try:
                found = number(value[field])
                print(f'    {field.name:<14} {found:#x}' if found >= PAGE_OFFSET else f'    {field.name:<14} {found}')
            except gdb.error:
                pass


class Map(gdb.Command):
    """loft-map: the address map of the kernel, as it is printed at boot."""

    def __init__(self):
        super().__init__('loft-map', gdb.COMMAND_USER)

    def invoke(self, argument, from_tty):
        table = local_static('loft::layout::regions', 'table') or variable('loft::layout::table', 'layout')
        rows = [row for row in elements(table) if int(row['name']) != 0] if table is not None else []
        if not rows:
            print('the address map is not made yet: the boot has not come to mm_init')
        for row in rows:
            begin, last = number(row['begin']), number(row['last'])
            print(f'{begin:08x}-{last:08x} {(last - begin + 1) // 1024:8} KiB  {row["name"].string()}')


class Zones(gdb.Command):
    """loft-zones: frames of each zone, and the free blocks of each order."""

    def __init__(self):
        super().__init__('loft-zones', gdb.COMMAND_USER)

    def invoke(self, argument, from_tty):
        zones = variable('loft::(anonymous namespace)::zones', 'page_alloc')
        if zones is None:
            print('this kernel has no zones')
            return
        for name, zone in zip(('DMA', 'Normal', 'HighMem'), elements(zones)):
            counts = [(field.name, zone[field]) for field in zone.type.fields() if hasattr(field, 'bitpos')]
            buddy = next((value for _, value in counts if value.type.strip_typedefs().code == gdb.TYPE_CODE_STRUCT),
                         zone)
            plain = ', '.join(f'{value} {key}' for key, value in counts
                              if value.type.strip_typedefs().code == gdb.TYPE_CODE_INT)
            print(f'{name}: frames {number(buddy["begin_"]):#x}-{number(buddy["end_"]):#x}, '
                  f'{number(buddy["free_"])} free; {plain}')
            blocks = [number(count) for count in elements(buddy['count_'])]
            print('    free blocks by order: ' + ' '.join(str(count) for count in blocks))


class Counters(gdb.Command):
    """loft-counters: what mapping, flushing and allocating has cost so far, on the boot CPU."""

    def __init__(self):
        super().__init__('loft-counters', gdb.COMMAND_USER)

    def invoke(self, argument, from_tty):
        for title, name in (('tlb', 'loft::tlb_stats'), ('kmap_local', 'loft::local_maps')):
            value = variable(name)
            if value is not None:
                print_fields(f'{title} (CPU 0)', value['value_'])
        context = variable('loft::context')
        if context is not None:
            context = context['value_']
            count = number(context['preempt_count'])
            print_line('context (CPU 0)', {'preempt_depth': count & 0xffff, 'irq_depth': count >> 16,
                                           'pagefaults_off': number(context['pagefaults_off']),
                                           'reschedule': number(context['reschedule']),
                                           'kmaps': -number(context['minus_kmaps']) & 0xffff_ffff})
        pool, hot = variable('loft::(anonymous namespace)::pool', 'pkmap'), variable('loft::detail::pkmap_hot')
        if pool is not None and hot is not None:
            counts = [number(word) & 0xff for word in elements(hot['slot'])[1:number(pool['end'])]]
            owed, free, idle = counts.count(0xff), counts.count(0), counts.count(1)
            said = {field.name: number(pool['stats'][field]) for field in pool['stats'].type.strip_typedefs().fields()}
            said['maps'] = said['reclaimed'] + len(counts) - free - owed
            for name in ('waits', 'thirds'):
                said[name] = number(pool[name])
            print_line('pkmap', {'hand': number(pool['hand']), 'free': free, 'idle': idle, 'owed': owed,
                                 'used': len(counts) - free - idle - owed, **said})
        vmap = variable('loft::(anonymous namespace)::state', 'vmap')
        if vmap is not None:
            print_line('vmap', {name: number(vmap[name]) for name in ('lazy_pages', 'flushes', 'rounds')})
        pages = variable('loft::detail::cpu_pages')
        if pages is not None:
            print_fields('pages (CPU 0)', pages['value_']['stats'])


def read_physical(address, size):
    """Lowmem through the direct map, the rest through QEMU's monitor: gdb itself sees virtual addresses only."""
    boundaries = variable('loft::layout::boundaries')
    lowmem = number(boundaries['lowmem_bytes']) if boundaries is not None else 0
    paging = int(gdb.parse_and_eval('$cr0')) >> 31 & 1
    if paging and address + size <= lowmem:
        memory = gdb.selected_inferior().read_memory(PAGE_OFFSET + address, size)
        return int.from_bytes(bytes(memory), 'little')
    said = gdb.execute(f'monitor xp /{size // 4}xw {address:#x}', to_string=True)
    words = [int(word, 16) for word in re.findall(r'0x([0-9a-f]{8})\b', said)]
    return sum(word << 32 * i for i, word in enumerate(words))


def flags_of(entry):
    names = ((WRITE, 'write'), (USER, 'user'), (ACCESSED, 'accessed'), (DIRTY, 'dirty'), (LARGE, 'large'),
             (GLOBAL, 'global'), (NO_EXECUTE, 'NX'))
    return ' '.join(['present' if entry & PRESENT else 'not present'] +
                    [name for bit, name in names if entry & PRESENT and entry & bit])


class Walk(gdb.Command):
    """loft-walk ADDRESS: the page-table entries that translate ADDRESS (SDM vol. 3, 4.3 and 4.4)."""

    def __init__(self):
        super().__init__('loft-walk', gdb.COMMAND_USER)

    def invoke(self, argument, from_tty):
        if not argument:
            raise gdb.GdbError('loft-walk: which address?')
        address = int(gdb.parse_and_eval(argument)) & 0xFFFF_FFFF
        cr0, cr3, cr4 = (int(gdb.parse_and_eval(f'${name}')) for name in ('cr0', 'cr3', 'cr4'))
        if not cr0 >> 31 & 1:
            print('paging is off: the address is physical')
            return
        if cr4 >> 5 & 1:
            levels, size, table = (('PDPTE', 30, 2), ('PDE', 21, 9), ('PTE', 12, 9)), 8, cr3 & ~0x1F
        else:
            levels, size, table = (('PDE', 22, 10), ('PTE', 12, 10)), 4, cr3 & ~0xFFF
        for name, shift, bits in levels:
            index = address >> shift & (1 << bits) - 1
            entry = read_physical(table + index * size, size)
            print(f'{name:<5} {index:4} at {table + index * size:010x}: {entry:0{size * 2}x} {flags_of(entry)}')
            if not entry & PRESENT:
                return
            table = entry & FRAME
            if shift == 12 or name == 'PDE' and entry & LARGE:
                inside = address & (1 << shift) - 1
                print(f'physical {(entry & FRAME & ~((1 << shift) - 1)) + inside:010x}')
                return


Map()
Zones()
Counters()
Walk()
