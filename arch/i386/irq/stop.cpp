// Stopping the other CPUs. Contract: stop.hpp.
#include "arch/i386/irq/stop.hpp"

#include "arch/i386/cpu/trap_frame.hpp"
#include "arch/i386/io/power.hpp"
#include "arch/i386/irq/lapic.hpp"
#include "arch/i386/irq/traps.hpp"
#include "arch/i386/isa/control.hpp"

#include <hal/hal.hpp>

namespace loft {
namespace {

constinit hal::Atomic<u32> stopper{};       // CPU + 1
constinit hal::Atomic<u32> asked_to_stop{}; // a CpuSet

// Two CPUs that stopped each other would both be silent: only the first one goes on.
void become_the_stopper() {
    const u32 me = hal::this_cpu().value() + 1;
    u32 expected = 0;
    if (stopper.compare_exchange(expected, me) || expected == me) return;
    for (;;)
        pause(); // the stopper's NMI will arrive
}

} // namespace

CpuSet stop_other_cpus(u32 milliseconds) {
    if constexpr (!config::kSmp) return {};
    become_the_stopper();
    const CpuSet others = hal::online_cpus().without(hal::this_cpu());
    asked_to_stop.fetch_or(others.bits());
    const u32 flags = hal::irq_save();
    others.for_each([](CpuId cpu) { lapic_send(cpu_lapic_id(cpu), IpiKind::nmi, 0); });
    hal::irq_restore(flags);

    const hal::Deadline patience = hal::deadline(milliseconds);
    const auto running = [others] { return hal::online_cpus().bits() & others.bits(); };
    while (running() != 0 && !patience.expired())
        pause();
    return CpuSet::from_bits(running());
}

void smp_stop_if_asked(TrapFrame& frame) {
    const CpuSet me = CpuSet::only(hal::this_cpu());
    if ((asked_to_stop.load() & me.bits()) == 0) return;
    nmi_stop(frame);
    hal::loft_online_cpus.fetch_and(~me.bits());
    halt_forever();
}

} // namespace loft
