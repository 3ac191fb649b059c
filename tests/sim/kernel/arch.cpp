// The functions of arch/i386, kernel/report and kernel/devices that the kernel's sources in thread-tests call, on the
// simulated machine. Contracts: the headers included here.
#include "tests/sim/kernel/arch.hpp"
#include "arch/base/panic.hpp"
#include "arch/i386/cpu/features.hpp"
#include "arch/i386/cpu/fpu.hpp"
#include "arch/i386/cpu/image.hpp"
#include "arch/i386/cpu/probe.hpp"
#include "arch/i386/cpu/switch.hpp"
#include "arch/i386/cpu/tls.hpp"
#include "arch/i386/io/power.hpp"
#include "arch/i386/irq/ipi.hpp"
#include "arch/i386/irq/lapic.hpp"
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/isa/control.hpp"
#include "arch/i386/isa/extable.hpp"
#include "kernel/devices/disks.hpp"
#include "kernel/report/panic.hpp"
#include "kernel/report/symbols.hpp"
#include "tests/sim/explorer.hpp"
#include "tests/sim/machine.hpp"
#include "tests/sim/stacks.hpp"

#include <array>
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

// The addresses of the image's parts are never accessed.
char __boot_stack_guard[1], __boot_stack_top[1], __df_stack_guard[1];
char __text_begin[1], __text_end[1], __rodata_begin[1], __rodata_end[1], __data_begin[1], __data_end[1];

// --- the registers of programs
namespace {
struct UserRegisters {
    FpuState fpu;
    bool fpu_on; // CR0.TS is clear
    TlsDescriptors tls;
};
constinit UserRegisters registers[config::kMaxCpus]{};
UserRegisters& mine() { return registers[sim::machine().current().value()]; }
} // namespace
void fpu_reset(FpuState& state) { state = FpuState{}; }
void fpu_save(FpuState* state) { *state = mine().fpu; }
void fpu_load(const FpuState* state) {
    mine().fpu = *state;
    mine().fpu_on = true;
}
void fpu_off() { mine().fpu_on = false; }
u32 fpu_usable(u32 features) { return features; }
void load_tls(const TlsDescriptors& descriptors) { mine().tls = descriptors; }
u8& sim::fpu_register() {
    if (!mine().fpu_on) throw BadAccess{"a program uses the FPU, which is off"};
    return mine().fpu.bytes[0];
}
const TlsDescriptors& sim::tls_registers() { return mine().tls; }
const CpuIdentity& identify_cpu() {
    static const CpuIdentity none{};
    return none;
}

// --- interrupts and time
namespace {
constinit std::array<u32, config::kMaxCpus> apic_of = [] {
    std::array<u32, config::kMaxCpus> ids{};
    for (u32 cpu = 0; cpu < config::kMaxCpus; ++cpu)
        ids[cpu] = cpu;
    return ids;
}();
}
u32 cpu_lapic_id(CpuId cpu) { return apic_of[cpu.value()]; }
void set_cpu_lapic_id(CpuId cpu, u32 id) { apic_of[cpu.value()] = id; }
void send_reschedule(CpuId cpu) {
    sim::schedule_point(sim::Point::ipi);
    sim::explore_send(sim::cpu_with_apic(cpu_lapic_id(cpu)), sim::Interrupt::reschedule);
}
u64 now_us() { return u64{sim::ticks_so_far()} * (1'000'000 / kTicksPerSecond); }
TickHandler timer_set_tick_handler(TickHandler handler) { return std::exchange(tick_handler, handler); }
u64 read_tsc() { return now_us(); }

// --- traps: the faults of user copies are resolved by tests/sim/user.cpp, and nothing here faults as a probe
bool apply_fixup(TrapFrame&) { return false; }
const Fixup* find_user_copy_fixup(u32) { return nullptr; }
bool lapic_end_stray(u32) { return false; }
void smp_stop_if_asked(TrapFrame&) {}
const char* nmi_reason() {
    write_cr2(~read_cr2()); // as a page fault in the handler of the NMI would
    return "of a test";
}

// --- disks: there are none
BlockDevice* find_disk(std::string_view) { return nullptr; }

// --- reports
void panic_at_args(const TrapFrame&, std::optional<VirtAddr>, std::string_view text, std::span<const fmt::Arg> args) {
    panic_args(text, args);
}
void panic_in_nmi(TrapFrame&, std::string_view text) { panic("{}", text); }
void panic_in_double_fault(const TssState&, VirtAddr, std::string_view text) { panic("{}", text); }
void print_code_address(Sink&, u32) {}

void sim::call_tick_handler(TrapFrame& frame) {
    if (tick_handler != nullptr) tick_handler(frame);
}

} // namespace loft
