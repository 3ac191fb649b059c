// A boot loader that passes forged data. QEMU starts it with loft.elf as its module. It loads loft as its program
// headers demand, and enters it with the registers and the multiboot information of a scenario. README.md lists the
// scenarios.
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <multiboot/multiboot.h>

extern "C" {
[[noreturn]] void enter_loft(std::uint32_t magic, std::uint32_t info, std::uint32_t where); // entry.asm
extern char shim_end[];                                                                     // shim.ld

// The compiler calls these.
void* memset(void* to, int value, std::size_t n) {
    void* const start = to;
    asm volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(value) : "memory");
    return start;
}
void* memcpy(void* to, const void* from, std::size_t n) {
    void* const start = to;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n)::"memory");
    return start;
}
}

namespace {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

constexpr u32 KiB = 1024, MiB = 1024 * KiB;
constexpr u64 GiB = 1024ull * MiB;
constexpr u32 kAboveLowmem = 904 * MiB; // above loft's direct map

// --- messages

void out8(u16 port, u8 value) { asm volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }

void say(const char* text) {
    for (; *text != '\0'; ++text)
        out8(0x3f8, static_cast<u8>(*text));
}

// Status 0x20: an error of the shim itself.
[[noreturn]] void give_up(const char* why) {
    say("shim: ");
    say(why);
    say("\n");
    out8(0xf4, 0x20);
    for (;;)
        asm volatile("cli; hlt");
}

// Hides the address from the compiler: an address in the first page is not a null pointer here.
template <typename T> T* at(u32 address) {
    asm("" : "+r"(address));
    return reinterpret_cast<T*>(address);
}
u32 address_of(const void* object) { return reinterpret_cast<u32>(object); }

u32 length(const char* text) {
    u32 n = 0;
    while (text[n] != '\0')
        ++n;
    return n;
}
bool equal(const char* a, const char* b) {
    while (*a != '\0' && *a == *b)
        ++a, ++b;
    return *a == *b;
}
// The text after the first word: every multiboot command line begins with the name of the file.
const char* after_first_word(const char* text) {
    while (*text != '\0' && *text != ' ')
        ++text;
    while (*text == ' ')
        ++text;
    return text;
}

// --- loading loft

struct ElfHeader {
    u8 ident[16];
    u16 type, machine;
    u32 version, entry, phoff, shoff, flags;
    u16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct ProgramHeader {
    u32 type, offset, vaddr, paddr, filesz, memsz, flags, align;
};
constexpr u32 kLoad = 1;

struct Loaded {
    u32 entry;
    u32 end; // the address after its last byte in memory
};

Loaded load(const multiboot_module_t& module) {
    const auto* elf = at<ElfHeader>(module.mod_start);
    if (elf->ident[0] != 0x7f || elf->ident[1] != 'E' || elf->ident[4] != 1)
        give_up("the module is no 32-bit ELF file");
    Loaded loaded{elf->entry, 0};
    for (u32 i = 0; i != elf->phnum; ++i) {
        const auto* part = at<ProgramHeader>(module.mod_start + elf->phoff + i * elf->phentsize);
        if (part->type != kLoad) continue;
        if (part->paddr + part->memsz > 48 * MiB) give_up("loft does not fit below the shim");
        memcpy(at<char>(part->paddr), at<char>(module.mod_start + part->offset), part->filesz);
        memset(at<char>(part->paddr + part->filesz), 0, part->memsz - part->filesz);
        if (part->paddr + part->memsz > loaded.end) loaded.end = part->paddr + part->memsz;
    }
    return loaded;
}

// --- the forged data

constexpr u32 kMaxEntries = 2700; // 64 KiB of them
constexpr u32 kMaxModules = 100;

struct Forged {
    u32 magic = MULTIBOOT_BOOTLOADER_MAGIC;
    u32 info_address = 0; // the address to which the pieces below are copied; 0: they are not copied
    multiboot_info_t info{};
    multiboot_memory_map_t map[kMaxEntries]{};
    u32 entries = 0;
    char command[16 * KiB]{};
    u32 command_bytes = 0;                    // with the terminating NUL
    multiboot_module_t module[kMaxModules]{}; // the shim's own, and those that came with loft
    u32 modules = 1;
    char module_command[1024] = "forged.module of-the-shim";
    bool nmi_storm = false;
    Loaded loft{};
    u32 shim_used_end = 0; // the end of the memory of the shim and loft.elf

