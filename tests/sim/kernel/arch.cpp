// The functions of arch/i386 and kernel/report that kernel/threads calls, on the simulated machine. Contracts: the
// headers included here.
#include "tests/sim/kernel/arch.hpp"
#include "arch/base/panic.hpp"
#include "arch/i386/cpu/fpu.hpp"
#include "arch/i386/cpu/image.hpp"
#include "arch/i386/cpu/switch.hpp"
#include "arch/i386/cpu/tls.hpp"
#include "arch/i386/irq/ipi.hpp"
#include "arch/i386/irq/timer.hpp"
#include "kernel/report/nmi.hpp"
#include "tests/sim/explorer.hpp"
#include "tests/sim/machine.hpp"
#include "tests/sim/stacks.hpp"

#include <utility>

namespace loft {
namespace {
TickHandler tick_handler = nullptr;
}

// --- stacks
void switch_stack(u32* from, u32 to) { sim::switch_stack(from, to); }
u32 prepare_stack(VirtAddr top, void (*entry)(void*), void* argument) {
    return sim::prepare_stack(top.value(), entry, argument);
}
void set_kernel_stack(VirtAddr top) { sim::set_kernel_stack(top.value()); }

// The addresses of the boot stacks are never accessed.
char __boot_stack_guard[1], __boot_stack_top[1], __df_stack_guard[1];

// --- programs: there are none, so their registers are never used
void fpu_save(FpuState*) { panic("no thread here has FPU registers"); }
void fpu_load(const FpuState*) { panic("no thread here has FPU registers"); }
void fpu_off() { panic("no thread here has FPU registers"); }
void load_tls(const TlsDescriptors&) { panic("no thread here has segments"); }

// --- interrupts and time
void send_reschedule(CpuId cpu) {
    sim::schedule_point(sim::Point::ipi);
    sim::explore_send(cpu, sim::Interrupt::reschedule);
}
u64 now_us() { return u64{sim::ticks_so_far()} * (1'000'000 / kTicksPerSecond); }
TickHandler timer_set_tick_handler(TickHandler handler) { return std::exchange(tick_handler, handler); }
void nmi_report() {}

void sim::call_tick_handler(TrapFrame& frame) {
    if (tick_handler != nullptr) tick_handler(frame);
}

} // namespace loft
