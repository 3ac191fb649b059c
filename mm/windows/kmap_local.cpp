// The stacks of local mappings: panics, DEBUG algorithm, scheduler hooks. Contract: kmap_local.hpp.
#include "mm/windows/kmap_local.hpp"
#include "mm/ground/counters.hpp"
#include "mm/tables/flush_clock.hpp"

#include "arch/base/panic.hpp"

namespace loft {

LOFT_PERCPU hal::PerCpu<LocalMaps> local_maps;

namespace {

using layout::kLocalStride;

// DEBUG: the last map of each slot.
struct LocalDebug {
    u32 caller[layout::kLocalSlots]{};
    Pfn frame[layout::kLocalSlots]{};
};
LOFT_PERCPU hal::PerCpu<LocalDebug> local_debug;

u32 slot_index(VirtAddr va) { return (va.value() - local_maps.load<&LocalMaps::base>()) / kLocalStride; }

[[noreturn, gnu::cold, gnu::noinline]] void wrong_order(VirtAddr va, u32 top) {
    const u32 base = local_maps.load<&LocalMaps::base>();
    if (top == base)
        panic("kunmap_local: {} was given back, but nothing is mapped (the stack is empty at {:08x})", va, base);
    const VirtAddr youngest{top - kLocalStride};
    if (va.value() < base || va.value() >= top)
        panic("kunmap_local: {} is no local mapping of this context; the youngest one is {}", va, youngest);
    if constexpr (config::kDebug)
        panic("kunmap_local: {} is not the youngest mapping: {} is still held, mapped at {:08x}", va, youngest,
              local_debug.mine().caller[slot_index(youngest)]);
    panic("kunmap_local: {} is not the youngest mapping: {} is still held", va, youngest);
}

} // namespace

namespace detail {

void local_overflow(VirtAddr va) {
    const u32 base = local_maps.load<&LocalMaps::base>();
    const u32 index = slot_index(va);
    local_maps.add<&LocalMaps::top>(0u - kLocalStride); // the panic lists the held slots; this one is not
    panic("kmap_local_page: mapping number {} does not fit: {} slots for a thread, {} with interrupts (would "
          "be at {}, "
          "the first is at {:08x})",
          index + 1, layout::kLocalThreadSlots, layout::kLocalSlots, va, base);
}

void local_overflow_two(VirtAddr first) {
    local_maps.add<&LocalMaps::top>(0u - kLocalStride);
    // Reports the first of the two slots that is beyond the limit.
    local_overflow(local_maps.at_most<&LocalMaps::limit>(first.value()) ? first : first + kLocalStride);
}

void local_unmap_other(VirtAddr va) {
    if (!in_direct_map(va)) wrong_order(va, local_maps.load<&LocalMaps::top>());
}

VirtAddr local_map_debug(Pfn pfn) {
    const u32 caller = hal::return_address();
    const VirtAddr va{local_maps.exchange_add<&LocalMaps::top>(kLocalStride)};
    if (local_maps.at_most<&LocalMaps::limit>(va.value())) local_overflow(va);
    const hal::PteCell* cell = kernel_pte(va);
    if (hal::pte_low(cell) != 0)
        panic("kmap_local_page: slot {} is not empty: {:08x}{:08x}", va, hal::pte_high(cell), hal::pte_low(cell));
    {
        IrqGuard guard;
        local_debug.mine().caller[slot_index(va)] = caller;
        local_debug.mine().frame[slot_index(va)] = pfn;
    }
    install(va, page_halves(pfn_to_page(pfn), kernel_prot.data));
    return va;
}

// Clears and flushes before it releases the slot: an interrupt after the release finds it empty (docs/bugs.md, bug 1).
void local_unmap_debug(VirtAddr va) {
    const u32 top = local_maps.load<&LocalMaps::top>();
    if (va.page().value() != top - kLocalStride || top == local_maps.load<&LocalMaps::base>()) wrong_order(va, top);
    hal::PteCell* cell = kernel_pte(va.page());
    const Pte entry = hal::pte_read(cell);
    const Pfn frame = local_debug.mine().frame[slot_index(va)];
    if (!entry.present() || entry.pfn() != frame)
        panic("kunmap_local: slot {} shows frame {}, not {} that was mapped there", va.page(), entry.pfn(), frame);
    hal::pte_clear(cell);
    tlb_flush_local_page(va.page());
    local_maps.add<&LocalMaps::top>(0u - kLocalStride);
}

VirtAddr private_slot_map(Pfn pfn) {
    const VirtAddr va = layout::local_private_slot(hal::this_cpu());
    hal::pte_set(kernel_pte(va), Pte{pfn, kernel_prot.data});
    return va;
}

void private_slot_unmap() {
    const VirtAddr va = layout::local_private_slot(hal::this_cpu());
    hal::pte_clear(kernel_pte(va));
    tlb_flush_local_page(va);
}

} // namespace detail

u32 local_depth() { return (local_maps.load<&LocalMaps::top>() - local_maps.load<&LocalMaps::base>()) / kLocalStride; }

HeldSlot local_slot(u32 index) {
    const VirtAddr va{local_maps.load<&LocalMaps::base>() + index * kLocalStride};
    u32 caller = 0;
    if constexpr (config::kDebug) caller = local_debug.mine().caller[index];
    return {va, hal::pte_read(kernel_pte(va)), caller};
}

LocalFault local_fault(VirtAddr va) {
    LocalFault fault;
    if (!config::kHighMem || va.value() - layout::kLocalBase >= layout::kLocalSize) return fault;
    const u32 offset = va.value() - layout::kLocalBase;
    fault.cpu = CpuId{offset / layout::kLocalWindow};
    const u32 place = offset % layout::kLocalWindow / kLocalStride; // 0: the private slot
    fault.slot = place == 0 ? 0 : place - 1;
    if (offset % kLocalStride >= kPageSize)
        fault.kind = LocalFault::Kind::guard;
    else if (place == 0 || fault.cpu != hal::this_cpu())
        fault.kind = LocalFault::Kind::foreign;
    else
        fault.kind = LocalFault::Kind::released;
    if (config::kDebug && place != 0) fault.last = local_debug.of(fault.cpu).frame[fault.slot];
    return fault;
}

bool local_to_pfn(VirtAddr va, Pfn& out) {
    if constexpr (!config::kHighMem) return false;
    const u32 base = local_maps.load<&LocalMaps::base>(), top = local_maps.load<&LocalMaps::top>();
    if (va.value() < base || va.value() >= top) return false;
    const Pte entry = hal::pte_read(kernel_pte(va.page()));
    if (!entry.present()) return false; // DEBUG: a guard page
    out = entry.pfn();
    return true;
}

bool local_maps_frame(Pfn pfn) {
    if constexpr (!config::kHighMem) return false;
    bool found = false;
    hal::online_cpus().for_each([&](CpuId cpu) {
        const LocalMaps& maps = local_maps.of(cpu);
        for (u32 va = maps.base; va < maps.top; va += kLocalStride) {
            const Pte entry = hal::pte_read(kernel_pte(VirtAddr{va}));
            if (entry.present() && entry.pfn() == pfn) found = true;
        }
    });
    return found;
}

bool local_check_leaks(const char* where) {
    const u32 depth = local_depth();
    if (depth == 0) return true;
    log(LogLevel::error, "kmap_local", "{} with {} local mappings held", where, depth);
    for (u32 i = 0; i < depth; ++i) {
        const HeldSlot slot = local_slot(i);
        log(LogLevel::error, "kmap_local", "  {} shows frame {}, mapped at {:08x}", slot.address, slot.entry.pfn(),
            slot.caller);
    }
    return false;
}

void local_unwind(u32 depth) {
    while (local_depth() > depth)
        detail::unmap_slot(local_slot(local_depth() - 1).address);
}

void local_switch_out(LocalSaved& saved) {
    saved.depth = 0;
    if constexpr (!config::kHighMem) return;
    const u32 base = local_maps.load<&LocalMaps::base>();
    saved.depth = local_depth();
    LOFT_ASSERT(saved.depth <= layout::kLocalThreadSlots);
    for (u32 i = 0; i < saved.depth; ++i) {
        const VirtAddr va{base + i * kLocalStride};
        hal::PteCell* cell = kernel_pte(va);
        saved.entry[i] = {hal::pte_low(cell), hal::pte_high(cell)};
        if constexpr (config::kDebug) {
            saved.caller[i] = local_debug.mine().caller[i];
            saved.frame[i] = local_debug.mine().frame[i];
            hal::pte_clear(cell);
            tlb_flush_local_page(va);
        }
    }
    local_maps.store<&LocalMaps::top>(base);
}

void local_switch_in(const LocalSaved& saved) {
    if constexpr (!config::kHighMem) return;
    const u32 base = local_maps.load<&LocalMaps::base>();
    LOFT_ASSERT(!local_held());
    for (u32 i = 0; i < saved.depth; ++i) {
        const VirtAddr va{base + i * kLocalStride};
        if constexpr (config::kDebug) {
            local_debug.mine().caller[i] = saved.caller[i];
            local_debug.mine().frame[i] = saved.frame[i];
        }
        // low == 0: this thread was switched out in a map, before it wrote the entry. If it has done its invlpg
        // already, it will only write. Since then another thread may have cleared this entry and may have been switched
        // out before its invlpg. Both entries are empty and cannot be told apart: an empty entry is flushed again.
        if (saved.entry[i].low == 0 || !hal::pte_is(kernel_pte(va), saved.entry[i]))
            detail::install(va, saved.entry[i]);
    }
    local_maps.store<&LocalMaps::top>(base + saved.depth * kLocalStride);
}

void kmap_local_init_cpu(CpuId cpu) {
    LocalMaps& maps = local_maps.of(cpu);
    maps = LocalMaps{};
    local_debug.of(cpu) = LocalDebug{};
    if constexpr (config::kHighMem) {
        maps.base = layout::local_first_slot(cpu).value();
        maps.top = maps.base;
        maps.limit = maps.base + layout::kLocalThreadSlots * kLocalStride;
    }
}

TlbStats tlb_stats_of(CpuId cpu) {
    TlbStats stats = tlb_stats.of(cpu);
    if constexpr (!config::kDebug) stats.invlpg += since_start(local_maps.of(cpu).misses);
    return stats;
}

TlbStats tlb_stats_sum() { return sum_of_cpus(tlb_stats_of); }

} // namespace loft