    void add(u64 base, u64 bytes, u32 type) {
        if (entries == kMaxEntries) give_up("too many entries");
        map[entries++] = {sizeof(multiboot_memory_map_t) - sizeof(multiboot_uint32_t), base, bytes, type};
    }
};
Forged forged;

constexpr u32 kUsable = MULTIBOOT_MEMORY_AVAILABLE, kReserved = MULTIBOOT_MEMORY_RESERVED;

void as_it_is(Forged&) {}

void bad_magic(Forged& f) { f.magic = 0xdeadbeef; }

void no_map_flag(Forged& f) { f.info.flags &= ~static_cast<u32>(MULTIBOOT_INFO_MEM_MAP); }

void empty_map(Forged& f) { f.entries = 0; }

// Every entry is impossible: no usable memory is left.
void absurd_map(Forged& f) {
    f.entries = 0;
    f.add(0, 0, kUsable);
    f.add(1 * MiB, 0, kUsable);
    f.add(~0ull - 0xfff, 0x2000, kUsable);
    f.add(~0ull, ~0ull, kUsable);
    f.add(64 * GiB, 1 * GiB, kUsable);
    f.add(0, ~0ull, 77);
}

// An entry with a size larger than the rest of the map.
void bad_entry_size(Forged& f) { f.map[f.entries - 1].size = 0x1000; }

// The right map in the worst form: reversed, cut up, twice, overlapping, unaligned, with entries without meaning.
void messy_map(Forged& f) {
    const u32 real = f.entries;
    static multiboot_memory_map_t map[kMaxEntries];
    memcpy(map, f.map, sizeof map);
    f.entries = 0;
    f.add(~0ull - 0xffff, 0x20000, kReserved); // wraps around 2^64
    for (u32 i = real; i-- != 0;) {
        const multiboot_memory_map_t& entry = map[i];
        if (entry.type != kUsable || entry.len < 64 * MiB) {
            f.add(entry.addr, entry.len, entry.type);
            continue;
        }
        // The second half first, the first half twice, overlapping by 12 KiB, and the borders within a page.
        const u64 half = entry.len / 2;
        f.add(entry.addr + half - 0x1234, entry.len - half + 0x1234, kUsable);
        f.add(entry.addr, half + 0x2000, kUsable);
        f.add(entry.addr, half, kUsable);
    }
    f.add(24 * MiB + 0x800, 0x3000, kReserved); // in the middle of RAM: overlaps four pages
    f.add(26 * MiB, 5 * 0x1000, 5);             // bad RAM
    f.add(28 * MiB, 0x1000, 0);                 // an undefined type
    f.add(30 * MiB, 0, kReserved);              // length zero
    f.add(0, 0, kUsable);
}

// RAM that this configuration cannot reach, and RAM beyond any physical address.
void beyond_reach(Forged& f) {
    f.add(64 * GiB, 2 * GiB, kUsable);
    f.add(1ull << 40, 1 * GiB, kUsable);
    f.add(1ull << 52, 1 * GiB, kUsable);
    f.add(~0ull - 0xffffff, 0x1000000, kUsable); // ends exactly at 2^64
}

// Information, map, command line, module list and module, all above the direct map.
void high_info(Forged& f) { f.info_address = kAboveLowmem; }

// An information structure that runs past the end of 4 GiB.
void bad_info(Forged& f) { f.info_address = 0xfffffff0; }

// Every byte value, and words that look like options.
void garbage_command_line(Forged& f) {
    char* out = f.command + f.command_bytes - 1;
    const auto put = [&](char c) { *out++ = c; };
    for (const char* word = " selftest highmem= highmem=12Q seed=-1 maxcpus=0 =x = \"\" exit=1 nopse=2 unheard-of";
         *word != '\0'; ++word)
        put(*word);
    put(' ');
    for (u32 i = 1; i != 256; ++i)
        put(static_cast<char>(i));
    for (u32 i = 0; i != 12000; ++i)
        put('z');
    put('\0');
    f.command_bytes = static_cast<u32>(out - f.command);
}

// Fills all usable memory with A5, except loft and memory that is still needed: only bytes that loft writes can be
// zero.
void garbage_ram(Forged& f) {
    for (u32 i = 0; i != f.entries; ++i) {
        const multiboot_memory_map_t& entry = f.map[i];
        if (entry.type != kUsable || entry.addr >= 4 * GiB) continue;
        const u64 end = entry.addr + entry.len < 4 * GiB ? entry.addr + entry.len : 4 * GiB;
        // The memory between the end of loft and the shim, and after the shim and its module.
        const u64 holes[][2] = {{f.loft.end, 48 * MiB}, {f.shim_used_end, 4 * GiB}};
        for (const auto& hole : holes) {
            const u64 from = entry.addr > hole[0] ? entry.addr : hole[0];
            const u64 to = end < hole[1] ? end : hole[1];
            if (from < to) memset(at<char>(static_cast<u32>(from)), 0xa5, static_cast<u32>(to - from));
        }
    }
}

// Does not start loft: an exception without an IDT resets the machine.
void triple_fault(Forged&) {
    say("shim: triple-fault\n");
    const u8 nothing[6]{};
    asm volatile("lidt %0; int3" ::"m"(nothing));
}

// --- the register state of earlier software

u64 read_msr(u32 reg) {
    u64 value;
    asm volatile("rdmsr" : "=A"(value) : "c"(reg));
    return value;
}
void write_msr(u32 reg, u64 value) { asm volatile("wrmsr" ::"c"(reg), "A"(value)); }
u32 cpuid_edx(u32 leaf) {
    u32 eax = leaf, ebx, ecx = 0, edx;
    asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return edx;
}

struct [[gnu::packed]] TablePointer {
    u16 limit;
    u32 base;
};
struct Gate {
    u32 low, high;
};
alignas(8) Gate idt[256];
alignas(8) Gate gdt[4] = {
    {0, 0}, {0x0000ffff, 0x00cf9a00}, {0x0000ffff, 0x00cf9200}, {0, 0}}; // flat code, flat data, the LDT
constexpr u32 kLocalTable = 0x7000, kDirectMap = 0xc0000000; // mapped at the same address by the shim and by loft

extern "C" const char return_at_once[]; // entry.asm: iretd

void use_own_tables() {
    const u32 handler = address_of(return_at_once);
    for (Gate& gate : idt)
        gate = {8u << 16 | (handler & 0xffff), (handler & 0xffff0000) | 0x8e00};
    // A local table with a call gate of ring 3 into ring 0, and a segment of ring 0's for ring 3.
    Gate* const local = at<Gate>(kLocalTable);
    local[0] = {8u << 16 | 0x0000, 0xc0100000 | 0xec00};
    local[1] = {0x0000ffff, 0x00cff200};
    gdt[3] = {((kDirectMap + kLocalTable) & 0xffff) << 16 | 15,
              ((kDirectMap + kLocalTable) & 0xff000000) | 0x8200 | ((kDirectMap + kLocalTable) >> 16 & 0xff)};
    const TablePointer gdt_pointer{sizeof gdt - 1, address_of(gdt)}, idt_pointer{sizeof idt - 1, address_of(idt)};
    asm volatile("lgdt %0\n\tlidt %1\n\tljmp $8, $1f\n1:\tmov %2, %%ds\n\tmov %2, %%es\n\tmov %2, %%ss\n\tlldt %w3"
                 :
                 : "m"(gdt_pointer), "m"(idt_pointer), "r"(16u), "r"(24u)
                 : "memory");
}

volatile u32& lapic(u32 offset) { return *at<volatile u32>(0xfee00000 + offset); }
void let_one_interrupt_in() { asm volatile("sti; nop; nop; cli" ::: "memory"); }

// The register state that a kernel leaves before kexec, and more: entry points into ring 0, long mode half enabled,
// breakpoints at addresses that loft writes, its own PAT, an LDT, flags; a local APIC that its MSR has moved, that
// masks all priorities, that has two interrupts in service and two pending, and whose timer runs.
void used_machine(Forged&) {
    constexpr u32 kSyscall = 1 << 11, kLong = 1 << 29, kSysenter = 1 << 11, kPat = 1 << 16;
    constexpr u32 kKernelText = 0xc0100000;
    const u32 extended = cpuid_edx(0x80000001), basic = cpuid_edx(1);
    use_own_tables();
    if (extended & (kSyscall | kLong)) {
        write_msr(0xc0000081, 8ull << 32 | kKernelText);              // STAR
        write_msr(0xc0000080, 1u | (extended & kLong ? 1u << 8 : 0)); // EFER: SCE, LME
    }
    if (basic & kSysenter) {
        write_msr(0x174, 8);
        write_msr(0x175, 0xc0008000);
        write_msr(0x176, kKernelText);
    }
    if (basic & kPat) write_msr(0x277, 0x0606060606060600);

    constexpr u32 kEnable = 1 << 8, kToSelf = 1 << 18, kPeriodic = 1 << 17;
    lapic(0xf0) = kEnable | 0xff;
    lapic(0x80) = 0;
    for (const u32 vector : {0x42u, 0xf5u}) { // taken, without an EOI
        lapic(0x300) = kToSelf | vector;
        let_one_interrupt_in();
    }
    lapic(0x3e0) = 3;
    lapic(0x320) = kPeriodic | 0xa1; // pending, with a lower priority than the one in service
    lapic(0x380) = 1000;
    while (!(lapic(0x200 + 0x10 * (0xa1 / 32)) >> 0xa1 % 32 & 1)) {
    }
    lapic(0x300) = kToSelf | 0x1f; // the lowest vectors look like exceptions
    lapic(0x80) = 0xf0;
    write_msr(0x1b, (read_msr(0x1b) & 0xfff) | 0x10000000);

    // CR0: AM, TS, MP. CR4: TSD, DE. No FPU exception is masked. Breakpoints on loft's screen memory.
    u32 cr0, cr4;
    asm volatile("fninit\n\tmov %%cr0, %0\n\tmov %%cr4, %1" : "=r"(cr0), "=r"(cr4));
    const u16 control = 0x0340;
    asm volatile("fldcw %0" ::"m"(control));
    asm volatile("mov %0, %%cr0\n\tmov %1, %%cr4" ::"r"(cr0 | 1u << 18 | 1u << 3 | 1u << 1),
                 "r"(cr4 | 1u << 2 | 1u << 3));
    asm volatile("mov %0, %%dr0\n\tmov %1, %%dr1\n\tmov %2, %%dr7" ::"r"(0xc00b8000), "r"(0xb8000), "r"(0x00ff000f));
    asm volatile("push %0; popf" ::"r"(0x00047002u) : "cc"); // AC, NT, IOPL 3
}

// --- maps of unusual firmware

// The map entry of the RAM above 1 MiB.
multiboot_memory_map_t& main_entry(Forged& f) {
    for (u32 i = 0; i != f.entries; ++i)
        if (f.map[i].addr == MiB && f.map[i].type == kUsable) return f.map[i];
    give_up("no RAM at 1 MiB");
}

// Video memory and ROMs reported as usable.
void isa_hole(Forged& f) {
    const multiboot_memory_map_t high = main_entry(f);
    f.entries = 0;
    f.add(0, MiB, kUsable);
    f.add(high.addr, high.len, kUsable);
}

// All of RAM reported as usable, with the firmware's tables at its end.
void acpi_in_usable(Forged& f) {
    const multiboot_memory_map_t high = main_entry(f);
    f.entries = 0;
    f.add(0, 0x9fc00, kUsable);
    f.add(0xf0000, 0x10000, kReserved);
    f.add(MiB, (high.len + MiB) & ~u64{MiB - 1}, kUsable);
}

// `count` holes of `bytes`, spread evenly over the RAM from 16 MiB on, but not over loft, the shim and its module.
void put_holes(Forged& f, u32 count, u32 bytes) {
    const multiboot_memory_map_t ram = main_entry(f);
    const u32 from = f.shim_used_end, span = (static_cast<u32>(ram.addr + ram.len) - from) / count & ~0xfffu;
    for (u32 i = 0; i != count; ++i)
        f.add(from + i * span + span / 2, bytes, kReserved);
}
void holes_200(Forged& f) { put_holes(f, 200, 0x1000); }
void holes_2600(Forged& f) { put_holes(f, 2600, 0x1000); }

// From 128 MiB on, one page of each four is RAM: most page tables lie in a range of their own.
void chequered(Forged& f) {
    const multiboot_memory_map_t ram = main_entry(f);
    const u32 end = static_cast<u32>(ram.addr + ram.len);
    for (u32 at = 128 * MiB; at + 0x4000 <= end && f.entries != kMaxEntries; at += 0x4000)
        f.add(at + 0x1000, 0x3000, kReserved);
}

// No usable memory below 16 MiB, where the kernel lies.
void above_16m(Forged& f) {
    multiboot_memory_map_t& ram = main_entry(f);
    ram.len -= 15 * MiB;
    ram.addr = 16 * MiB;
    f.map[0].type = kReserved;
}

// Holes of 1 MiB across 16 MiB, 896 MiB, 1 GiB and 2 GiB.
void holes_at_borders(Forged& f) {
    for (const u32 at : {16 * MiB, 896 * MiB, 1024 * MiB, 2048 * MiB})
        f.add(at - 0x80000 + 0x200, MiB, kReserved);
}

// High memory that begins 8 MiB above the border, inside a page.
void high_begins_later(Forged& f) { f.add(895 * MiB + 0x123, 9 * MiB, kReserved); }

// Loaders may pass any number of modules, with lines of any length.
void many_modules(Forged& f) {
    f.modules = kMaxModules;
    for (u32 i = length(f.module_command); i + 1 < sizeof f.module_command; ++i)
        f.module_command[i] = 'x';
}

// A module that fills lowmem except for its first 64 MiB and its last 8 MiB.
void module_fills_normal(Forged& f) {
    f.modules = 2;
    f.module[1].mod_start = f.shim_used_end;
    f.module[1].mod_end = 888 * MiB;
}

// Data for every other field of multiboot, in usable RAM; loft must keep it.
void every_field(Forged& f) {
    constexpr u32 kPieces = 40 * MiB;
    memset(at<char>(kPieces), 0, 0x10000);
    f.info.flags |= MULTIBOOT_INFO_ELF_SHDR | MULTIBOOT_INFO_DRIVE_INFO | MULTIBOOT_INFO_CONFIG_TABLE |
                    MULTIBOOT_INFO_BOOT_LOADER_NAME | MULTIBOOT_INFO_APM_TABLE | MULTIBOOT_INFO_VBE_INFO |
                    MULTIBOOT_INFO_FRAMEBUFFER_INFO;
    f.info.u.elf_sec = {3, 40, kPieces, 2};
    at<u32>(kPieces + 40)[3] = kPieces + 0x2000; // addr, size of section 1
    at<u32>(kPieces + 40)[5] = 0x1800;
    f.info.drives_addr = kPieces + 0x4000;
    f.info.drives_length = 0x123;
    f.info.config_table = kPieces + 0x5000;
    *at<u16>(f.info.config_table) = 8;
    f.info.boot_loader_name = address_of("the shim");
    f.info.apm_table = kPieces + 0x6000;
    f.info.vbe_control_info = kPieces + 0x7000;
    f.info.vbe_mode_info = kPieces + 0x8000;
    f.info.framebuffer_addr = 256 * MiB;
    f.info.framebuffer_pitch = 4096;
    f.info.framebuffer_width = 1024;
    f.info.framebuffer_height = 768;
    f.info.framebuffer_bpp = 32;
    f.info.framebuffer_type = MULTIBOOT_FRAMEBUFFER_TYPE_RGB;
}

// Impossible lengths.
void absurd_fields(Forged& f) {
    f.info.flags |= MULTIBOOT_INFO_ELF_SHDR | MULTIBOOT_INFO_DRIVE_INFO | MULTIBOOT_INFO_BOOT_LOADER_NAME |
                    MULTIBOOT_INFO_FRAMEBUFFER_INFO;
    f.info.u.elf_sec = {0xffffffff, 0xffffffff, 0xfffffff0, 0};
    f.info.drives_addr = 16 * MiB;
    f.info.drives_length = 0xf0000000;
    f.info.boot_loader_name = 0xfffffff8;
    f.info.framebuffer_addr = MiB;
    f.info.framebuffer_pitch = 0xffffffff;
    f.info.framebuffer_height = 0xffffffff;
}
void absurd_modules(Forged& f) { f.modules = 0x10000000; }

// --- forged ACPI tables
// In usable RAM; the root pointer in the extended BIOS data area, which is searched before the place of the real one.

constexpr u32 kTables = 44 * MiB;

struct Madt {
    u8* begin = at<u8>(kTables + 0x1000);
    u32 bytes = 0;

