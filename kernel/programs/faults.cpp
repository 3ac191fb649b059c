// Exception handlers: turn a fault of the kernel into a panic that names the violated rule of the address map.
//
// Faults that a probe expects do not get here (arch/i386/cpu/probe.hpp). For a fault in ring 3, the page is supplied
// from an area of the program, or the program is killed and one line is logged. A fault in ring 0 is resolved only in a
// user copy (arch/i386/irq/traps.cpp); every other one is a bug.
#include "kernel/programs/faults.hpp"

#include "arch/i386/cpu/descriptors.hpp"
#include "arch/i386/cpu/image.hpp"
#include "arch/i386/irq/traps.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/programs/process.hpp"
#include "kernel/programs/syscalls.hpp"
#include "kernel/report/nmi.hpp"
#include "kernel/report/panic.hpp"
#include "kernel/threads/scheduler.hpp"
#include "kernel/threads/thread.hpp"
#include "mm/ground/context.hpp"
#include "mm/ground/layout.hpp"
#include "mm/windows/interrupt_context.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/pkmap.hpp"
#include "mm/windows/vmap.hpp"

namespace loft {
namespace {

constexpr u32 kNullRange = 64 * KiB; // address of a member of a null object

bool inside(VirtAddr va, const char* begin, const char* end) { return va >= image_addr(begin) && va < image_addr(end); }

const char* region_name(VirtAddr va) {
    if (inside(va, __text_begin, __text_end)) return "kernel text";
    if (inside(va, __rodata_begin, __rodata_end)) return "kernel rodata";
    if (inside(va, __data_begin, __data_end)) return "kernel data";
    for (const layout::Region& region : layout::regions())
        if (va.value() >= region.begin && va.value() <= region.last) return region.name;
    return "no region";
}

// The faulting access. Each explain_ function panics if the address lies in its region.
struct Access {
    const TrapFrame& frame;
    VirtAddr address;

