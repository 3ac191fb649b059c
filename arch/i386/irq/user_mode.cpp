// Initial registers of a program. Contract: user_mode.hpp. enter_user is in trap_entry.asm.
#include "arch/i386/irq/user_mode.hpp"

#include "arch/i386/isa/control.hpp"
#include "arch/i386/isa/selectors.hpp"

namespace loft {

TrapFrame first_user_frame(u32 entry, u32 stack) {
    TrapFrame frame{};
    frame.ds = frame.es = selector::user_data;
    frame.eip = entry;
    frame.cs = selector::user_code;
    frame.eflags = eflags::interrupt | 1u << 1; // bit 1 is always 1
    frame.user_esp = stack;
    frame.user_ss = selector::user_data;
    return frame;
}

} // namespace loft
