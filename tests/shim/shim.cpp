// A boot loader that lies. QEMU starts it with loft.elf as its module; it loads loft where its program
// headers say, and enters it with the registers and the multiboot information of a scenario. README.md lists
// the scenarios.
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
constexpr u32 kAboveLowmem = 904 * MiB; // nothing up here is in loft's direct map

// ---------------------------------------------------------------------------------------------------------
// saying so

void out8(u16 port, u8 value) { asm volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }

void say(const char* text) {
    for (; *text != '\0'; ++text)
        out8(0x3f8, static_cast<u8>(*text));
}

// Status 0x20: the shim itself could not do what it was asked for.
[[noreturn]] void give_up(const char* why) {
    say("shim: ");
    say(why);
    say("\n");
    out8(0xf4, 0x20);
    for (;;)
        asm volatile("cli; hlt");
}

template <typename T> T* at(u32 address) { return reinterpret_cast<T*>(address); }
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
// What follows the first word: the loader's name for the file comes first on every multiboot command line.
const char* after_first_word(const char* text) {
    while (*text != '\0' && *text != ' ')
        ++text;
    while (*text == ' ')
        ++text;
    return text;
}

// ----------------------------------------------------------------------------------------------------
// loading loft

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
    u32 end; // behind its last byte in memory
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

// ------------------------------------------------------------------------------------------------ the forged
// world

constexpr u32 kMaxEntries = 64, kMaxModules = 32;

