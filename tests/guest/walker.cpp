// The simple walker. Contract: walker.hpp.
#include "tests/guest/walker.hpp"

#include "arch/i386/isa/control.hpp"
#include "mm/ground/layout.hpp"

namespace loft::guest {
namespace {

constexpr u64 kPresent = 0x1, kWritable = 0x2, kUser = 0x4, kCacheDisable = 0x10, kLarge = 0x80, kGlobal = 0x100;
constexpr u64 kNoExecute = 1ull << 63;

constexpr u32 kEntryBytes = config::kPae ? 8 : 4;
constexpr u32 kEntries = config::kPae ? 512 : 1024;
constexpr u32 kLargeBytes = config::kPae ? 2 * MiB : 4 * MiB;
constexpr u64 kFrame = config::kPae ? 0x000f'ffff'ffff'f000ull : 0xffff'f000ull;

// True if the direct map shows the table at this physical address.
bool reachable(u64 table) { return table < layout::boundaries.lowmem_bytes; }

u64 entry_at(u64 phys) {
    const auto* word = reinterpret_cast<const volatile u32*>(layout::kPageOffset + static_cast<u32>(phys));
    return config::kPae ? (u64{word[1]} << 32 | word[0]) : word[0];
}

// EFER exists only on processors with NX; without EFER.NXE, bit 63 of an entry is not an execute-disable bit.
bool nx_is_on() {
    if (!config::kPae) return false;
    u32 eax = 0x8000'0001u, ebx, ecx = 0, edx;
    asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return (edx >> 20 & 1) != 0 && (read_msr(0xc000'0080u) >> 11 & 1) != 0;
}

// The physical address of the directory entry for `va`; 0 if there is no directory.
u64 directory_slot(u32 va) {
    u64 directory = read_cr3() & 0xffff'f000u;
    if constexpr (config::kPae) {
        const u64 pointer = entry_at((read_cr3() & ~0x1fu) + (va >> 30) * 8);
        if ((pointer & kPresent) == 0) return 0;
        directory = pointer & kFrame;
    }
    return directory + va / kLargeBytes % kEntries * kEntryBytes;
}

Mapping made_of(u32 va, u32 bytes, u64 slot, u64 entry, u64 above, bool nx) {
    Mapping m;
    m.va = va;
    m.bytes = bytes;
    m.phys = entry & kFrame & ~u64{bytes - 1};
    m.table = slot;
    m.writable = (entry & above & kWritable) != 0;
    m.user = (entry & above & kUser) != 0;
    m.executable = !nx || ((entry | above) & kNoExecute) == 0;
    m.global = (entry & kGlobal) != 0;
    m.uncached = (entry & kCacheDisable) != 0;
    return m;
}

} // namespace

u64 directory_entry(u32 va) {
    const u64 slot = directory_slot(va);
    return slot == 0 || !reachable(slot) ? 0 : entry_at(slot);
}

u32 for_each_mapping(void (*visit)(const Mapping&, void*), void* argument) {
    const bool nx = nx_is_on();
    u32 unreachable = 0;
    for (u64 va = 0; va < 4 * GiB; va += kLargeBytes) {
        const u32 base = static_cast<u32>(va);
        const u64 slot = directory_slot(base);
        if (slot == 0) continue;
        if (!reachable(slot)) {
            ++unreachable;
            continue;
        }
        const u64 directory = entry_at(slot);
        if ((directory & kPresent) == 0) continue;
        if ((directory & kLarge) != 0) {
            visit(made_of(base, kLargeBytes, slot, directory, ~u64{0} & ~kNoExecute, nx), argument);
            continue;
        }
        const u64 table = directory & kFrame;
        if (!reachable(table)) {
            ++unreachable;
            continue;
        }
        for (u32 i = 0; i < kEntries; ++i) {
            const u64 at = table + i * kEntryBytes;
            const u64 entry = entry_at(at);
            if ((entry & kPresent) != 0)
                visit(made_of(base + i * kPageSize, kPageSize, at, entry, directory, nx), argument);
        }
    }
    return unreachable;
}

Mapping walk_naively(u32 va) {
    const bool nx = nx_is_on();
    const u64 slot = directory_slot(va);
    if (slot == 0 || !reachable(slot)) return {};
    const u64 directory = entry_at(slot);
    if ((directory & kPresent) == 0) return {};
    if ((directory & kLarge) != 0)
        return made_of(va & ~(kLargeBytes - 1), kLargeBytes, slot, directory, ~u64{0} & ~kNoExecute, nx);
    if (!reachable(directory & kFrame)) return {};
    const u64 at = (directory & kFrame) + va / kPageSize % kEntries * kEntryBytes;
    const u64 entry = entry_at(at);
    if ((entry & kPresent) == 0) return {};
    return made_of(va & kPageMask, kPageSize, at, entry, directory, nx);
}

} // namespace loft::guest
