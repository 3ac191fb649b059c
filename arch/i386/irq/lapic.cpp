// The local APIC. Contract: lapic.hpp.
#include "arch/i386/irq/lapic.hpp"

#include "arch/base/near_wrap.hpp"
#include "arch/base/panic.hpp"
#include "arch/i386/irq/traps.hpp"
#include "arch/i386/isa/control.hpp"

#include <hal/atomic.hpp>
#include <hal/clock.hpp>

#include <initializer_list>

namespace loft {
namespace {

constinit u32 id_of[config::kMaxCpus]{};

// Offsets of the registers (SDM vol. 3, table 10-1).
enum class Register : u32 {
    id = 0x20,
    version = 0x30,
    task_priority = 0x80,
    end_of_interrupt = 0xb0,
    spurious = 0xf0,
    in_service = 0x100, // eight words of 32 vectors each, 16 bytes apart
    requests = 0x200,   // likewise
    error_status = 0x280,
    lvt_machine_check = 0x2f0,
    command_low = 0x300,
    command_high = 0x310,
    lvt_timer = 0x320,
    lvt_thermal = 0x330,
    lvt_counters = 0x340,
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
constexpr u32 kDivideBy16 = 0x3;                                                    // 10.5.4
constexpr u64 kBaseEnabled = 1 << 11, kBaseX2Apic = 1 << 10, kBaseBootCpu = 1 << 8; // APIC base MSR, 10.4.4
constexpr u64 kBaseAddress = 0x000f'ffff'ffff'f000;
constexpr PhysAddr kAddress{u64{0xfee0'0000}}; // after a reset
constexpr u32 kVectors = 256;
constexpr u32 kStraysShown = 4;

constinit VirtAddr registers{};
constinit hal::Atomic<u32> errors{near_wrap<u32>()};
constinit hal::Atomic<u32> strays{}; // stays near kStraysShown: if it wrapped, it would show strays again

volatile u32& reg(Register r) { return *reinterpret_cast<volatile u32*>(registers.value() + static_cast<u32>(r)); }

// Enables xAPIC mode at the reset address: all CPUs must have their registers at the same address. From x2APIC mode,
// which has no memory-mapped registers, the only way is through "disabled" (10.12.5).
void enable_xapic() {
    const u64 base = read_msr(msr::apic_base), wanted = kAddress.value() | (base & kBaseBootCpu);
    if (base & kBaseX2Apic) write_msr(msr::apic_base, wanted);
    write_msr(msr::apic_base, wanted | kBaseEnabled);
}

u32 in_service(u32 group) { return reg(static_cast<Register>(static_cast<u32>(Register::in_service) + 0x10 * group)); }

// Masks all interrupt sources; the version register tells how many entries there are beyond the first four (10.4.8).
void mask_all_sources() {
    const u32 last = reg(Register::version) >> 16 & 0xff;
    for (const Register entry : {Register::lvt_timer, Register::lvt_lint0, Register::lvt_lint1, Register::lvt_error})
        reg(entry) = kMasked;
    if (last >= 4) reg(Register::lvt_counters) = kMasked;
    if (last >= 5) reg(Register::lvt_thermal) = kMasked;
    if (last >= 6) reg(Register::lvt_machine_check) = kMasked;
    reg(Register::timer_initial) = 0; // stops the timer
}

// Ends interrupts that earlier software has not ended: each end-of-interrupt clears the highest in-service bit.
void end_all_in_service() {
    const auto any = [] {
        u32 bits = 0;
        for (u32 group = 0; group < kVectors / 32; ++group)
            bits |= in_service(group);
        return bits != 0;
    };
    for (u32 i = 0; i < kVectors && any(); ++i)
        lapic_eoi();
}

// A spurious interrupt sets no in-service bit and needs no end-of-interrupt (10.9).
void on_spurious(TrapFrame&) { note_spurious_interrupt(); }

void on_error(TrapFrame&) {
    reg(Register::error_status) = 0; // a write updates the register with the errors since the last write (10.5.3)
    errors.fetch_add(1);
    lapic_eoi();
}

} // namespace

PhysAddr lapic_phys_base() { return kAddress; }

void lapic_init(VirtAddr mapped) {
    registers = mapped;
    trap_set_handler(vector::lapic_spurious, on_spurious);
    trap_set_handler(vector::lapic_error, on_error);
    const PhysAddr found{read_msr(msr::apic_base) & kBaseAddress};
    lapic_init_cpu();
    if (found != kAddress)
        log(LogLevel::notice, "irq", "the local APIC was at {}: it is put back to {}", found, kAddress);
    // "Virtual wire": the 8259 stays in use through LINT0 (MultiProcessor Specification 1.4, 3.6.2.2).
    reg(Register::lvt_lint0) = kDeliverExtInt;
}

void lapic_init_cpu() {
    enable_xapic();
    mask_all_sources();
    reg(Register::task_priority) = 0; // accept all priorities
    reg(Register::spurious) = kSoftwareEnable | vector::lapic_spurious;
    end_all_in_service();
    reg(Register::error_status) = 0;
    reg(Register::lvt_lint1) = kDeliverNmi;
    reg(Register::lvt_error) = vector::lapic_error;
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
bool lapic_has_pending(u8 vector) {
    const u32 word = static_cast<u32>(Register::requests) + vector / 32 * 16;
    return reg(static_cast<Register>(word)) >> vector % 32 & 1;
}

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

bool lapic_end_stray(u32 vector) {
    if (!lapic_ready() || !(in_service(vector / 32) >> vector % 32 & 1)) return false;
    lapic_eoi();
    if (strays.load() < kStraysShown && strays.fetch_add(1) < kStraysShown)
        log(LogLevel::notice, "irq",
            "interrupt {:02x} has no handler and is dropped: its device was enabled by earlier software", vector);
    return true;
}

u32 lapic_errors() { return errors.load(); }

void lapic_timer_start_periodic(u32 count) {
    reg(Register::lvt_timer) = kPeriodic | vector::lapic_timer;
    reg(Register::timer_divide) = kDivideBy16;
    reg(Register::timer_initial) = count;
}
void lapic_timer_stop() { reg(Register::lvt_timer) = kMasked; }

u32 cpu_lapic_id(CpuId cpu) { return id_of[cpu.value()]; }
void set_cpu_lapic_id(CpuId cpu, u32 id) { id_of[cpu.value()] = id; }

} // namespace loft
