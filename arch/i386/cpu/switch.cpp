// New stacks for switch_stack (switch.asm). Contract: switch.hpp.
#include "arch/i386/cpu/switch.hpp"

namespace loft {
namespace {
// The first frame of a stack, lowest address first: what switch_stack pops, where it returns to, and what the
// code there (switch.asm) pops.
struct FirstFrame {
    u32 edi, esi, ebx;
    u32 ebp;      // 0: where a walk over frame pointers ends
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
