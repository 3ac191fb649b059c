// Interrupts between CPUs. Contract: ipi.hpp, hal/ipi.hpp.
#include "arch/i386/irq/ipi.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/irq/lapic.hpp"
#include "arch/i386/irq/traps.hpp"

#include <hal/ipi.hpp>

namespace loft {
namespace {

// The two halves of the interrupt command register are one message: interrupts are off in between.
void send(CpuId cpu, u8 vector) {
    const u32 flags = hal::irq_save();
    if (!lapic_send(cpu_lapic_id(cpu), IpiKind::fixed, vector))
        panic("the local APIC of CPU {} does not send: interrupt {:02x} for CPU {} is waiting behind another",
              hal::this_cpu(), vector, cpu);
    hal::irq_restore(flags);
}

// Acknowledged first: a request that arrives while this one is handled must raise a new interrupt.
void on_reschedule(TrapFrame&) {
    lapic_eoi();
    reschedule_interrupt();
}
void on_call(TrapFrame&) {
    lapic_eoi();
    remote_answer();
}

} // namespace

void ipi_init() {
    trap_set_handler(vector::ipi_reschedule, on_reschedule);
    trap_set_handler(vector::ipi_call, on_call);
}

void send_reschedule(CpuId cpu) { send(cpu, vector::ipi_reschedule); }
void hal::interrupt_cpu(CpuId cpu) { send(cpu, vector::ipi_call); }

} // namespace loft
