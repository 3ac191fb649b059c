// The address map of the kernel: its constants, static assertions about them, and the boundaries that boot computes.
// README.md has the drawing.
#pragma once

#include "arch/base/config.hpp"
#include "arch/base/types.hpp"
#include "arch/i386/isa/pte.hpp"

#include <span>

namespace loft::layout {

inline constexpr u32 kPageOffset = 0xc000'0000; // the direct map maps physical 0 here
inline constexpr u32 kUserEnd = kPageOffset;    // addresses of programs are below this
inline constexpr u32 kUserBegin = 64 * KiB;     // and from here on: a null pointer plus a small offset faults
// True if [begin, begin + bytes) does not wrap and lies below the kernel's addresses.
constexpr bool is_user_range(UserAddr begin, u32 bytes) {
    return begin.value() < kUserEnd && bytes <= kUserEnd - begin.value();
}
inline constexpr u32 kMaxLowmem = 896 * MiB;
inline constexpr u32 kMinLowmem = 16 * MiB; // `highmem=` leaves at least this much lowmem
inline constexpr u32 kDirectMapHole = 8 * MiB;
inline constexpr u32 kDefaultUpper = 0u - (kPageOffset + kMaxLowmem); // 128 MiB above the direct map

// fixmap: slots of one page, from the top downward.
inline constexpr u32 kFixmapTop = 0xffff'f000;
enum class Fix : u32 {
    boot_first = 0,
    boot_last = 15,
    lapic,
    ioapic,
    device_first, // registers of devices: fixmap_device
    device_last = device_first + 39,
    count,
};
constexpr VirtAddr fix_addr(Fix slot) { return VirtAddr{kFixmapTop - ((static_cast<u32>(slot) + 1) << kPageShift)}; }
inline constexpr u32 kFixmapSize = 256 * KiB;
inline constexpr u32 kFixmapBase = kFixmapTop + kPageSize - kFixmapSize;
static_assert(static_cast<u32>(Fix::count) * kPageSize + kPageSize <= kFixmapSize);

// kmap_local: for each CPU 16 slots for its thread, 16 more for the interrupts on top of it, and below them the private
// slot, which is not part of the stack. The panic path, the page walk and poisoning use the private slot. It also
// separates the stacks of two CPUs: the page below an empty stack is no slot of another CPU. With DEBUG an unmapped
// page is above every slot, so an overrun does not reach the next slot.
inline constexpr u32 kLocalThreadSlots = 16;
inline constexpr u32 kLocalSlots = 32;
inline constexpr u32 kLocalStride = config::kDebug ? 2 * kPageSize : kPageSize;
inline constexpr u32 kLocalWindow = (kLocalSlots + 1) * kLocalStride; // of one CPU
inline constexpr u32 kLocalSize = config::kHighMem ? config::kMaxCpus * kLocalWindow : 0;
inline constexpr u32 kLocalBase = kFixmapBase - kLocalSize;
constexpr VirtAddr local_private_slot(CpuId cpu) { return VirtAddr{kLocalBase + cpu.value() * kLocalWindow}; }
constexpr VirtAddr local_first_slot(CpuId cpu) { return local_private_slot(cpu) + kLocalStride; }
static_assert(!config::kSmp || !config::kHighMem ||
              kLocalSize / kPageSize == (32 * 32 + 32) * (config::kDebug ? 2 : 1));
static_assert(local_first_slot(CpuId{config::kMaxCpus - 1}).value() + kLocalSlots * kLocalStride <= kFixmapBase ||
              !config::kHighMem);

// pkmap: exactly one page table.
inline constexpr u32 kPkmapSize = paging::kLargeSize;
inline constexpr u32 kPkmapSlots = paging::kPtesPerTable;
inline constexpr u32 kPkmapBase = round_down(kLocalBase, paging::kLargeSize) - kPkmapSize;
constexpr VirtAddr pkmap_addr(u32 slot) { return VirtAddr{kPkmapBase + (slot << kPageShift)}; }
static_assert(kPkmapBase % paging::kLargeSize == 0);
static_assert(kPkmapSlots <= 1024, "a frame descriptor has 10 bits for its slot");

// vmap ends a page below pkmap.
inline constexpr u32 kVmapEnd = kPkmapBase - kPageSize;
inline constexpr u32 kMinVmap = 4 * MiB;
inline constexpr u32 kMaxVmap = 768 * MiB;
static_assert(kVmapEnd > kPageOffset + kMaxLowmem + kDirectMapHole + kMinVmap);

// What boot decided (decide). Set once by mm_init, before any other CPU runs.
struct Boundaries {
    u32 lowmem_bytes = 0;  // the direct map is kPageOffset .. kPageOffset + lowmem_bytes
    u32 lowmem_frames = 0; // the same in frames: the form that is_highmem compares with
    u32 upper_base = 0;    // from here to 4 GiB all page tables exist from boot on
    u32 vmap_begin = 0;
};
extern Boundaries boundaries;

inline VirtAddr direct_map_end() { return VirtAddr{kPageOffset + boundaries.lowmem_bytes}; }
inline Pfn lowmem_end() { return Pfn{boundaries.lowmem_frames}; }

// Computes the sizes of lowmem and of the vmap range. `ram_end` is the end of the reachable memory, `highmem` and
// `vmalloc` are the options (kAllHighMem and 0 if not given). A pure function.
Boundaries decide(Pfn ram_end, u64 highmem, u32 vmalloc);

// One row of the address map, as it is printed at boot and shown by gdb (`loft-map`).
struct Region {
    u32 begin;
    u32 last; // inclusive: the end of the last region would not fit in 32 bits
    const char* name;
};
inline constexpr u32 kRegions = 8;
std::span<const Region> regions(); // in order of address, without overlap

} // namespace loft::layout