    bool has(u32 bit) const { return (frame.error & bit) != 0; }
    const char* verb() const {
        return has(page_fault_error::fetch) ? "fetch" : has(page_fault_error::write) ? "write" : "read";
    }
    template <typename... Args> [[noreturn]] void violates(std::string_view text, const Args&... args) const {
        panic_at(frame, address, text, args...);
    }
};

// Without SMEP and SMAP only what is not mapped, or not writable, faults here.
void explain_user_address(const Access& access) {
    const VirtAddr va = access.address;
    if (va.value() >= layout::kUserEnd) return;
    if (va.value() < kNullRange) access.violates("null pointer dereference: {} of {}", access.verb(), va);
    const bool mapped = access.has(page_fault_error::present);
    if (access.has(page_fault_error::fetch))
        access.violates("the kernel executed user memory: fetch from {}{}", va,
                        mapped && (read_cr4() & cr4_bit::smep) ? ", which SMEP forbids" : "");
    access.violates("the kernel accessed user memory outside a user copy: {} of {}{}", access.verb(), va,
                    mapped && (read_cr4() & cr4_bit::smap) ? ", which SMAP forbids" : "");
}

void explain_protection(const Access& access) {
    if (!access.has(page_fault_error::present)) return;
    if (access.has(page_fault_error::fetch))
        access.violates("execution of data: fetch from {} ({}), which is not executable", access.address,
                        region_name(access.address));
    if (access.has(page_fault_error::write))
        access.violates("write to read-only memory: {} ({})", access.address, region_name(access.address));
    access.violates("protection fault: {} of {} ({}), error code {:x}", access.verb(), access.address,
                    region_name(access.address), access.frame.error);
}

void explain_local_window(const Access& access) {
    const LocalFault fault = local_fault(access.address);
    switch (fault.kind) {
    case LocalFault::Kind::none:
        return;
    case LocalFault::Kind::released:
        if (fault.last.value() != 0)
            access.violates("use after kunmap_local: {} of {}, slot {} of CPU {}, which last showed frame {}",
                            access.verb(), access.address, fault.slot, fault.cpu, fault.last);
        access.violates("use of a local slot that is not mapped: {} of {}, slot {} of CPU {}", access.verb(),
                        access.address, fault.slot, fault.cpu);
    case LocalFault::Kind::guard:
        access.violates("overrun past a local mapping: {} of {}, in the guard page next to slot {} of CPU {}",
                        access.verb(), access.address, fault.slot, fault.cpu);
    case LocalFault::Kind::foreign:
        access.violates("use of another context's local mapping: {} of {}, slot {} of CPU {}", access.verb(),
                        access.address, fault.slot, fault.cpu);
    }
}

void explain_vmap(const Access& access) {
    const VmapFault fault = vmap_fault(access.address);
    switch (fault.kind) {
    case VmapFault::Kind::none:
    case VmapFault::Kind::mapped:
        return;
    case VmapFault::Kind::guard:
        access.violates("overrun past a vmap area: {} of {}, in the guard page behind the {} pages at {}",
                        access.verb(), access.address, fault.pages, fault.area);
    case VmapFault::Kind::lazy:
        access.violates("use after vunmap: {} of {}, in the {} pages that were at {}", access.verb(), access.address,
                        fault.pages, fault.area);
    case VmapFault::Kind::unused:
        access.violates("{} of {}: no vmap area is there", access.verb(), access.address);
    }
}

void explain_pkmap(const Access& access) {
    const u32 offset = access.address.value() - layout::kPkmapBase;
    if (!config::kHighMem || offset >= layout::kPkmapSize) return;
    const u32 slot = offset >> kPageShift;
    access.violates("use of a kmap slot that is not mapped: {} of {}, slot {} (count {})", access.verb(),
                    access.address, slot, pkmap_count(slot));
}

void page_fault(TrapFrame& frame) {
    const Access access{frame, VirtAddr{read_cr2()}};
    const VirtAddr va = access.address;

    if (access.has(page_fault_error::reserved_bit))
        access.violates("broken page table: a reserved bit is set in the walk of {}", va);
    explain_user_address(access);
    explain_protection(access);
    if (in_stack_guard(va)) access.violates("{} of {}, the guard page below a kernel stack", access.verb(), va);
    explain_local_window(access);
    explain_pkmap(access);
    explain_vmap(access);
    if (va >= layout::direct_map_end() && va.value() < layout::boundaries.vmap_begin)
        access.violates("overrun of the direct map: {} of {}, in the hole behind it", access.verb(), va);
    access.violates("page fault: {} of {} ({}), nothing is mapped there", access.verb(), va, region_name(va));
}

// --- Programs.

// Logs one line and ends the program.
template <typename... Args>
void kill_program(Signal signal, const TrapFrame& frame, std::string_view text, const Args&... args) {
    const Process& process = *current_process();
    BufferSink<200> why;
    format(why, text, args...);
    log(LogLevel::notice, "user", "{}[{}] is killed at {:08x}: {}", process.name_view(), process.pid, frame.eip,
        why.view());
    process_end(WaitStatus::killed(signal));
}

void program_page_fault(TrapFrame& frame, VirtAddr va) {
    if (frame.error & page_fault_error::reserved_bit)
        panic_at(frame, va, "broken page table: a reserved bit is set in the walk of {}", va);
    const FaultAccess wanted = fault_access(frame.error);
    // An access of the processor in the kernel's name, which SMAP forbids: resolving it would change nothing, and it
    // would come again for ever. Processors make none to a program's page (SDM vol. 3, 4.6); QEMU does, for an IRET of
    // a program (anchors.md).
    constexpr u32 kRights = page_fault_error::present | page_fault_error::user;
    const bool forbidden = (frame.error & kRights) == page_fault_error::present && va.value() < layout::kUserEnd;
    const FaultResult result = forbidden ? FaultResult::no_access : resolve_user_fault(va, wanted);
    if (result == FaultResult::resolved || must_stop()) return;
    const ProcessWatch& watch = current_process()->watch;
    if (watch.on_fault != nullptr && watch.on_fault(frame, va, watch.argument)) return;
    const char* verb = wanted == FaultAccess::exec ? "fetch" : wanted == FaultAccess::write ? "write" : "read";
    if (result == FaultResult::no_memory)
        kill_program(Signal::kill, frame, "out of memory, for a {} of {}", verb, va);
    else if (va.value() >= layout::kUserEnd)
        kill_program(Signal::segv, frame, "{} of {}, a kernel address", verb, va);
    else if (result == FaultResult::no_page)
        kill_program(Signal::bus, frame, "{} of {}, the file mapped there has no such page", verb, va);
    else if (result == FaultResult::lost)
        kill_program(Signal::bus, frame, "{} of {}, its page was swapped out and cannot be read", verb, va);
    else if (result == FaultResult::no_access)
        kill_program(Signal::segv, frame, "{} of {}, access not permitted", verb, va);
    else
        kill_program(Signal::segv, frame, "{} of {}, nothing is mapped there", verb, va);
}

Signal signal_of(u32 vector) {
    switch (vector) {
    case vector::divide_error:
    case vector::x87_error:
    case vector::simd_error:
        return Signal::fpe;
    case vector::debug:
    case vector::breakpoint:
        return Signal::trap;
    case vector::invalid_opcode:
    case vector::no_fpu:
        return Signal::ill;
    case vector::alignment_check:
        return Signal::bus;
    default:
        return Signal::segv;
    }
}

void enter_context(TrapFrame&, TrapCookie& cookie) {
    static_assert(sizeof(InterruptCookie) <= sizeof(TrapCookie));
    *reinterpret_cast<InterruptCookie*>(&cookie) = interrupt_enter();
}
void leave_context(TrapFrame& frame, const TrapCookie& cookie) {
    interrupt_leave(*reinterpret_cast<const InterruptCookie*>(&cookie));
    preempt_after_trap(frame);
}

} // namespace

void faults_init() {
    trap_set_hooks({enter_context, leave_context});
    trap_set_handler(vector::page_fault, page_fault);
}

void program_trap(TrapFrame& frame) {
    const VirtAddr touched{read_cr2()}; // a later fault of this CPU overwrites CR2
    enable_interrupts();
    if (frame.vector == vector::system_call)
        system_call(frame);
    else if (frame.vector == vector::page_fault)
        program_page_fault(frame, touched);
    else
        kill_program(signal_of(frame.vector), frame, "{}, error code {:x}", trap_name(frame.vector), frame.error);
}

void return_to_user(TrapFrame&) {
    check_return_to_user();
    for (;;) {
        preempt_program();
        if (!must_stop()) return;
        enable_interrupts();
        thread_leave(WaitStatus{}); // the process has its status already
    }
}

void unhandled_trap(TrapFrame& frame) {
    panic_at(frame, std::nullopt, "unhandled {} (vector {}, error code {:x})", trap_name(frame.vector), frame.vector,
             frame.error);
}

void double_fault(const TssState& interrupted) {
    const VirtAddr touched{read_cr2()};
    const VirtAddr stack{interrupted.esp};
    // The push that hit the guard page left its address in CR2; ESP is at or just above it.
    if (in_stack_guard(touched) || in_stack_guard(stack))
        panic_in_double_fault(interrupted, touched, "kernel stack overflow: the stack ran into its guard page");
    panic_in_double_fault(interrupted, touched, "double fault");
}

} // namespace loft
