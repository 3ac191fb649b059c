// Panics, failed assertions and refusals.
#include "kernel/report/panic.hpp"

#include "arch/i386/cpu/image.hpp"
#include "arch/i386/cpu/stacktrace.hpp"
#include "arch/i386/io/console.hpp"
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/report/console_sink.hpp"
#include "kernel/report/exit.hpp"
#include "kernel/report/log.hpp"
#include "kernel/report/stopped_cpus.hpp"
#include "kernel/report/symbols.hpp"
#include "mm/ground/context.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/page_walk.hpp"

#include <array>

namespace loft {
namespace {

template <typename... Args> void say(std::string_view text, const Args&... args) {
    ConsoleSink console;
    format(console, text, args...);
    console.write("\n");
}

// The registers that a panic reports.
struct Registers {
    u32 eip = 0, esp = 0, ebp = 0, flags = 0;
    u32 own_depth = 0;    // the part of the interrupt depth that is the reported exception itself
    bool general = false; // the next ones are known, too
    u32 eax = 0, ebx = 0, ecx = 0, edx = 0, esi = 0, edi = 0;
};

Registers registers_of(const TrapFrame& frame, u32 own_depth) {
    return {.eip = frame.eip,
            .esp = frame.esp(),
            .ebp = frame.ebp,
            .flags = frame.eflags,
            .own_depth = own_depth,
            .general = true,
            .eax = frame.eax,
            .ebx = frame.ebx,
            .ecx = frame.ecx,
            .edx = frame.edx,
            .esi = frame.esi,
            .edi = frame.edi};
}

Registers registers_of(const TssState& task) {
    return {.eip = task.eip,
            .esp = task.esp,
            .ebp = task.ebp,
            .flags = task.eflags,
            .general = true,
            .eax = task.eax,
            .ebx = task.ebx,
            .ecx = task.ecx,
            .edx = task.edx,
            .esi = task.esi,
            .edi = task.edi};
}

void say_headline(std::string_view kind, std::string_view text, std::span<const fmt::Arg> args) {
    ConsoleSink console;
    console.write("\n");
    console.write(kind);
    fmt::format_args(console, text, args);
    console.write("\n");
}

void say_context(const Registers& registers) {
    const Context& now = context.mine();
    const u32 depth = now.irq_depth() > registers.own_depth ? now.irq_depth() - registers.own_depth : 0;
    const u64 us = now_us() - kFirstUs;
    say("  CPU {}, {} {} (interrupt depth {}), preempt count {}, interrupts {}, {}.{:06} s after start",
        hal::this_cpu(), depth != 0 ? "in an interrupt of thread" : "in thread", running_thread_name(), depth,
        now.preempt_depth(), registers.flags & eflags::interrupt ? "on" : "off", us / 1'000'000, us % 1'000'000);
}

void say_registers(const Registers& r) {
    if (r.general) {
        say("  eax {:08x}  ebx {:08x}  ecx {:08x}  edx {:08x}", r.eax, r.ebx, r.ecx, r.edx);
        say("  esi {:08x}  edi {:08x}  ebp {:08x}  esp {:08x}", r.esi, r.edi, r.ebp, r.esp);
        say("  eip {:08x}  eflags {:08x}", r.eip, r.flags);
    } else {
        say("  eip {:08x}  esp {:08x}  ebp {:08x}  eflags {:08x}", r.eip, r.esp, r.ebp, r.flags);
    }
    say("  cr0 {:08x}  cr2 {:08x}  cr3 {:08x}  cr4 {:08x}", read_cr0(), read_cr2(), read_cr3(), read_cr4());
}

void say_backtrace(const Registers& registers) {
    const auto line = [](u32 address, void (*print)(Sink&, u32)) {
        ConsoleSink console;
        format(console, "    {:08x} ", address);
        print(console, address);
        console.write("\n");
    };
    std::array<u32, 32> addresses;
    const u32 count = collect_stack(registers.ebp, addresses);
    say("  backtrace:");
    if (registers.general) line(registers.eip, print_code_address); // otherwise eip is the first return address
    for (u32 i = 0; i != count; ++i)
        line(addresses[i], print_return_address);
    if (count == addresses.size()) say("    ... (cut here)");
}

void say_flags(Sink& sink, Pte entry) {
    static constexpr struct {
        PteFlags flag;
        const char* name;
    } kNames[] = {{pte::present, " present"},   {pte::write, " write"},       {pte::user, " user"},
                  {pte::write_through, " PWT"}, {pte::cache_disable, " PCD"}, {pte::accessed, " accessed"},
                  {pte::dirty, " dirty"},       {pte::global, " global"},     {pte::no_execute, " NX"}};
    for (const auto& name : kNames)
        if (!name.flag.empty() && entry.has(name.flag)) sink.write(name.name);
}

void say_entry(const char* level, Pte entry) {
    ConsoleSink console;
    if constexpr (config::kPae)
        format(console, "    {} {:08x}'{:08x}", level, entry.high(), entry.low());
    else
        format(console, "    {} {:08x}", level, entry.low());
    if (entry.present())
        say_flags(console, entry);
    else
        console.write(" not present");
    console.write("\n");
}

void say_page_walk(VirtAddr address) {
    const PhysAddr root = hal::current_root();
    const Walk walk = page_walk(root, address);
    say("  page walk of {} from root {}:", address, root);
    if constexpr (config::kPae) say_entry("PDPTE", walk.root);
    if (walk.level != Walk::Level::root) say_entry("PDE  ", walk.directory);
    if (walk.level == Walk::Level::table) say_entry("PTE  ", walk.entry);
    if (walk.unreadable) say("    the next table is out of the walker's reach");
    if (walk.present) say("    {} in frame {} ({})", walk.large ? "large page," : "page,", walk.pfn, walk.pfn.phys());
}

void say_held_slots() {
    const u32 depth = local_depth();
    say("  local slots held: {}", depth);
    for (u32 i = 0; i != depth && i != layout::kLocalSlots; ++i) {
        const HeldSlot slot = local_slot(i);
        ConsoleSink console;
        format(console, "    slot {} at {} shows frame {}", i, slot.address, slot.entry.pfn());
        if (slot.caller != 0) {
            format(console, ", mapped at {:08x} ", slot.caller);
            print_return_address(console, slot.caller);
        }
        console.write("\n");
    }
}

constexpr u32 kConsolePatienceMs = 300;

hal::Atomic<u32> panicking; // the CPU that panics first, + 1
u32 panics = 0;             // of that CPU

// One CPU reports: the first one.
bool became_the_one() {
    const u32 me = hal::this_cpu().value() + 1;
    u32 who = 0;
    return panicking.compare_exchange(who, me) || who == me;
}

// The order of steps of every panic. Another CPU that panics at the same time halts, and is listed with the stopped
// ones.
[[noreturn]] void end_in_panic(const Registers& registers, std::optional<VirtAddr> address, std::string_view text,
                               std::span<const fmt::Arg> args) {
    static_cast<void>(hal::irq_save());
    if (!became_the_one()) halt_forever();
    switch (panics++) {
    case 0:
        take_console(kConsolePatienceMs);
        stop_others();
        say_headline("panic: ", text, args);
        say_context(registers);
        say_registers(registers);
        say_backtrace(registers);
        if (address) say_page_walk(*address);
        say_held_slots();
        print_stopped();
        break;
    case 1:
        // A panic within the report: something that it needs is broken. Only print this.
        say_headline("panic within panic: ", text, args);
        say("  at {:08x}, stack {:08x}", registers.eip, registers.esp);
        break;
    default:
        break;
    }
    end_of_boot(ExitStatus::panic);
}

} // namespace

[[gnu::noinline]] void panic_args(std::string_view text, std::span<const fmt::Arg> args) {
    Registers registers;
    registers.eip = reinterpret_cast<u32>(__builtin_return_address(0));
    registers.flags = read_eflags();
    registers.ebp = current_frame();
    registers.esp = registers.ebp;
    deliver_expected_panic(text, args);
    end_in_panic(registers, std::nullopt, text, args);
}

void panic_at_args(const TrapFrame& frame, std::optional<VirtAddr> address, std::string_view text,
                   std::span<const fmt::Arg> args) {
    deliver_expected_panic(text, args);
    end_in_panic(registers_of(frame, 1), address, text, args);
}

void panic_in_nmi(TrapFrame& frame, std::string_view text) {
    // All CPUs may get the NMI at once. The one by which the first of them stops the others does not arrive in here.
    while (config::kSmp && !became_the_one())
        smp_stop_if_asked(frame);
    end_in_panic(registers_of(frame, 0), std::nullopt, text, {});
}

void panic_in_double_fault(const TssState& interrupted, VirtAddr address, std::string_view text) {
    end_in_panic(registers_of(interrupted), address, text, {});
}

void assertion_failed(const char* what, const char* file, int line) {
    panic("assertion failed: {} ({}:{})", what, file, line);
}

// Called by <cassert>: Boost.Intrusive asserts its links.
extern "C" [[noreturn]] void __assert_fail(const char* what, const char* file, unsigned line, const char*) {
    assertion_failed(what, file, static_cast<int>(line));
}

void refuse_args(std::string_view text, std::span<const fmt::Arg> args) {
    static_cast<void>(hal::irq_save());
    say_headline("loft: cannot start: ", text, args);
    end_of_boot(ExitStatus::refused);
}

} // namespace loft
