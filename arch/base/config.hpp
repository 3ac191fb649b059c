// The configuration of this kernel as constants, for `if constexpr`.
//
// The Makefile passes the five axes of the build (HIGHMEM, HIGHPTE, SMP, PREEMPT, DEBUG) as LOFT_* macros, and
// LOFT_SIMULATED to the simulated machine. Only this file reads them.
#pragma once

#include <cstdint>

#if !defined(LOFT_HIGHMEM) || !defined(LOFT_HIGHPTE) || !defined(LOFT_SMP) || !defined(LOFT_PREEMPT) ||                \
    !defined(LOFT_DEBUG)
#error "build through the Makefile: LOFT_HIGHMEM, LOFT_HIGHPTE, LOFT_SMP, LOFT_PREEMPT and LOFT_DEBUG are needed"
#endif

namespace loft::config {

// How much memory the kernel can use: only the permanently mapped part, 4 GiB, or 64 GiB by PAE.
enum class HighMem { off = 0, k4G = 4, k64G = 64 };

inline constexpr HighMem kHighMemModel = static_cast<HighMem>(LOFT_HIGHMEM);
inline constexpr bool kHighMem = kHighMemModel != HighMem::off;
inline constexpr bool kPae = kHighMemModel == HighMem::k64G;
inline constexpr bool kHighPte = LOFT_HIGHPTE != 0;
inline constexpr bool kSmp = LOFT_SMP != 0;
inline constexpr bool kPreempt = LOFT_PREEMPT != 0;
inline constexpr bool kDebug = LOFT_DEBUG != 0;

// Counters start shortly before their wrap (near_wrap.hpp): in DEBUG kernels, host tests and explorations.
#ifdef LOFT_SIMULATED
inline constexpr bool kNearWrap = true;
#else
inline constexpr bool kNearWrap = kDebug;
#endif

static_assert(kHighMem || !kHighPte, "HIGHPTE=1 puts page tables into high memory: it needs HIGHMEM=4g or 64g");

inline constexpr std::uint32_t kMaxCpus = kSmp ? 32 : 1;

inline constexpr const char* kHighMemName = kHighMemModel == HighMem::off   ? "off"
                                            : kHighMemModel == HighMem::k4G ? "4g"
                                                                            : "64g";

} // namespace loft::config
