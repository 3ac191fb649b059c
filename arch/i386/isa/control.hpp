// Control registers, EFLAGS, MSRs and port I/O: one instruction each.
#pragma once

#include "arch/i386/isa/control_bits.hpp"

namespace loft {

inline u32 read_cr0() {
    u32 v;
    asm volatile("mov %%cr0, %0" : "=r"(v));
    return v;
}
inline void write_cr0(u32 v) { asm volatile("mov %0, %%cr0" ::"r"(v) : "memory"); }
inline u32 read_cr2() {
    u32 v;
    asm volatile("mov %%cr2, %0" : "=r"(v));
    return v;
}
inline void write_cr2(u32 v) { asm volatile("mov %0, %%cr2" ::"r"(v)); }
inline u32 read_cr3() {
    u32 v;
    asm volatile("mov %%cr3, %0" : "=r"(v));
    return v;
}
inline void write_cr3(u32 v) { asm volatile("mov %0, %%cr3" ::"r"(v) : "memory"); }
inline u32 read_cr4() {
    u32 v;
    asm volatile("mov %%cr4, %0" : "=r"(v));
    return v;
}
inline void write_cr4(u32 v) { asm volatile("mov %0, %%cr4" ::"r"(v) : "memory"); }
// DR7 and DR6 after a reset: no breakpoint set, none hit (SDM vol. 3, 17.2.3 and 17.2.4).
inline constexpr u32 kDr7Nothing = 1u << 10, kDr6Nothing = 0xffff'0ff0;
inline u32 read_dr7() {
    u32 v;
    asm volatile("mov %%dr7, %0" : "=r"(v));
    return v;
}
inline void reset_breakpoints() {
    asm volatile("mov %0, %%dr7\n\t"
                 "mov %1, %%dr6" ::"r"(kDr7Nothing),
                 "r"(kDr6Nothing));
}
// Breakpoint 0: a debug exception before each execution of the instruction at `address` on this CPU, in any ring. Its
// handler sets eflags::resume in the frame, or the exception comes again (SDM vol. 3, 17.3.1.1).
inline void set_breakpoint(u32 address) {
    asm volatile("mov %0, %%dr0\n\t"
                 "mov %1, %%dr7" ::"r"(address),
                 "r"(kDr7Nothing | 1u << 1));
}
inline u16 read_ldtr() {
    u16 v;
    asm volatile("sldt %0" : "=r"(v));
    return v;
}
inline void write_back_caches() { asm volatile("wbinvd" ::: "memory"); }
inline u32 read_eflags() {
    u32 v;
    asm volatile("pushf; pop %0" : "=r"(v));
    return v;
}
inline void write_eflags(u32 v) { asm volatile("push %0; popf" ::"r"(v) : "memory", "cc"); }

// Enables interrupts and halts until one has been handled. None can arrive before the hlt: sti takes effect after the
// next instruction. Unless an NMI comes there: then an interrupt may follow it, and the hlt waits for the next one, so
// at most for a tick.
inline void wait_for_interrupt() { asm volatile("sti; hlt" ::: "memory"); }
// For waits inside arch; all other code uses hal::cpu_relax, which also answers other CPUs.
inline void pause() { asm volatile("pause" ::: "memory"); }
inline void enable_interrupts() { asm volatile("sti" ::: "memory"); }
inline void disable_interrupts() { asm volatile("cli" ::: "memory"); }

inline u64 read_msr(u32 reg) {
    u64 v;
    asm volatile("rdmsr" : "=A"(v) : "c"(reg));
    return v;
}
inline void write_msr(u32 reg, u64 v) { asm volatile("wrmsr" ::"c"(reg), "A"(v) : "memory"); }
inline u64 read_tsc() {
    u64 v;
    asm volatile("rdtsc" : "=A"(v));
    return v;
}

// high:low / divisor, for a quotient of 32 bits (SDM vol. 2, "DIV"): one instruction; C++ would call a library
// function.
inline u32 divide(u64 dividend, u32 divisor) {
    u32 quotient, remainder;
    asm("divl %4"
        : "=a"(quotient), "=d"(remainder)
        : "a"(static_cast<u32>(dividend)), "d"(static_cast<u32>(dividend >> 32)), "rm"(divisor)
        : "cc");
    return quotient;
}

inline u8 in8(u16 port) {
    u8 v;
    asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
inline void out8(u16 port, u8 v) { asm volatile("outb %0, %1" ::"a"(v), "Nd"(port)); }
inline u16 in16(u16 port) {
    u16 v;
    asm volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
inline void out16(u16 port, u16 v) { asm volatile("outw %0, %1" ::"a"(v), "Nd"(port)); }
inline u32 in32(u16 port) {
    u32 v;
    asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
inline void out32(u16 port, u32 v) { asm volatile("outl %0, %1" ::"a"(v), "Nd"(port)); }

} // namespace loft
