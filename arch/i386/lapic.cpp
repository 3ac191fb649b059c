// The local APIC. Contract: lapic.hpp.
#include "arch/i386/lapic.hpp"

#include "arch/i386/control.hpp"
#include "arch/i386/traps.hpp"

#include <hal/atomic.hpp>
#include <hal/clock.hpp>

namespace loft {
namespace {

// Offsets of the registers (SDM vol. 3, table 10-1).
enum class Register : u32 {
    id = 0x20,
    task_priority = 0x80,
    end_of_interrupt = 0xb0,
    spurious = 0xf0,
    error_status = 0x280,
    command_low = 0x300,
    command_high = 0x310,
    lvt_timer = 0x320,
    lvt_lint0 = 0x350,
    lvt_lint1 = 0x360,
    lvt_error = 0x370,
    timer_initial = 0x380,
    timer_current = 0x390,
    timer_divide = 0x3e0,
};

constexpr u32 kSoftwareEnable = 1 << 8;                      // 10.9
constexpr u32 kMasked = 1 << 16, kPeriodic = 1 << 17;        // 10.5.1
constexpr u32 kDeliverNmi = 4 << 8, kDeliverExtInt = 7 << 8; //
constexpr u32 kActiveLow = 1 << 13;                          //
constexpr u32 kDeliveryPending = 1 << 12, kAssert = 1 << 14; // 10.6.1
constexpr u32 kSendMs = 100;
constexpr u32 kDivideBy16 = 0x3;                             // 10.5.4
constexpr u64 kBaseEnabled = 1 << 11, kBaseX2Apic = 1 << 10; // APIC base MSR, 10.4.4
constexpr u64 kBaseAddress = 0x000f'ffff'ffff'f000;

constinit VirtAddr registers{};
constinit hal::Atomic<u32> errors{};

volatile u32& reg(Register r) {
    return *reinterpret_cast<volatile u32*>(registers.value() + static_cast<u32>(r));
}

// From x2APIC mode, where there are no registers in memory, the only way leads through "disabled" (10.12.5).
void enable_xapic() {
    u64 base = read_msr(msr::apic_base);
    if (base & kBaseX2Apic) {
        base &= ~(kBaseX2Apic | kBaseEnabled);
        write_msr(msr::apic_base, base);
    }
    write_msr(msr::apic_base, base | kBaseEnabled);
}

// A spurious interrupt has no bit in service and takes no end of interrupt (10.9).
void on_spurious(TrapFrame&) { note_spurious_interrupt(); }

void on_error(TrapFrame&) {
    reg(Register::error_status) =
        0; // a write makes the register show what happened since the last one (10.5.3)
    errors.fetch_add(1);
    lapic_eoi();
}

} // namespace

PhysAddr lapic_phys_base() { return PhysAddr{read_msr(msr::apic_base) & kBaseAddress}; }

void lapic_init(VirtAddr mapped) {
    registers = mapped;
    trap_set_handler(vector::lapic_spurious, on_spurious);
    trap_set_handler(vector::lapic_error, on_error);
    lapic_init_cpu();
    // "Virtual wire": the 8259 goes on working through LINT0 (MultiProcessor Specification 1.4, 3.6.2.2).
    reg(Register::lvt_lint0) = kDeliverExtInt;
}

void lapic_init_cpu() {
    enable_xapic();
    reg(Register::task_priority) = 0; // let everything through
    reg(Register::spurious) = kSoftwareEnable | vector::lapic_spurious;
    reg(Register::lvt_lint0) = kMasked;
    reg(Register::lvt_lint1) = kDeliverNmi;
    reg(Register::lvt_timer) = kMasked;
    reg(Register::lvt_error) = vector::lapic_error;
    lapic_eoi(); // of an interrupt that the firmware may have left in service
}

void lapic_leave_virtual_wire(const CpuTopology& topology) {
    reg(Register::lvt_lint0) = kMasked;
    if (!topology.local_nmis.empty()) reg(Register::lvt_lint1) = kMasked;
    for (const CpuTopology::LocalNmi& nmi : topology.local_nmis) {
        if (nmi.lapic_id != CpuTopology::LocalNmi::kEvery && nmi.lapic_id != lapic_id()) continue;
        // The trigger bit stays 0: an NMI is always edge triggered (10.5.1).
        reg(nmi.pin == 0 ? Register::lvt_lint0 : Register::lvt_lint1) =
            kDeliverNmi | (nmi.mode.active_low() ? kActiveLow : 0);
    }
}

bool lapic_ready() { return registers != VirtAddr{}; }
u32 lapic_id() { return reg(Register::id) >> 24; }
void lapic_eoi() { reg(Register::end_of_interrupt) = 0; }

void lapic_timer_count_down() {
    reg(Register::lvt_timer) = kMasked;
    reg(Register::timer_divide) = kDivideBy16;
    reg(Register::timer_initial) = kLapicTimerFull;
}

u32 lapic_timer_left() { return reg(Register::timer_current); }

bool lapic_send(u32 lapic_id, IpiKind kind, u8 vector) {
    const hal::Deadline patience = hal::deadline(kSendMs);
    while (reg(Register::command_low) & kDeliveryPending) {
        if (patience.expired()) return false;
        pause();
    }
    reg(Register::command_high) = lapic_id << 24;
    reg(Register::command_low) = kAssert | static_cast<u32>(kind) | vector; // this write sends
    return true;
}

u32 lapic_errors() { return errors.load(); }

void lapic_timer_start_periodic(u32 count) {
    reg(Register::lvt_timer) = kPeriodic | vector::lapic_timer;
    reg(Register::timer_divide) = kDivideBy16;
    reg(Register::timer_initial) = count;
}
void lapic_timer_stop() { reg(Register::lvt_timer) = kMasked; }

} // namespace loft
