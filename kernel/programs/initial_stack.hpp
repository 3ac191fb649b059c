// What a program finds on its stack when it begins: arguments, environment, and what the kernel tells it (System V
// ABI, i386 supplement, figure 3-31).
#pragma once

#include "arch/base/types.hpp"

namespace loft {

class AddressSpace;
struct ElfPlan;
struct Launch;

inline constexpr u32 kMaxArguments = 32;       // and as many of the environment
inline constexpr u32 kMaxArgumentBytes = 4096; // all of them together

// Returns where the stack pointer begins; 0 if there is too much of it, or no memory. Preemptible context.
u32 build_initial_stack(AddressSpace& space, VirtAddr top, const Launch& launch, const ElfPlan& plan);

} // namespace loft
