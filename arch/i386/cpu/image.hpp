// Symbols of linker.ld and boot/: the boundaries of the kernel image, its first stacks and page tables.
//
// These are addresses, not objects: use only &name or the array's name. All lie in the direct map; linker.ld defines
// which are page-aligned.
#pragma once

#include "arch/base/types.hpp"

#include <hal/pte.hpp>

namespace loft {

extern "C" {
extern char __text_begin[], __text_end[];     // R-X
extern char __rodata_begin[], __rodata_end[]; // R--, the symbol table included
extern char __data_begin[],
    __data_end[];                             // RW-, from .data to the end of .bss; page tables and stacks included
extern char __percpu_begin[], __percpu_end[]; // inside data: copied for each other CPU
extern char __percpu_pristine[];              // copy of the initial contents (percpu.cpp)
extern char __image_begin[], __image_end[];   // all that the loader has loaded, boot/ included

extern char __boot_stack_guard[], __boot_stack_top[]; // the guard is one page, mm leaves it unmapped
extern char __df_stack_guard[], __df_stack_top[];     // the same for the double-fault task

extern hal::PteCell boot_fixmap_table[]; // the last page table of the address space, already linked
extern u64 boot_tsc;                     // the time-stamp counter at the kernel's first instructions
}

// The address of a symbol as mm and the page walkers use it.
inline VirtAddr image_addr(const void* symbol) {
    return VirtAddr{static_cast<u32>(reinterpret_cast<std::uintptr_t>(symbol))};
}

// The virtual address of physical 0, from boot/ on (boot/layout.inc).
inline constexpr u32 kDirectMapBase = 0xc000'0000;

inline constexpr u32 kBootStackBytes = 16 * KiB;       // linker.ld asserts both sizes
inline constexpr u32 kDoubleFaultStackBytes = 8 * KiB; //

} // namespace loft