    void put(const void* piece, u32 n) {
        memcpy(begin + bytes, piece, n);
        bytes += n;
    }
    template <typename... Bytes> void entry(u8 type, u8 length, Bytes... rest) {
        const u8 piece[]{type, length, static_cast<u8>(rest)...};
        put(piece, sizeof piece);
    }
    void cpu(u8 id, u8 enabled) { entry(0, 8, id, id, enabled, 0, 0, 0); }
    void io_apic(u32 address, u32 first) {
        entry(1, 12, 0, 0, address, address >> 8, address >> 16, address >> 24, first, first >> 8, first >> 16,
              first >> 24);
    }
};

void close_table(u8* table, const char* signature, u32 bytes) {
    memcpy(table, signature, 4);
    memcpy(table + 4, &bytes, sizeof bytes);
    table[9] = 0;
    u8 sum = 0;
    for (u32 i = 0; i != bytes; ++i)
        sum = static_cast<u8>(sum + table[i]);
    table[9] = static_cast<u8>(-sum);
}

Madt begin_madt() {
    memset(at<char>(kTables), 0, 0x40000);
    Madt madt;
    madt.bytes = 44;
    const u32 lapic = 0xfee00000;
    memcpy(madt.begin + 36, &lapic, sizeof lapic);
    madt.cpu(0, 1);
    madt.cpu(1, 1);
    return madt;
}

void use_madt(const Madt& madt) {
    close_table(madt.begin, "APIC", madt.bytes);
    u8* const rsdt = at<u8>(kTables);
    const u32 tables[]{address_of(rsdt), 0, address_of(madt.begin),
                       address_of(madt.begin)}; // the RSDT itself, none, the MADT twice
    memcpy(rsdt + 36, tables, sizeof tables);
    close_table(rsdt, "RSDT", 36 + sizeof tables);
    const u32 area = u32{*at<u16>(0x40e)} << 4;
    u8* const root = at<u8>(area + 0x40);
    memset(root, 0, 20);
    memcpy(root, "RSD PTR ", 8);
    const u32 where = address_of(rsdt);
    memcpy(root + 16, &where, sizeof where);
    u8 sum = 0;
    for (u32 i = 0; i != 20; ++i)
        sum = static_cast<u8>(sum + root[i]);
    root[8] = static_cast<u8>(-sum);
}

void io_apic_at(u32 address) {
    Madt madt = begin_madt();
    madt.io_apic(address, 0);
    madt.entry(2, 10, 0, 0, 2, 0, 0, 0, 0, 0); // the timer is on input 2
    use_madt(madt);
}
void io_apic_in_ram(Forged&) { io_apic_at(MiB + 0x1000); } // in the middle of loft
void io_apic_unaligned(Forged&) { io_apic_at(0xfec00ff8); }
void io_apic_on_lapic(Forged&) { io_apic_at(0xfee00000); }
void io_apic_nowhere(Forged&) { io_apic_at(0xfe000000); }
void io_apic_in_rom(Forged&) { io_apic_at(0xfffc0000); }
void no_io_apic(Forged&) { use_madt(begin_madt()); }
void timer_beyond_io_apic(Forged&) {
    Madt madt = begin_madt();
    madt.io_apic(0xfec00000, 0);
    madt.entry(2, 10, 0, 0, 99, 0, 0, 0, 0, 0);
    use_madt(madt);
}
// Entries that put another interrupt, and an NMI, on the timer's input.
void timer_shares_input(Forged&) {
    Madt madt = begin_madt();
    madt.io_apic(0xfec00000, 0);
    madt.entry(3, 8, 0, 0, 2, 0, 0, 0);
    madt.entry(2, 10, 0, 9, 2, 0, 0, 0, 0x0d, 0);
    madt.entry(2, 10, 0, 0, 2, 0, 0, 0, 0, 0);
    use_madt(madt);
}
// All inputs of an I/O APIC without ISA interrupts are unmasked.
void io_apic_left_on(Forged&) {
    Madt madt = begin_madt();
    madt.io_apic(0xfec00000, 24);
    use_madt(madt);
    for (u32 input = 0; input != 24; ++input) {
        *at<volatile u32>(0xfec00000) = 0x10 + 2 * input;
        *at<volatile u32>(0xfec00010) = 0xa0 + input;
    }
}

// The timer raises NMIs, as fast as it can, until loft masks the I/O APIC. The first one comes when loft has begun:
// there is no IDT in between.
void nmi_storm(Forged& f) { f.nmi_storm = true; }
void start_nmi_storm() {
    constexpr u32 kInput = 2, kNmi = 4 << 8;
    for (const u32 half : {1u, 0u}) {
        *at<volatile u32>(0xfec00000) = 0x10 + 2 * kInput + half;
        *at<volatile u32>(0xfec00010) = half != 0 ? 0 : kNmi; // to APIC id 0
    }
    out8(0x43, 0x34); // 8254: counter 0, both bytes, rate generator
    out8(0x40, 2);    // every other clock of 1193182 a second
    out8(0x40, 0);
}

// An I/O APIC that does not exist, one that is not the first, and then the right one.
void io_apic_is_the_third(Forged&) {
    Madt madt = begin_madt();
    madt.io_apic(0xfe000000, 0);
    madt.io_apic(0xfec00000, 24);
    madt.io_apic(0xfec00000, 0);
    madt.entry(2, 10, 0, 0, 2, 0, 0, 0, 0, 0);
    use_madt(madt);
}

// Every type of entry of a MADT: more CPUs than loft has room for, also as x2APIC entries, disabled ones, duplicates,
// an address override, entries of unknown types, NMI pins of each CPU before and after it, and a truncated end.
void madt_of_everything(Forged&) {
    Madt madt = begin_madt();
    madt.entry(5, 12, 0, 0, 0, 0, 0xe0, 0xfe, 0, 0, 0, 0);
    for (u32 id = 0; id != 300; ++id) {
        madt.entry(4, 6, id, 5, 0, 1);
        if (id >= 2) madt.entry(9, 16, 0, 0, id, id >> 8, 0, 0, id % 3 == 0, 0, 0, 0, id, id >> 8, 0, 0);
        madt.entry(10, 12, 5, 0, id, id >> 8, 0, 0, 1, 0, 0, 0);
        if (id >= 2 && id < 200) madt.cpu(static_cast<u8>(id), 0);
        madt.entry(0x7f, 5, 1, 2, 3);
        madt.entry(2, 10, 0, 0, 2, 0, 0, 0, 0, 0);
        madt.entry(3, 8, 0, 0, id, 1, 0, 0);
    }
    madt.io_apic(0xfec00000, 0);
    madt.entry(0, 0);
    madt.cpu(77, 1);
    use_madt(madt);
}

struct Scenario {
    const char* name;
    void (*forge)(Forged&);
};
constexpr Scenario kScenarios[] = {
    {"as-it-is", as_it_is},
    {"bad-magic", bad_magic},
    {"no-map-flag", no_map_flag},
    {"empty-map", empty_map},
    {"absurd-map", absurd_map},
    {"bad-entry-size", bad_entry_size},
    {"messy-map", messy_map},
    {"beyond-reach", beyond_reach},
    {"high-info", high_info},
    {"bad-info", bad_info},
    {"garbage-command-line", garbage_command_line},
    {"garbage-ram", garbage_ram},
    {"triple-fault", triple_fault},
    {"used-machine", used_machine},
    {"isa-hole", isa_hole},
    {"acpi-in-usable", acpi_in_usable},
    {"holes-200", holes_200},
    {"holes-2600", holes_2600},
    {"chequered", chequered},
    {"above-16m", above_16m},
    {"holes-at-borders", holes_at_borders},
    {"high-begins-later", high_begins_later},
    {"many-modules", many_modules},
    {"module-fills-normal", module_fills_normal},
    {"every-field", every_field},
    {"absurd-fields", absurd_fields},
    {"absurd-modules", absurd_modules},
    {"io-apic-in-ram", io_apic_in_ram},
    {"io-apic-unaligned", io_apic_unaligned},
    {"io-apic-on-lapic", io_apic_on_lapic},
    {"io-apic-nowhere", io_apic_nowhere},
    {"io-apic-in-rom", io_apic_in_rom},
    {"io-apic-is-the-third", io_apic_is_the_third},
    {"no-io-apic", no_io_apic},
    {"madt-of-everything", madt_of_everything},
    {"timer-beyond-io-apic", timer_beyond_io_apic},
    {"timer-shares-input", timer_shares_input},
    {"io-apic-left-on", io_apic_left_on},
    {"nmi-storm", nmi_storm},
};

// The data that QEMU passed, with a small module of the shim.
void copy_truth(const multiboot_info_t& real, const multiboot_module_t& module) {
    for (u32 offset = 0; offset < real.mmap_length;) {
        const auto* entry = at<multiboot_memory_map_t>(real.mmap_addr + offset);
        forged.add(entry->addr, entry->len, entry->type);
        offset += entry->size + sizeof entry->size;
    }
    forged.info.flags = MULTIBOOT_INFO_MEMORY | MULTIBOOT_INFO_CMDLINE | MULTIBOOT_INFO_MODS | MULTIBOOT_INFO_MEM_MAP;
    forged.info.mem_lower = real.mem_lower;
    forged.info.mem_upper = real.mem_upper;
    const char* command = at<const char>(module.cmdline);
    forged.command_bytes = length(command) + 1;
    if (forged.command_bytes > sizeof forged.command / 4) give_up("the command line is too long");
    memcpy(forged.command, command, forged.command_bytes);
    if (real.mods_count > kMaxModules) give_up("too many modules");
    for (u32 i = 1; i != real.mods_count; ++i) // the first one is loft.elf
        forged.module[forged.modules++] = at<multiboot_module_t>(real.mods_addr)[i];
}

// Copies the pieces to contiguous addresses from `to` on, each aligned to 16 bytes.
class Placer {
  public:
    explicit Placer(u32 to) : next_{to} {}
    u32 put(const void* piece, u32 bytes) {
        if (next_ == 0) return address_of(piece); // not copied
        const u32 here = next_;
        memcpy(at<char>(here), piece, bytes);
        next_ += (bytes + 15) & ~15u;
        return here;
    }

