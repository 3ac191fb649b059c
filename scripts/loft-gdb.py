"""loft's commands for gdb: they show the kernel's memory state on a stopped machine.

They read the kernel's variables by their names in the debug information and call no function of the kernel, so they work at any
instruction and in a panic. Before paging is on the kernel's addresses are not mapped; each command then says how to continue.

gdb unwinds a stack through interrupts, exceptions and system calls by the unwind information of arch/i386/irq/trap_entry.asm,
and out of the double-fault task by EdgeUnwinder, below.
"""
import os
import re

import gdb
from gdb.unwinder import Unwinder, register_unwinder

PAGE_OFFSET = 0xC000_0000
PRESENT, WRITE, USER, ACCESSED, DIRTY, LARGE, GLOBAL = 1, 2, 4, 0x20, 0x40, 0x80, 0x100
NO_EXECUTE = 1 << 63
BUILD = os.environ.get('LOFT_BUILD') or 'build'
FRAME = 0x000F_FFFF_FFFF_F000


def variable(name, file=''):
    """A global or static variable; `file` distinguishes those of anonymous namespaces. None if this kernel has none."""
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
    """The number in a Pfn, VirtAddr, Atomic<u32> and the like: objects with one field, at any depth."""
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


def paging_is_on():
    return int(gdb.parse_and_eval('$cr0')) >> 31 & 1 == 1


class Command(gdb.Command):
    """A command of loft: its name is the first word of its docstring; `show` implements it."""

    def __init__(self):
        super().__init__(self.__doc__.split(':')[0].split()[0], gdb.COMMAND_USER)

    def invoke(self, argument, from_tty):
        try:
            on = paging_is_on()
        except gdb.error as error:
            raise gdb.GdbError(f'no machine is stopped here ({error}): `make gdb` starts one') from None
        if not on:
            raise gdb.GdbError('paging is not on yet, so the kernel is not mapped at its addresses: '
                               'continue to kernel_main first, by `hbreak kernel_main` and `continue`')
        try:
            self.show(argument)
        except gdb.MemoryError as error:
            raise gdb.GdbError(f'{error}: not mapped at this moment') from None


class Map(Command):
    """loft-map: the address map of the kernel, as printed at boot."""

    def show(self, argument):
        table = local_static('loft::layout::regions', 'table') or variable('loft::layout::table', 'layout')
        rows = [row for row in elements(table) if int(row['name']) != 0] if table is not None else []
        if not rows:
            print('the address map is not made yet: the boot has not reached mm_init; `hbreak loft::process_init` stops after it')
        for row in rows:
            begin, last = number(row['begin']), number(row['last'])
            print(f'{begin:08x}-{last:08x} {(last - begin + 1) // 1024:8} KiB  {row["name"].string()}')


class Zones(Command):
    """loft-zones: frames of each zone, and the free blocks of each order."""

    def show(self, argument):
        zones = variable('loft::(anonymous namespace)::zones', 'page_alloc')
        if zones is None:
            print('this kernel has no zones')
            return
        if int(variable('loft::mem_map_count') or 0) == 0:
            print('there are no zones yet: the boot has not reached mm_init; `hbreak loft::process_init` stops after it')
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


