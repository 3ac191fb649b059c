// hal/mem: memory access. Contract: arch/base/hal_contract.hpp.
//
// On the real machine an address is a pointer and these are plain instructions; the simulated machine translates each
// access through its TLBs.
#pragma once

#include "arch/base/types.hpp"

#include <cstring>

namespace loft::hal {

template <typename T> inline T load(VirtAddr va) { return *reinterpret_cast<const volatile T*>(va.value()); }
template <typename T> inline void store(VirtAddr va, T value) { *reinterpret_cast<volatile T*>(va.value()) = value; }

// `bytes` is a multiple of 4, the addresses are 4-byte aligned. One counted string instruction.
inline void zero_words(VirtAddr to, u32 bytes) {
    u32 edi = to.value(), ecx = bytes / 4;
    asm volatile("rep stosl" : "+D"(edi), "+c"(ecx) : "a"(0) : "memory");
}
inline void copy_words(VirtAddr to, VirtAddr from, u32 bytes) {
    u32 edi = to.value(), esi = from.value(), ecx = bytes / 4;
    asm volatile("rep movsl" : "+D"(edi), "+S"(esi), "+c"(ecx)::"memory");
}

// Any alignment and length; `object` is the caller's own memory (stack, lowmem).
inline void copy_in(void* object, VirtAddr from, u32 bytes) {
    std::memcpy(object, reinterpret_cast<const void*>(from.value()), bytes);
}
inline void copy_out(VirtAddr to, const void* object, u32 bytes) {
    std::memcpy(reinterpret_cast<void*>(to.value()), object, bytes);
}
inline void fill(VirtAddr to, u8 value, u32 bytes) { std::memset(reinterpret_cast<void*>(to.value()), value, bytes); }
inline void copy_bytes(VirtAddr to, VirtAddr from, u32 bytes) {
    std::memcpy(reinterpret_cast<void*>(to.value()), reinterpret_cast<const void*>(from.value()), bytes);
}

// Objects in the direct map: pointers that are valid on both machines.
template <typename T> inline T* lowmem_ptr(VirtAddr va) { return reinterpret_cast<T*>(va.value()); }
inline VirtAddr lowmem_addr(const void* object) { return VirtAddr{reinterpret_cast<u32>(object)}; }

// For the simulated machine: the frame was freed to, or allocated from, the allocator.
inline void note_frame_free(Pfn, u32 /*order*/) {}
inline void note_frame_used(Pfn, u32 /*order*/) {}
inline void note_object_free(const void* /*object*/, u32 /*bytes*/) {}
inline void note_object_used(const void* /*object*/, u32 /*bytes*/) {}

// For the simulated machine: true if this allocation should fail although there is memory.
inline constexpr bool out_of_memory() { return false; }

} // namespace loft::hal
