// Initial stacks for switch_stack (switch.asm). Contract: switch.hpp.
#include "arch/i386/cpu/switch.hpp"

namespace loft {
namespace {
// The first frame of a stack, lowest address first: the registers that switch_stack pops, its return address, and the
// words for begin_on_stack (switch.asm).
struct FirstFrame {
    u32 edi, esi, ebx;
    u32 ebp;      // 0: end of the chain of frame pointers
    u32 eip;      // begin_on_stack
    u32 entry;    //
    u32 argument; //
    // Not used. The TrapFrame of a trap between the two instructions of begin_on_stack has its last word here. Only a
    // trap from ring 3 pushes that word, but a compiler may read every word of an object before it knows which count.
    u32 room;
};
extern "C" void begin_on_stack();
} // namespace

u32 prepare_stack(VirtAddr top, void (*entry)(void*), void* argument) {
    auto* const frame = reinterpret_cast<FirstFrame*>(top.value()) - 1;
    *frame = {.edi = 0,
              .esi = 0,
              .ebx = 0,
              .ebp = 0,
              .eip = reinterpret_cast<u32>(&begin_on_stack),
              .entry = reinterpret_cast<u32>(entry),
              .argument = reinterpret_cast<u32>(argument),
              .room = 0};
    return reinterpret_cast<u32>(frame);
}

} // namespace loft