  private:
    u32 next_;
};

// Links the pieces by address and returns the address of the information.
u32 place() {
    if (forged.info_address > 0xffff0000) return forged.info_address; // no room there for the pieces
    // A multiboot loader puts modules on page borders; the information may lie anywhere.
    const u32 page = forged.info_address;
    if (page != 0) memset(at<char>(page), 0x42, 0x1000);
    alignas(0x1000) static const char module_bytes[0x1000] = "a module";
    Placer placer{page != 0 ? page + 0x1004 : 0};
    const u32 module_command = placer.put(forged.module_command, sizeof forged.module_command);
    for (multiboot_module_t& module : forged.module) {
        if (module.cmdline == 0) module.cmdline = module_command;
        if (module.mod_end != 0) continue;
        module.mod_start = page != 0 ? page : address_of(module_bytes);
        module.mod_end = module.mod_start + 0x1000;
    }
    const u32 modules = forged.modules < kMaxModules ? forged.modules : kMaxModules;
    forged.info.mods_count = forged.modules;
    forged.info.mods_addr = placer.put(forged.module, modules * sizeof forged.module[0]);
    forged.info.cmdline = placer.put(forged.command, forged.command_bytes);
    forged.info.mmap_length = forged.entries * sizeof forged.map[0];
    forged.info.mmap_addr = placer.put(forged.map, forged.info.mmap_length);
    return placer.put(&forged.info, sizeof forged.info);
}

} // namespace

extern "C" [[noreturn]] void shim_main(u32 magic, const multiboot_info_t* real) {
    if (magic != MULTIBOOT_BOOTLOADER_MAGIC || real->mods_count == 0)
        give_up("start it with loft.elf as its first module");
    const auto& module = *at<multiboot_module_t>(real->mods_addr);
    const auto& last = at<multiboot_module_t>(real->mods_addr)[real->mods_count - 1];
    const char* wanted = after_first_word(at<const char>(real->cmdline));
    for (const Scenario& scenario : kScenarios) {
        if (!equal(scenario.name, wanted)) continue;
        copy_truth(*real, module);
        forged.loft = load(module);
        // QEMU's information lies right after the module.
        forged.shim_used_end = (last.mod_end > address_of(shim_end) ? last.mod_end : address_of(shim_end)) + MiB;
        scenario.forge(forged);
        const u32 info = place();
        say("shim: ");
        say(wanted);
        say("\n");
        if (forged.nmi_storm) start_nmi_storm();
        enter_loft(forged.magic, info, forged.loft.entry);
    }
    give_up("there is no such scenario");
}
