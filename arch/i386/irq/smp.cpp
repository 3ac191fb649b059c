// Starting the other CPUs. Contract: smp.hpp.
#include "arch/i386/irq/smp.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/cpu/descriptors.hpp"
#include "arch/i386/cpu/features.hpp"
#include "arch/i386/cpu/percpu.hpp"
#include "arch/i386/firmware/topology.hpp"
#include "arch/i386/io/power.hpp"
#include "arch/i386/irq/ipi.hpp"
#include "arch/i386/irq/lapic.hpp"
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/irq/trampoline.hpp"

#include <hal/hal.hpp>

namespace loft {

constinit hal::Atomic<u32> hal::loft_online_cpus{1}; // the boot CPU

using Progress = Ticket::Progress;

namespace {

constinit Ticket tickets[config::kMaxCpus]{}; // never freed: a late CPU may still use its own

constinit const CpuTopology* topology = nullptr;
constinit u8 start_vector = 0;

bool send(u32 lapic_id, IpiKind kind, u8 vector) {
    const u32 flags = hal::irq_save();
    const bool sent = lapic_send(lapic_id, kind, vector);
    hal::irq_restore(flags);
    return sent;
}

// --- The boot CPU's side.

bool is_online(CpuId cpu) { return hal::online_cpus().has(cpu); }

bool wait_until_online(CpuId cpu, u32 milliseconds) {
    const hal::Deadline patience = hal::deadline(milliseconds);
    while (!is_online(cpu)) {
        if (patience.expired()) return false;
        hal::cpu_relax();
    }
    return true;
}

// Sends two start-up interrupts: the first may get lost; a running CPU ignores the second (SDM vol. 3, 8.4.4.1).
bool call_until_online(CpuId cpu, u32 lapic_id) {
    return (send(lapic_id, IpiKind::start_up, start_vector) && wait_until_online(cpu, 1)) ||
           (send(lapic_id, IpiKind::start_up, start_vector) && wait_until_online(cpu, kCpuStartMs));
}

// Between INIT and a start-up interrupt (SDM vol. 3, 8.4.4.1).
void wait_for_reset() {
    const hal::Deadline reset = hal::deadline(10);
    while (!reset.expired())
        hal::cpu_relax();
}

// Withdraws the ticket, and finds out whether a CPU has taken it and what became of that CPU.
CpuStart withdraw(Ticket& ticket) {
    if (trampoline_withdraw()) return CpuStart::absent;
    if (wait_until_online(ticket.cpu.load(), kCpuStartMs)) return CpuStart::online;
    Progress expected = Progress::expected;
    if (ticket.progress.compare_exchange(expected, Progress::given_up) || expected == Progress::unsuitable)
        return CpuStart::stuck;
    return CpuStart::online;
}

// Times are compared between CPUs, so their TSCs must agree.
void check_clock(const Ticket& ticket, u64 before, u64 after) {
    if (ticket.arrival >= before && ticket.arrival <= after) return;
    log(LogLevel::warn, "smp", "the time-stamp counter of CPU {} differs from the boot CPU's: times are wrong there",
        ticket.cpu.load());
}

// Starts the CPU of the ticket, whose hardware has this APIC id.
CpuStart start_by_ticket(Ticket& ticket, u32 lapic_id) {
    const CpuId cpu = ticket.cpu.load();
    descriptors_prepare(cpu, VirtAddr{ticket.stack_top.load()}, ticket.double_fault_stack_top);
    ticket.progress.store(Progress::expected);

    const u64 before = read_tsc();
    trampoline_offer(ticket);
    const CpuStart result = call_until_online(cpu, lapic_id) ? CpuStart::online : withdraw(ticket);
    switch (result) {
    case CpuStart::online:
        check_clock(ticket, before, read_tsc());
        break;
    case CpuStart::absent:
        ticket.progress.store(Progress::none);
        log(LogLevel::warn, "smp", "CPU {} (APIC id {}) did not start within {} ms: it is left out", cpu, lapic_id,
            kCpuStartMs);
        break;
    case CpuStart::stuck:
        log(LogLevel::warn, "smp", "CPU {} (APIC id {}) started, but {}: it is left out", cpu, lapic_id,
            ticket.progress.load() == Progress::unsuitable ? "lacks a feature of the boot CPU" : "got stuck");
        break;
    }
    return result;
}

} // namespace

// --- On the starting CPU.

extern "C" void ap_entry(Ticket* ticket) {
    ticket->arrival = read_tsc();
    const CpuId cpu = ticket->cpu.load();
    descriptors_load(cpu); // before this an exception is a triple fault
    if (!enable_features_like_boot_cpu()) {
        ticket->progress.store(Progress::unsuitable);
        halt_forever();
    }
    lapic_init_cpu();
    lapic_leave_virtual_wire(*topology);
    set_cpu_lapic_id(cpu, lapic_id()); // may differ from the called one: smp.hpp

    Progress expected = Progress::expected;
    if (!ticket->progress.compare_exchange(expected, Progress::online)) halt_forever();
    hal::loft_online_cpus.fetch_or(CpuSet::only(cpu).bits());
    hal::flush_all(); // hal/ipi.hpp
    timer_start_cpu();
    ap_main(cpu);
}

// --- Contract: smp.hpp.

void smp_init() {
    set_cpu_lapic_id(CpuId{0}, lapic_id());
    ipi_init();
}

void smp_prepare(const CpuTopology& all, PhysAddr page, u32 cpus) {
    LOFT_ASSERT(page.page_offset() == 0 && page.value() < MiB);
    LOFT_ASSERT(cpus <= all.lapic_ids.size());
    topology = &all;
    start_vector = trampoline_prepare(page);
    for (u32 cpu = 1; cpu < cpus; ++cpu)
        send(all.lapic_ids[cpu], IpiKind::init, 0);
    wait_for_reset();
}

CpuStart start_cpu(const CpuBirth& birth) {
    const CpuId cpu = birth.cpu;
    Ticket& ticket = tickets[cpu.value()];
    LOFT_ASSERT(percpu_exists(cpu) && ticket.progress.load() == Progress::none);
    ticket.root.store(static_cast<u32>(hal::current_root().value()));
    ticket.stack_top.store(birth.stack_top.value());
    ticket.double_fault_stack_top = birth.double_fault_stack_top;
    ticket.cpu.store(cpu);
    return start_by_ticket(ticket, topology->lapic_ids[cpu.value()]);
}

void smp_leave() { hal::loft_online_cpus.fetch_and(~CpuSet::only(hal::this_cpu()).bits()); }

void smp_reset(CpuId cpu) {
    tickets[cpu.value()].progress.store(Progress::none);
    send(cpu_lapic_id(cpu), IpiKind::init, 0);
    wait_for_reset();
}

CpuStart start_cpu_again(CpuId cpu) {
    Ticket& ticket = tickets[cpu.value()];
    if (ticket.progress.load() != Progress::none) return CpuStart::stuck;
    const CpuStart result = start_by_ticket(ticket, cpu_lapic_id(cpu));
    if (result == CpuStart::absent) smp_reset(cpu); // if it comes late, it finds no ticket, and halts
    return result;
}

} // namespace loft