struct Forged {
    u32 magic = MULTIBOOT_BOOTLOADER_MAGIC;
    u32 info_address = 0; // where the pieces below are put; 0: where they are
    multiboot_info_t info{};
    multiboot_memory_map_t map[kMaxEntries]{};
    u32 entries = 0;
    char command[16 * KiB]{};
    u32 command_bytes = 0; // the closing NUL included
    multiboot_module_t module[kMaxModules]{}; // the shim's own, and those that came with loft
    u32 modules = 1;
    char module_command[32] = "forged.module of-the-shim";
    Loaded loft{};
    u32 shim_used_end = 0; // behind the shim and loft.elf

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

// Every entry is impossible: nothing is left to run in.
void absurd_map(Forged& f) {
    f.entries = 0;
    f.add(0, 0, kUsable);
    f.add(1 * MiB, 0, kUsable);
    f.add(~0ull - 0xfff, 0x2000, kUsable);
    f.add(~0ull, ~0ull, kUsable);
    f.add(64 * GiB, 1 * GiB, kUsable);
    f.add(0, ~0ull, 77);
}

// An entry that claims to be longer than what is left of the map.
void bad_entry_size(Forged& f) { f.map[f.entries - 1].size = 0x1000; }

// True, but told in the worst way: reversed, cut up, twice, overlapping, unaligned, with entries that say
// nothing.
void messy_map(Forged& f) {
    const u32 real = f.entries;
    multiboot_memory_map_t map[kMaxEntries];
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
    f.add(24 * MiB + 0x800, 0x3000, kReserved); // in the middle of RAM: four pages are touched
    f.add(26 * MiB, 5 * 0x1000, 5);             // bad RAM
    f.add(28 * MiB, 0x1000, 0);                 // a type that nobody has defined
    f.add(30 * MiB, 0, kReserved);              // says nothing
    f.add(0, 0, kUsable);
}

// RAM that this configuration cannot reach, and RAM nowhere.
void beyond_reach(Forged& f) {
    f.add(64 * GiB, 2 * GiB, kUsable);
    f.add(1ull << 40, 1 * GiB, kUsable);
    f.add(1ull << 52, 1 * GiB, kUsable);
    f.add(~0ull - 0xffffff, 0x1000000, kUsable); // ends exactly at 2^64
}

// Information, map, command line, module list and module all above what the direct map shows.
void high_info(Forged& f) { f.info_address = kAboveLowmem; }

// An information structure that runs over the end of 4 GiB.
void bad_info(Forged& f) { f.info_address = 0xfffffff0; }

// Every byte there is, and words that look like options.
void garbage_command_line(Forged& f) {
    char* out = f.command + f.command_bytes - 1;
    const auto put = [&](char c) { *out++ = c; };
    for (const char* word =
             " selftest highmem= highmem=12Q seed=-1 maxcpus=0 =x = \"\" exit=1 nopse=2 unheard-of";
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

// Nothing that loft has not written itself is zero: every usable byte that is not loft's or still needed.
void garbage_ram(Forged& f) {
    for (u32 i = 0; i != f.entries; ++i) {
        const multiboot_memory_map_t& entry = f.map[i];
        if (entry.type != kUsable || entry.addr >= 4 * GiB) continue;
        const u64 end = entry.addr + entry.len < 4 * GiB ? entry.addr + entry.len : 4 * GiB;
        // What lies between the end of loft and the shim, and behind the shim and its module.
        const u64 holes[][2] = {{f.loft.end, 48 * MiB}, {f.shim_used_end, 4 * GiB}};
        for (const auto& hole : holes) {
            const u64 from = entry.addr > hole[0] ? entry.addr : hole[0];
            const u64 to = end < hole[1] ? end : hole[1];
            if (from < to) memset(at<char>(static_cast<u32>(from)), 0xa5, static_cast<u32>(to - from));
        }
    }
}

// Not a word of loft: an exception without a table of handlers resets the machine.
void triple_fault(Forged&) {
    say("shim: triple-fault\n");
    const u8 nothing[6]{};
    asm volatile("lidt %0; int3" ::"m"(nothing));
}

// ---------------------------------------------------------------------------------------- a machine that was used before

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
constexpr u32 kLocalTable = 0x7000, kDirectMap = 0xc0000000;            // where both the shim and loft see it

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

// What a kernel leaves that hands the machine over by kexec, and more: ways into ring 0 at its old entries, long mode half
// switched on, breakpoints where loft writes, memory types of its own, a local table, flags; a local APIC that is elsewhere by
// its MSR, lets nothing through, has two interrupts in service and two that wait, and whose timer runs.
void used_machine(Forged&) {
    constexpr u32 kSyscall = 1 << 11, kLong = 1 << 29, kSysenter = 1 << 11, kPat = 1 << 16;
    constexpr u32 kKernelText = 0xc0100000;
    const u32 extended = cpuid_edx(0x80000001), basic = cpuid_edx(1);
    use_own_tables();
    if (extended & (kSyscall | kLong)) {
        write_msr(0xc0000081, 8ull << 32 | kKernelText);                               // STAR
        write_msr(0xc0000080, 1u | (extended & kLong ? 1u << 8 : 0));                  // EFER: SCE, LME
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
    for (const u32 vector : {0x42u, 0xf5u}) { // taken, and never ended
        lapic(0x300) = kToSelf | vector;
        let_one_interrupt_in();
    }
    lapic(0x3e0) = 3;
    lapic(0x320) = kPeriodic | 0xa1; // waits below the one that is in service
    lapic(0x380) = 1000;
    while (!(lapic(0x200 + 0x10 * (0xa1 / 32)) >> 0xa1 % 32 & 1)) {
    }
    lapic(0x300) = kToSelf | 0x1f; // the lowest that there are look like exceptions
    lapic(0x80) = 0xf0;
    write_msr(0x1b, (read_msr(0x1b) & 0xfff) | 0x10000000);

    // CR0: AM, TS, MP. CR4: TSD, DE. No FPU exception is masked. Breakpoints where loft has its screen.
    u32 cr0, cr4;
    asm volatile("fninit\n\tmov %%cr0, %0\n\tmov %%cr4, %1" : "=r"(cr0), "=r"(cr4));
    const u16 control = 0x0340;
    asm volatile("fldcw %0" ::"m"(control));
    asm volatile("mov %0, %%cr0\n\tmov %1, %%cr4" ::"r"(cr0 | 1u << 18 | 1u << 3 | 1u << 1), "r"(cr4 | 1u << 2 | 1u << 3));
    asm volatile("mov %0, %%dr0\n\tmov %1, %%dr1\n\tmov %2, %%dr7" ::"r"(0xc00b8000), "r"(0xb8000), "r"(0x00ff000f));
    asm volatile("push %0; popf" ::"r"(0x00047002u) : "cc"); // AC, NT, IOPL 3
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
};

// The truth, as QEMU told it, with a small module of the shim's own.
void copy_truth(const multiboot_info_t& real, const multiboot_module_t& module) {
    for (u32 offset = 0; offset < real.mmap_length;) {
        const auto* entry = at<multiboot_memory_map_t>(real.mmap_addr + offset);
        forged.add(entry->addr, entry->len, entry->type);
        offset += entry->size + sizeof entry->size;
    }
    forged.info.flags =
        MULTIBOOT_INFO_MEMORY | MULTIBOOT_INFO_CMDLINE | MULTIBOOT_INFO_MODS | MULTIBOOT_INFO_MEM_MAP;
    forged.info.mem_lower = real.mem_lower;
    forged.info.mem_upper = real.mem_upper;
    const char* command = at<const char>(module.cmdline);
    forged.command_bytes = length(command) + 1;
    if (forged.command_bytes > sizeof forged.command / 4) give_up("the command line is too long");
    memcpy(forged.command, command, forged.command_bytes);
    if (real.mods_count > kMaxModules) give_up("too many modules");
    for (u32 i = 1; i != real.mods_count; ++i) // its own comes first
        forged.module[forged.modules++] = at<multiboot_module_t>(real.mods_addr)[i];
}

// Puts the pieces one behind the other from `to` on, each on a border of 16 bytes.
class Placer {
  public:
    explicit Placer(u32 to) : next_{to} {}
    u32 put(const void* piece, u32 bytes) {
        if (next_ == 0) return address_of(piece); // where it is
        const u32 here = next_;
        memcpy(at<char>(here), piece, bytes);
        next_ += (bytes + 15) & ~15u;
        return here;
    }

  private:
    u32 next_;
};

// Links the pieces by address and returns where the information is.
u32 place() {
    if (forged.info_address > 0xffff0000) return forged.info_address; // no room there for anything
    // A multiboot loader puts modules on page borders; the information may lie anywhere.
    const u32 page = forged.info_address;
    if (page != 0) memset(at<char>(page), 0x42, 0x1000);
    static const char module_bytes[0x1000] = "a module";
    forged.module[0].mod_start = page != 0 ? page : address_of(module_bytes);
    forged.module[0].mod_end = forged.module[0].mod_start + 0x1000;
    Placer placer{page != 0 ? page + 0x1004 : 0};
    forged.module[0].cmdline = placer.put(forged.module_command, sizeof forged.module_command);
    forged.info.mods_count = forged.modules;
    forged.info.mods_addr = placer.put(&forged.module, forged.modules * sizeof forged.module[0]);
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
        // QEMU's information lies with the module, behind it.
        forged.shim_used_end =
            (last.mod_end > address_of(shim_end) ? last.mod_end : address_of(shim_end)) + MiB;
        scenario.forge(forged);
        const u32 info = place();
        say("shim: ");
        say(wanted);
        say("\n");
        enter_loft(forged.magic, info, forged.loft.entry);
    }
    give_up("there is no such scenario");
}
