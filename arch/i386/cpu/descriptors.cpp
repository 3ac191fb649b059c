// GDT, IDT, TSS and the double-fault task. Contract: descriptors.hpp.
#include "arch/i386/cpu/descriptors.hpp"

#include "arch/i386/cpu/image.hpp"
#include "arch/i386/cpu/percpu.hpp"
#include "arch/i386/cpu/switch.hpp"
#include "arch/i386/cpu/tls.hpp"
#include "arch/i386/isa/control.hpp"
#include "arch/i386/isa/vectors.hpp"

#include <hal/cpu.hpp>

namespace loft {
namespace {

// A segment descriptor or a gate: 8 bytes with split fields (SDM vol. 3, figures 3-8 and 6-2).
struct Descriptor {
    u32 low = 0;
    u32 high = 0;
};

// The access byte of a descriptor: present, privilege level, type (SDM vol. 3, 3.4.5, table 3-2).
namespace access {
constexpr u32 present = 0x80, user = 0x60;
constexpr u32 code = 0x1a, data = 0x12; // readable code, writable data
constexpr u32 tss = 0x09;               // available 32-bit TSS
constexpr u32 interrupt_gate = 0x0e, task_gate = 0x05;
} // namespace access

constexpr Descriptor segment(u32 base, u32 limit, u32 access_byte, u32 flags) {
    return {(limit & 0xffff) | base << 16,
            (base >> 16 & 0xff) | access_byte << 8 | (limit & 0xf0000) | flags << 20 | (base & 0xff000000)};
}
constexpr Descriptor flat(u32 base, u32 access_byte) {
    constexpr u32 kPages32Bit = 0xc; // G and D: a limit in pages, 32-bit operands
    return segment(base, 0xfffff, access::present | access_byte, kPages32Bit);
}
constexpr Descriptor gate(u16 selector, u32 offset, u32 access_byte) {
    return {u32{selector} << 16 | (offset & 0xffff), (offset & 0xffff0000) | (access::present | access_byte) << 8};
}
Descriptor tss_segment(const TssState& tss) {
    return segment(image_addr(&tss).value(), sizeof(TssState) - 1, access::present | access::tss, 0);
}

constexpr u32 index_of(u16 selector) { return selector >> 3; }
constexpr u32 kGdtEntries = index_of(selector::double_fault_tss) + 1;

// One per CPU. No TSS crosses a page: the CPU reads it by physical addresses (SDM vol. 3, 7.2.1).
struct CpuDescriptors {
    alignas(128) TssState tss;
    alignas(128) TssState double_fault_tss;
    Descriptor gdt[kGdtEntries];
};
LOFT_PERCPU hal::PerCpu<CpuDescriptors> descriptors;

constinit u32 double_fault_root = 0;

alignas(8) constinit Descriptor idt[256]{};

// The operand of lgdt and lidt (SDM vol. 3, 2.4).
struct [[gnu::packed]] TablePointer {
    u16 limit;
    u32 base;
};
template <typename T, u32 N> TablePointer pointer_to(const T (&table)[N]) {
    return {static_cast<u16>(sizeof(table) - 1), image_addr(table).value()};
}

extern "C" const u32 trap_entries[256]; // trap_entry.asm

// The first function of the double-fault task.
[[noreturn]] void double_fault_task() { double_fault(descriptors.mine().tss); }

void fill_idt() {
    for (u32 v = 0; v < 256; ++v)
        idt[v] = gate(selector::kernel_code, trap_entries[v], access::interrupt_gate);
    // Ring 3 may execute int3 and int 0x80; any other `int n` is a general protection fault.
    constexpr u8 kOpen[]{vector::breakpoint, vector::system_call};
    for (const u8 open : kOpen)
        idt[open] = gate(selector::kernel_code, trap_entries[open], access::interrupt_gate | access::user);
    // The stack may be invalid: switch the task, and with it stack and CR3 (SDM vol. 3, 6.14.2).
    idt[vector::double_fault] = gate(selector::double_fault_tss, 0, access::task_gate);
}

void fill_gdt(CpuDescriptors& cpu, u32 percpu_offset) {
    cpu.gdt[index_of(selector::kernel_code)] = flat(0, access::code);
    cpu.gdt[index_of(selector::kernel_data)] = flat(0, access::data);
    cpu.gdt[index_of(selector::user_code)] = flat(0, access::code | access::user);
    cpu.gdt[index_of(selector::user_data)] = flat(0, access::data | access::user);
    cpu.gdt[index_of(selector::per_cpu)] = flat(percpu_offset, access::data);
    cpu.gdt[index_of(selector::tss)] = tss_segment(cpu.tss);
    cpu.gdt[index_of(selector::double_fault_tss)] = tss_segment(cpu.double_fault_tss);
}

void fill_tss(CpuDescriptors& cpu, VirtAddr stack_top, VirtAddr double_fault_stack_top) {
    cpu.tss.ss0 = selector::kernel_data;
    cpu.tss.esp0 = stack_top.value();
    cpu.tss.io_map_base = sizeof(TssState); // beyond the limit: ring 3 has no ports

    TssState& df = cpu.double_fault_tss;
    df.cr3 = double_fault_root;
    df.eip = reinterpret_cast<u32>(&double_fault_task);
    df.eflags = 2;                               // the bit that is always 1
    df.esp = double_fault_stack_top.value() - 4; // as after a call
    df.cs = selector::kernel_code;
    df.ss = df.ds = df.es = df.gs = selector::kernel_data;
    df.fs = selector::per_cpu;
    df.io_map_base = sizeof(TssState);
}

void load(const CpuDescriptors& cpu) {
    const TablePointer gdt_pointer = pointer_to(cpu.gdt), idt_pointer = pointer_to(idt);
    asm volatile("lgdt %0\n\t"
                 "ljmp %1, $1f\n"
                 "1:\tmovl %2, %%ds\n\t"
                 "movl %2, %%es\n\t"
                 "movl %2, %%ss\n\t"
                 "movl %2, %%gs\n\t"
                 "movl %3, %%fs\n\t"
                 "lidt %4\n\t"
                 "lldt %w6\n\t" // a table of the loader may still be loaded; ring 3 could use its gates
                 "ltr %w5"
                 :
                 : "m"(gdt_pointer), "i"(selector::kernel_code), "r"(u32{selector::kernel_data}),
                   "r"(u32{selector::per_cpu}), "m"(idt_pointer), "r"(u32{selector::tss}), "r"(0u)
                 : "memory");
}

} // namespace

void descriptors_init() {
    percpu_init();
    fill_idt();
    double_fault_root = read_cr3();
    descriptors_prepare(CpuId{0}, image_addr(__boot_stack_top), image_addr(__df_stack_top));
    descriptors_load(CpuId{0});
}

void set_double_fault_root(PhysAddr root) {
    double_fault_root = static_cast<u32>(root.value());
    descriptors.mine().double_fault_tss.cr3 = double_fault_root;
}

void descriptors_prepare(CpuId cpu, VirtAddr stack_top, VirtAddr double_fault_stack_top) {
    CpuDescriptors& its = descriptors.of(cpu);
    fill_gdt(its, hal::loft_percpu_offset[cpu.value()]);
    fill_tss(its, stack_top, double_fault_stack_top);
}

void descriptors_load(CpuId cpu) { load(descriptors.of(cpu)); }

void load_tls(const TlsDescriptors& wanted) {
    Descriptor* const gdt = descriptors.mine().gdt + index_of(selector::tls_first);
    for (u32 i = 0; i < TlsDescriptors::kCount; ++i)
        gdt[i] = {wanted.low[i], wanted.high[i]};
}

void set_kernel_stack(VirtAddr top) { descriptors.mine().tss.esp0 = top.value(); }

} // namespace loft
