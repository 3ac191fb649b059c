// Saving and checking what an interrupt must restore. Contract: interrupt_context.hpp.
#include "mm/windows/interrupt_context.hpp"

#include "mm/ground/context.hpp"
#include "mm/tables/flush_clock.hpp"
#include "mm/windows/kmap_local.hpp"

namespace loft {

InterruptCookie interrupt_enter() {
    tlb_leave_idle(); // first: before this CPU uses a translation that may be stale
    InterruptCookie cookie{};
    cookie.local_top = local_maps.load<&LocalMaps::top>();
    cookie.local_limit = local_maps.load<&LocalMaps::limit>();
    cookie.preempt_count = context.load<&Context::preempt_count>();
    LOFT_DEBUG_ASSERT(Context{cookie.preempt_count}.irq_depth() != Context::kMostNested);
    context.add<&Context::preempt_count>(1u << Context::kIrqShift);
    if constexpr (config::kHighMem)
        local_maps.store<&LocalMaps::limit>(local_maps.load<&LocalMaps::base>() +
                                            layout::kLocalSlots * layout::kLocalStride);
    return cookie;
}

void interrupt_leave(const InterruptCookie& cookie) {
    const u32 top = local_maps.load<&LocalMaps::top>();
    if (top != cookie.local_top)
        panic("interrupt left {} local mappings behind (top {:08x}, was {:08x})",
              static_cast<int>(top - cookie.local_top) / static_cast<int>(layout::kLocalStride), top, cookie.local_top);
    const u32 preempt = context.load<&Context::preempt_count>() - (1u << Context::kIrqShift);
    if (preempt != cookie.preempt_count)
        panic("interrupt changed the preempt count from {} to {}, the interrupt depth from {} to {}",
              Context{cookie.preempt_count}.preempt_depth(), Context{preempt}.preempt_depth(),
              Context{cookie.preempt_count}.irq_depth(), Context{preempt}.irq_depth());
    local_maps.store<&LocalMaps::limit>(cookie.local_limit);
    context.add<&Context::preempt_count>(0u - (1u << Context::kIrqShift));
}

} // namespace loft
