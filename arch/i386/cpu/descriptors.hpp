// GDT, IDT and TSS: segments, gates, and the double-fault task. Each CPU has a GDT and two TSSs in its per-CPU area;
// all CPUs share the IDT.
#pragma once

#include "arch/base/types.hpp"
#include "arch/i386/isa/selectors.hpp"

namespace loft {

// The 32-bit task-state segment (SDM vol. 3, 7.2.1).
struct TssState {
    u32 previous_task;
    u32 esp0, ss0, esp1, ss1, esp2, ss2;
    u32 cr3;
    u32 eip, eflags;
    u32 eax, ecx, edx, ebx, esp, ebp, esi, edi;
    u32 es, cs, ss, ds, fs, gs;
    u32 ldt;
    u16 debug_trap, io_map_base;
};
static_assert(sizeof(TssState) == 104);

// Calls percpu_init, then fills and loads GDT, IDT, TSS and %fs of the boot CPU. The first step of kernel_main that
// may fault: before it any exception but an NMI, which boot/start.asm ignores, is a triple fault. Interrupts are off
// and stay off. Boot CPU, once.
void descriptors_init();

// Sets the page tables of double-fault tasks: a kernel root that stays valid. Until then it is the root that was loaded
// at descriptors_init. Boot, before other CPUs are prepared.
void set_double_fault_root(PhysAddr root);

// Prepare: the boot CPU fills the descriptors of another CPU, in its area (percpu_adopt). Load: that CPU loads them.
void descriptors_prepare(CpuId cpu, VirtAddr stack_top, VirtAddr double_fault_stack_top);
void descriptors_load(CpuId cpu);

// Up-call, defined by the kernel. Runs as a task of its own, on its own stack and page tables, with interrupts off.
// `interrupted`: the state in which the CPU could not deliver an exception, typically because the stack hit its guard
// page: CR2 then lies in that page. Its cr3 field is not the loaded root (the CPU does not save CR3).
[[noreturn]] void double_fault(const TssState& interrupted);

} // namespace loft
