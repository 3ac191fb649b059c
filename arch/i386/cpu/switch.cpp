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
              .argument = reinterpret_cast<u32>(argument)};
    return reinterpret_cast<u32>(frame);
}

} // namespace loft
