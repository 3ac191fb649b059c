// Starting the other CPUs (SDM vol. 3, 8.4, "Multiple-Processor (MP) Initialization").
//
// A starting CPU executes boot/trampoline.asm, takes a ticket, and continues with the stack and page tables that the
// ticket names. A ticket is not bound to a particular CPU. A CPU that is late finds no ticket, and halts in the
// trampoline without having touched other memory; one that is so late that it finds another CPU's ticket becomes that
// CPU. Every wait has a time limit.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

struct CpuTopology;

// Sets the APIC id of the boot CPU (which is online from the start) and installs the IPI handlers. Boot CPU, once,
// interrupts off, after lapic_init.
void smp_init();

// The trampoline needs a page below 1 MiB that is never used for anything else: a CPU that was left out may halt in it
// later. loft tries this page first.
inline constexpr PhysAddr kTrampolinePage{u64{0x8000}};

// Prepares `page`, and resets the first `cpus` CPUs of the topology, except the boot CPU: they then wait for a start-up
// interrupt. The topology must stay valid. The kernel's page tables are loaded. Takes 10 ms. Boot CPU, once, interrupts
// on or off.
void smp_prepare(const CpuTopology& topology, PhysAddr page, u32 cpus);

// The resources of a starting CPU. They belong to it from the call of start_cpu on. Below each stack is an unmapped
// page.
struct CpuBirth {
    CpuId cpu{};                       // its index in the topology; its per-CPU area (percpu_adopt) is ready
    VirtAddr stack_top{};              // of the stack of ap_main
    VirtAddr double_fault_stack_top{}; //
};

enum class CpuStart : u8 {
    online, // it is in ap_main, or about to enter it
    absent, // it did not start; its resources may be used again
    stuck,  // it took its ticket but did not come online: its resources must never be used again
};

// Starts one of the CPUs that smp_prepare has reset, and waits until it is online, at most kCpuStartMs twice. Boot CPU,
// interrupts on or off.
CpuStart start_cpu(const CpuBirth& birth);
inline constexpr u32 kCpuStartMs = 1000;

// --- A CPU that goes away and comes back (kernel/threads/hotplug.hpp).

// This CPU is in hal::online_cpus() no longer. Its number stays; other CPUs that have read the set may still send
// interrupts to it. Context: interrupts off.
void smp_leave();
// Resets a CPU that has left and halts with interrupts off: it stops, loses its pending interrupts and its timer, and
// waits for a start-up interrupt, as after smp_prepare. No CPU may send it anything meanwhile. Takes 10 ms, by
// spinning. Context: interrupts on. Source: SDM vol. 3, 8.4, table 9-1 (INIT), 10.4.7.3.
void smp_reset(CpuId cpu);
// As start_cpu, for a CPU that smp_reset has reset, with the resources that it had: per-CPU area, stacks and APIC id
// are those of its first start. `absent`: it is reset again, and may be called again. `stuck`: also if it got stuck
// before. Any CPU, a preemptible context.
CpuStart start_cpu_again(CpuId cpu);

// Up-call, defined by the kernel: called on the started CPU, on its own stack and the kernel's page tables, with
// descriptors, control bits, local APIC and tick as on the boot CPU, interrupts off, and in online_cpus(): it must
// enable interrupts soon.
[[noreturn]] void ap_main(CpuId cpu);

} // namespace loft