class Counters(Command):
    """loft-counters: counters of mapping, flushing and allocation so far, on the selected CPU (`thread N`)."""

    def show(self, argument):
        cpu, offset = selected_cpu()
        for title, name in (('tlb', 'loft::tlb_stats'), ('kmap_local', 'loft::local_maps')):
            value = variable(name)
            if value is not None:
                print_fields(f'{title} (CPU {cpu})', of_cpu(value, offset))
        maps = variable('loft::local_maps')
        if maps is not None:
            held = of_cpu(maps, offset)
            print(f'    {"held_pages":<14} {(number(held["top"]) - number(held["base"])) // 4096}')
        context = variable('loft::context')
        if context is not None:
            context = of_cpu(context, offset)
            count = number(context['preempt_count'])
            print_line(f'context (CPU {cpu})', {'preempt_depth': count & 0xffff, 'irq_depth': count >> 16,
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
            print_fields(f'pages (CPU {cpu})', of_cpu(pages, offset)['stats'])


def selected_cpu():
    """The selected CPU, and the distance of its per-CPU variables from those of CPU 0."""
    cpu = gdb.selected_thread().ptid[1] - 1  # QEMU counts from 1
    offsets = "((unsigned int *) &'loft_percpu_offset')"  # by its ELF symbol: gdb knows two names for it
    return cpu, int(gdb.parse_and_eval(f'{offsets}[{cpu}]'))


def of_cpu(variable_, offset):
    """The value of a hal::PerCpu variable on the CPU with this offset."""
    value = variable_['value_']
    at = int(value.address) + offset & 0xFFFF_FFFF
    return gdb.Value(at).cast(value.type.pointer()).dereference()


def read_physical(address, size):
    """Reads physical memory by QEMU's monitor: gdb itself accesses virtual addresses only."""
    said = gdb.execute(f'monitor xp /{size // 4}xw {address:#x}', to_string=True)
    words = [int(word, 16) for word in re.findall(r'0x([0-9a-f]{8})\b', said)]
    if len(words) != size // 4:
        raise gdb.GdbError(f'physical memory at {address:#x} cannot be read: {said.strip()}')
    return sum(word << 32 * i for i, word in enumerate(words))


def flags_of(entry):
    names = ((WRITE, 'write'), (USER, 'user'), (ACCESSED, 'accessed'), (DIRTY, 'dirty'), (LARGE, 'large'),
             (GLOBAL, 'global'), (NO_EXECUTE, 'NX'))
    return ' '.join(['present' if entry & PRESENT else 'not present'] +
                    [name for bit, name in names if entry & PRESENT and entry & bit])


class Walk(Command):
    """loft-walk ADDRESS: the page-table entries that translate ADDRESS (SDM vol. 3, 4.3 and 4.4)."""

    def show(self, argument):
        if not argument:
            raise gdb.GdbError('loft-walk: which address?')
        address = int(gdb.parse_and_eval(argument)) & 0xFFFF_FFFF
        cr3, cr4 = (int(gdb.parse_and_eval(f'${name}')) for name in ('cr3', 'cr4'))
        if cr4 >> 5 & 1:
            levels, size, table = (('PDPTE', 30, 2), ('PDE', 21, 9), ('PTE', 12, 9)), 8, cr3 & ~0x1F
        else:
            levels, size, table = (('PDE', 22, 10), ('PTE', 12, 10)), 4, cr3 & ~0xFFF
        for name, shift, bits in levels:
            index = address >> shift & (1 << bits) - 1
            entry = read_physical(table + index * size, size)
            # With PAE, a PDPTE has no rights and no accessed bit (SDM vol. 3, table 4-8).
            said = flags_of(entry & PRESENT if name == 'PDPTE' else entry)
            print(f'{name:<5} {index:4} at {table + index * size:010x}: {entry:0{size * 2}x} {said}')
            if not entry & PRESENT:
                return
            table = entry & FRAME
            if shift == 12 or name == 'PDE' and entry & LARGE:
                inside = address & (1 << shift) - 1
                print(f'physical {(entry & FRAME & ~((1 << shift) - 1)) + inside:010x}')
                return


class Program(Command):
    """loft-program NAME: loads the symbols of the program build/user/NAME, to debug it in ring 3. All programs are linked to the
    same address, so the symbols of another one are removed."""

    loaded = ''

    def show(self, argument):
        path = argument if '/' in argument else f'{BUILD}/user/{argument}'
        if not argument or not os.path.exists(path):
            raise gdb.GdbError(f'loft-program: which program? There is no file {path}; {BUILD}/user has them')
        if Program.loaded:
            gdb.execute(f'remove-symbol-file {Program.loaded}', to_string=True)
            Program.loaded = ''
        gdb.execute(f'add-symbol-file {path}', to_string=True)
        Program.loaded = path
        print(f'symbols of {path}')


# ------------------------------------------------------------------------------------------------------------- the stack

class FrameId:
    def __init__(self, sp, pc):
        self.sp, self.pc = sp, pc


class EdgeUnwinder(Unwinder):
    """Unwinds frames that gdb cannot unwind by itself. Traps it can, by the information in arch/i386/irq/trap_entry.asm."""

    def __init__(self):
        super().__init__('loft')

    def __call__(self, pending):
        try:
            return self.unwind(pending)
        except gdb.error:
            return None  # not mapped, or another kernel: leave it to gdb

    def unwind(self, pending):
        pc = int(pending.read_register('eip')) & 0xFFFF_FFFF
        sp = int(pending.read_register('esp')) & 0xFFFF_FFFF
        if pc < PAGE_OFFSET:
            return self.in_program(pending, pc, sp)
        for place in (pc, pc - 1):  # the call does not return: PC may be behind the function
            block = gdb.block_for_pc(place)
            if block is not None and block.function is not None and 'double_fault_task' in block.function.name:
                return self.from_double_fault(pending, pc, sp)
        return None

    def saved(self, pending, pc, sp, registers):
        info = pending.create_unwind_info(FrameId(gdb.Value(sp), gdb.Value(pc)))
        for name, value in registers.items():
            kind = pending.read_register(name).type
            info.add_saved_register(name, gdb.Value(value.to_bytes(4, 'little'), kind))
        return info

    def in_program(self, pending, pc, sp):
        """For a program without symbols, one frame: the layout of its stack is unknown. PC and EBP of 0 end the backtrace."""
        if pc == 0 or not paging_is_on() or gdb.block_for_pc(pc) is not None:
            return None
        return self.saved(pending, pc, sp, {'eip': 0, 'esp': sp + 4, 'ebp': 0})

    def from_double_fault(self, pending, pc, sp):
        descriptors = variable('loft::(anonymous namespace)::descriptors', 'descriptors')
        tss = of_cpu(descriptors, selected_cpu()[1])['tss']
        names = ('eip', 'esp', 'ebp', 'ebx', 'esi', 'edi', 'eax', 'ecx', 'edx', 'eflags', 'cs', 'ss')
        return self.saved(pending, pc, sp, {name: number(tss[name]) & 0xFFFF_FFFF for name in names})


Map()
Zones()
Counters()
Walk()
Program()
register_unwinder(None, EdgeUnwinder(), replace=True)
