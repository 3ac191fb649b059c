// The initial stack of a program: arguments, environment, auxiliary vector (System V ABI, i386 supplement, figure
// 3-31).
#pragma once

#include "arch/base/types.hpp"

namespace loft {

class AddressSpace;
struct ElfPlan;
struct Launch;

inline constexpr u32 kMaxArguments = 32;       // including the name; and as many environment variables
inline constexpr u32 kMaxArgumentBytes = 4096; // all strings together

// Returns the initial stack pointer; 0 if there are too many arguments, or if there is no memory. Preemptible context.
u32 build_initial_stack(AddressSpace& space, VirtAddr top, const Launch& launch, const ElfPlan& plan);

} // namespace loft
