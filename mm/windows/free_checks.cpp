// DEBUG=1: fills freed frames with poison, and panics if a frame is freed while a mapping still shows it. Contract:
// page_alloc.hpp, the up-calls.
//
// A frame that was not freed since boot has undefined contents. So the first and the last word of the poison are a
// mark, computed from the frame number: if either of them is found, the whole frame must be poison.
#include "mm/frames/page_alloc.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/vmap.hpp"

namespace loft {
namespace {

constexpr u32 kWords = kPageSize / 4;
u32 mark(Pfn pfn) { return 0xf1ee'd000u ^ (pfn.value() * 0x9e37'79b1u); }

void poison(Pfn pfn) {
    IrqGuard guard;
    with_private_slot(pfn, [pfn](VirtAddr va) {
        hal::fill(va, static_cast<u8>(kPoison), kPageSize);
        hal::store<u32>(va, mark(pfn));
        hal::store<u32>(va + (kWords - 1) * 4, mark(pfn));
    });
}

// Panics only after the private slot is free again: the page walk that the panic prints uses it.
void check(Pfn pfn) {
    u32 wrong_at = kWords, found = 0, want = 0;
    {
        IrqGuard guard;
        with_private_slot(pfn, [&](VirtAddr va) {
            const u32 first = hal::load<u32>(va), last = hal::load<u32>(va + (kWords - 1) * 4);
            if (first != mark(pfn) && last != mark(pfn)) return;
            for (u32 i = 0; i < kWords && wrong_at == kWords; ++i) {
                want = i == 0 || i == kWords - 1 ? mark(pfn) : kPoison;
                found = hal::load<u32>(va + i * 4);
                if (found != want) wrong_at = i;
            }
            // Erases the mark: an owner that never writes the frame must not leave the mark of a freed frame in it.
            hal::store<u32>(va, 0u);
            hal::store<u32>(va + (kWords - 1) * 4, 0u);
        });
    }
    if (wrong_at != kWords)
        panic("frame {} was written after it was freed: offset {:x} holds {:08x}, not {:08x}", pfn, wrong_at * 4, found,
              want);
}

} // namespace

void debug_frame_freed(Pfn pfn, u32 order) {
    for (u32 i = 0; i < 1u << order; ++i) {
        if (local_maps_frame(pfn + i)) panic("free of frame {}: a local mapping still shows it", pfn + i);
        if (vmap_maps_frame(pfn + i)) panic("free of frame {}: a vmap area still shows it", pfn + i);
        poison(pfn + i);
    }
}

void debug_check_poison(Pfn pfn, u32 order) {
    for (u32 i = 0; i < 1u << order; ++i)
        check(pfn + i);
}

} // namespace loft
