// The start of CPUs: the functions of arch/i386 that kernel/boot/smp.cpp and arch/i386/irq/smp.cpp call. Contracts: the
// headers included here, and start.hpp.
#include "tests/sim/kernel/start.hpp"

#include "arch/i386/cpu/descriptors.hpp"
#include "arch/i386/cpu/features.hpp"
#include "arch/i386/cpu/percpu.hpp"
#include "arch/i386/io/power.hpp"
#include "arch/i386/irq/ipi.hpp"
#include "arch/i386/irq/lapic.hpp"
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/irq/trampoline.hpp"
#include "tests/sim/machine.hpp"
#include "tests/sim/stacks.hpp"
#include <hal/ipi.hpp>

#include <cstring>
#include <utility>

namespace loft {
namespace {

struct Starting {
    bool prepared, loaded, has_features, lacks_a_feature, percpu;
    Ticket* ticket; // of this CPU, which another one has found
};
constinit Starting starting[config::kMaxCpus]{};
constinit Ticket* offered = nullptr; // the word of the trampoline's page
constinit bool page_is_ready = false;
constinit u32 exchanged = 0;

constexpr u8 kVector = 8;

Starting& mine() { return starting[sim::machine().current().value()]; }

// The word in memory, which the hardware does not read yet: only to know whose the ticket is.
CpuId owner(const Ticket& ticket) {
    CpuId cpu{};
    static_assert(sizeof ticket.cpu == sizeof cpu);
    std::memcpy(&cpu, static_cast<const void*>(&ticket.cpu), sizeof cpu);
    return cpu;
}

void need(bool so, const char* what) {
    if (!so) throw sim::BadAccess{sim::text("CPU {} {}", sim::machine().current(), what)};
}

} // namespace

// --- the trampoline
u8 trampoline_prepare(PhysAddr) {
    page_is_ready = true;
    return kVector;
}
void trampoline_offer(Ticket& ticket) {
    sim::schedule_point(sim::Point::atomic);
    sim::touch(&offered, true);
    offered = &ticket;
}
bool trampoline_withdraw() {
    sim::schedule_point(sim::Point::atomic);
    sim::touch(&offered, true);
    return std::exchange(offered, nullptr) != nullptr;
}

void sim::start_up_code() {
    Ticket* ticket = nullptr;
    for (;;) {
        ticket = mine().ticket;
        if (ticket != nullptr) break;
        touch(&offered, true);
        ticket = std::exchange(offered, nullptr);
        if (ticket == nullptr) halt_forever();
        const CpuId cpu = owner(*ticket);
        if (cpu == machine().current()) break;
        ++exchanged;
        starting[cpu.value()].ticket = ticket;
        become_cpu(cpu.value());
    }
    const u32 root = ticket->root.load();
    schedule_point(Point::tlb);
    machine().start_here(root);
    const u32 stack_top = ticket->stack_top.load();
    begin_on_stack(stack_top, [ticket] { ap_entry(ticket); });
    std::abort();
}

void sim::kernel_starts_cpus() {
    hal::loft_online_cpus.store(machine().online().bits());
    hal::detail::online_word = &hal::loft_online_cpus;
}
void sim::kernel_starts_no_cpus() { hal::detail::online_word = nullptr; }
bool& sim::lacks_a_feature(CpuId cpu) { return starting[cpu.value()].lacks_a_feature; }
u32 sim::cpus_exchanged() { return exchanged; }

// --- a CPU sets itself up, in this order
void descriptors_prepare(CpuId cpu, VirtAddr, VirtAddr) { starting[cpu.value()].prepared = true; }
void descriptors_load(CpuId cpu) {
    need(cpu == sim::machine().current(), "loads the descriptors of another one");
    need(mine().prepared, "loads descriptors that are not there");
    mine().loaded = true;
}
bool enable_features_like_boot_cpu() {
    need(mine().loaded, "enables features before an exception can be handled");
    return mine().has_features = !mine().lacks_a_feature;
}
void lapic_init_cpu() {
    need(mine().loaded, "turns its local APIC on before an interrupt can be handled");
    sim::schedule_point(sim::Point::ipi);
    sim::listen_to_interrupts();
}
void lapic_leave_virtual_wire(const CpuTopology&) {}
u32 lapic_id() { return sim::apic_here(); }
void timer_start_cpu() {
    need(mine().has_features, "goes on without its features");
    sim::start_ticks();
}
void halt_forever() { sim::stop_cpu(); }

// --- the boot CPU
bool lapic_send(u32 lapic_id, IpiKind kind, u8 vector) {
    sim::schedule_point(sim::Point::ipi);
    if (kind == IpiKind::init) {
        sim::reset_cpu(lapic_id);
        Starting& its = starting[sim::cpu_with_apic(lapic_id).value()];
        its.prepared = its.loaded = its.has_features = false;
    }
    if (kind == IpiKind::start_up) {
        need(page_is_ready && vector == kVector, "calls another one to a page without code");
        sim::call_cpu(lapic_id);
    }
    return true;
}
void ipi_init() {}

// The per-CPU variables of all CPUs are static objects here.
u32 percpu_bytes() { return kPageSize; }
void percpu_adopt(CpuId cpu, VirtAddr) { starting[cpu.value()].percpu = true; }
bool percpu_exists(CpuId cpu) { return cpu == CpuId{0} || starting[cpu.value()].percpu; }

} // namespace loft
