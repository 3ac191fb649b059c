// Stops the other CPUs by NMI, and prints where they were. Contract: stopped_cpus.hpp.
#include "kernel/report/stopped_cpus.hpp"

#include "arch/base/cpu_set.hpp"
#include "arch/base/format.hpp"
#include "arch/i386/cpu/stacktrace.hpp"
#include "arch/i386/cpu/trap_frame.hpp"
#include "arch/i386/io/console.hpp"
#include "arch/i386/irq/stop.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/report/console_sink.hpp"
#include "kernel/report/symbols.hpp"

#include <hal/hal.hpp>

#include <array>

namespace loft {
namespace {

constexpr u32 kStopMs = 1000;
constexpr u32 kShownFrames = 8;

// Where a CPU was stopped.
struct Stopped {
    bool known = false;
    u32 eip = 0, ebp = 0, flags = 0;
    std::string_view thread;
};
std::array<Stopped, config::kMaxCpus> stopped;
CpuSet asked_to_stop, not_stopped;

void print_one(CpuId cpu, const Stopped& where) {
    ConsoleSink console;
    format(console, "  CPU {} in thread {}, interrupts {}:\n", cpu, where.thread,
           where.flags & eflags::interrupt ? "on" : "off");
    format(console, "    {:08x} ", where.eip);
    print_code_address(console, where.eip);
    console.write("\n");
    std::array<u32, kShownFrames> frames;
    const u32 count = collect_stack(where.ebp, frames);
    for (u32 i = 0; i != count; ++i) {
        format(console, "    {:08x} ", frames[i]);
        print_return_address(console, frames[i]);
        console.write("\n");
    }
}

} // namespace

void nmi_stop(TrapFrame& frame) {
    stopped[hal::this_cpu().value()] = {true, frame.eip, frame.ebp, frame.eflags, running_thread_name()};
}

void stop_others() {
    asked_to_stop = hal::online_cpus().without(hal::this_cpu());
    if (config::kSmp && !asked_to_stop.empty()) not_stopped = stop_other_cpus(kStopMs);
}

void print_stopped() {
    asked_to_stop.for_each([](CpuId cpu) {
        const Stopped& where = stopped[cpu.value()];
        if (where.known) {
            print_one(cpu, where);
        } else {
            ConsoleSink console;
            format(console, "  CPU {} did not stop\n", cpu);
        }
    });
}

} // namespace loft
