// Starting the other CPUs (SDM vol. 3, 8.4, "Multiple-Processor (MP) Initialization"), and stopping them.
//
// A CPU that is told to start executes boot/trampoline.asm, takes a ticket, and goes on with the memory that
// is named there. Tickets do not know who takes them: a CPU that comes too late finds none, halts where it
// is, and has touched nothing; one that comes so late that it finds the ticket of another CPU becomes that
// CPU. Every wait is bounded by time.
#pragma once

#include "arch/base/cpu_set.hpp"
#include "arch/base/types.hpp"

namespace loft {

struct CpuTopology;
struct TrapFrame;

// Once, by the boot CPU, interrupts off, after lapic_init: it is in the set of online CPUs from the start,
// here its APIC id becomes known.
void smp_init();

// The trampoline needs a page below 1 MiB that nobody else uses, now or later: a CPU that was left out may
// come to rest in it. This is the one that loft tries first.
inline constexpr PhysAddr kTrampolinePage{u64{0x8000}};

// Prepares `page`, and resets the first `cpus` CPUs of the topology, which stays for good, but the boot CPU:
// they wait for a start-up interrupt afterwards. The kernel's page tables are loaded. Takes 10 ms. Boot CPU,
// once, interrupts on or off.
void smp_prepare(const CpuTopology& topology, PhysAddr page, u32 cpus);

// What a CPU is born with. All of it belongs to the CPU from the moment start_cpu is called. Below each stack
// lies an unmapped page.
struct CpuBirth {
    CpuId cpu{};                       // its place in the topology; its area (percpu_adopt) is ready
    VirtAddr stack_top{};              // ap_main runs on it
    VirtAddr double_fault_stack_top{}; //
};

enum class CpuStart : u8 {
    online, // it is in ap_main, or about to be
    absent, // it did not come; what it would have used may be used for something else
    stuck,  // it took its ticket and did not arrive: what it was given must never be touched again
};

// Starts one CPU of those that smp_prepare has reset, and waits until it is online, at most kCpuStartMs
// twice. Boot CPU, interrupts on or off.
CpuStart start_cpu(const CpuBirth& birth);
inline constexpr u32 kCpuStartMs = 1000;

// Up-call, defined by the kernel: the first C++ of another CPU that is not arch's. On its own stack and the
// kernel's page tables, its descriptors, control bits, local APIC and tick as on the boot CPU, interrupts
// off, and in online_cpus(): it has to let interrupts in soon.
[[noreturn]] void ap_main(CpuId cpu);

// --- Stopping, for a panic: an NMI gets through to a CPU that has its interrupts off.

// Stops all other online CPUs and takes them out of online_cpus(). Each one calls nmi_stop, and halts. Waits
// until they have, `milliseconds` at most, and returns those that have not. Any context; what was under way
// on the other CPUs stays as it is, locks included. If several CPUs call it, it returns on the first one
// only, and the others are stopped in here.
CpuSet stop_other_cpus(u32 milliseconds);

// Up-call, defined by the kernel, in the NMI on the CPU that is stopped: a chance to keep or print where it
// was. When it returns the CPU is out of online_cpus() and halts for good.
void nmi_stop(TrapFrame& frame);

} // namespace loft
