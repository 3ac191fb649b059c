// Starting and stopping CPUs. Contract: smp.hpp.
#include "arch/i386/irq/smp.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/cpu/descriptors.hpp"
#include "arch/i386/cpu/features.hpp"
#include "arch/i386/cpu/image.hpp"
#include "arch/i386/cpu/percpu.hpp"
#include "arch/i386/cpu/probe.hpp"
#include "arch/i386/firmware/topology.hpp"
#include "arch/i386/io/power.hpp"
#include "arch/i386/irq/ipi.hpp"
#include "arch/i386/irq/lapic.hpp"
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/irq/traps.hpp"

#include <hal/hal.hpp>

#include <cstddef>
#include <cstring>

namespace loft {

constinit hal::Atomic<u32> hal::loft_online_cpus{1}; // the boot CPU

namespace {

// --- Data of boot/trampoline.asm.

enum class Progress : u32 { none, expected, online, given_up, unsuitable };

// Tells a starting CPU which CPU it becomes. Tickets are never freed: a late CPU may still use one.
struct Ticket {
    u32 root;      // ap_start_high reads these two
    u32 stack_top; //
    CpuId cpu;
    hal::Atomic<Progress> progress;
    u64 arrival; // time-stamp counter of that CPU
};
static_assert(offsetof(Ticket, root) == 0 && offsetof(Ticket, stack_top) == 4);
constinit Ticket tickets[config::kMaxCpus]{};

// The end of the trampoline.
struct TrampolineData {
    hal::Atomic<u32> ticket; // the address of a Ticket, or 0
    u32 cr0, cr4, root, has_efer, efer;
};
extern "C" {
extern const char trampoline[], trampoline_end[];
extern const u32 trampoline_data_offset;
extern hal::PteCell boot_root[]; // boot/paging.asm
}

constinit const CpuTopology* topology = nullptr;
constinit TrampolineData* trampoline_data = nullptr;
constinit u8 start_vector = 0; // page number of the trampoline

hal::PteCell* table_at(PhysAddr phys) {
    return reinterpret_cast<hal::PteCell*>(kDirectMapBase + static_cast<u32>(phys.value()));
}

// The tables on which a CPU turns paging on: the first 16 MiB identity-mapped, as boot/paging.asm made them for the
// boot CPU, and the kernel's part of the current tables.
PhysAddr trampoline_root() {
    hal::PteCell* const kernel = table_at(hal::current_root());
    for (u32 i = paging::kRootEntries * 3 / 4; i < paging::kRootEntries; ++i)
        hal::pte_set(boot_root + i, hal::pte_read(kernel + i));
    return PhysAddr{u64{image_addr(boot_root).value() - kDirectMapBase}};
}

void copy_trampoline(PhysAddr page) {
    char* const to = reinterpret_cast<char*>(table_at(page));
    std::memcpy(to, trampoline, static_cast<u32>(trampoline_end - trampoline));
    trampoline_data = reinterpret_cast<TrampolineData*>(to + trampoline_data_offset);
    trampoline_data->ticket.store(0);
    trampoline_data->cr0 = read_cr0();
    trampoline_data->cr4 = read_cr4() & ~kOptionalCr4; // ap_entry sets them, if the CPU has them
    trampoline_data->root = static_cast<u32>(trampoline_root().value());
    u64 efer = 0;
    trampoline_data->has_efer = probe_read_msr(msr::efer, efer);
    trampoline_data->efer = static_cast<u32>(efer);
    start_vector = static_cast<u8>(page.pfn().value());
}

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

// Withdraws the ticket, and finds out whether a CPU has taken it and what became of that CPU.
CpuStart withdraw(Ticket& ticket) {
    if (trampoline_data->ticket.exchange(0) != 0) return CpuStart::absent;
    if (wait_until_online(ticket.cpu, kCpuStartMs)) return CpuStart::online;
    Progress expected = Progress::expected;
    if (ticket.progress.compare_exchange(expected, Progress::given_up) || expected == Progress::unsuitable)
        return CpuStart::stuck;
    return CpuStart::online;
}

// Times are compared between CPUs, so their TSCs must agree.
void check_clock(const Ticket& ticket, u64 before, u64 after) {
    if (ticket.arrival >= before && ticket.arrival <= after) return;
    log(LogLevel::warn, "smp", "the time-stamp counter of CPU {} differs from the boot CPU's: times are wrong there",
        ticket.cpu);
}

// --- On the starting CPU: on its own stack and the kernel's page tables, without descriptors yet.

extern "C" [[noreturn]] void ap_entry(Ticket* ticket) {
    ticket->arrival = read_tsc();
    const CpuId cpu = ticket->cpu;
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

// --- Stopping.

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

void smp_init() {
    set_cpu_lapic_id(CpuId{0}, lapic_id());
    ipi_init();
}

void smp_prepare(const CpuTopology& all, PhysAddr page, u32 cpus) {
    LOFT_ASSERT(page.page_offset() == 0 && page.value() < MiB);
    LOFT_ASSERT(cpus <= all.lapic_ids.size());
    topology = &all;
    copy_trampoline(page);
    for (u32 cpu = 1; cpu < cpus; ++cpu)
        send(all.lapic_ids[cpu], IpiKind::init, 0);
    const hal::Deadline reset = hal::deadline(10);
    while (!reset.expired())
        pause();
}

CpuStart start_cpu(const CpuBirth& birth) {
    const CpuId cpu = birth.cpu;
    const u32 lapic_id = topology->lapic_ids[cpu.value()];
    Ticket& ticket = tickets[cpu.value()];
    LOFT_ASSERT(percpu_exists(cpu) && ticket.progress.load() == Progress::none);
    descriptors_prepare(cpu, birth.stack_top, birth.double_fault_stack_top);
    ticket.root = static_cast<u32>(hal::current_root().value());
    ticket.stack_top = birth.stack_top.value();
    ticket.cpu = cpu;
    ticket.progress.store(Progress::expected);

    const u64 before = read_tsc();
    trampoline_data->ticket.exchange(reinterpret_cast<u32>(&ticket));
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

CpuSet stop_other_cpus(u32 milliseconds) {
    if constexpr (!config::kSmp) return {};
    become_the_stopper();
    const CpuSet others = hal::online_cpus().without(hal::this_cpu());
    asked_to_stop.fetch_or(others.bits());
    others.for_each([](CpuId cpu) { send(cpu_lapic_id(cpu), IpiKind::nmi, 0); });

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
