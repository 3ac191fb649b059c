// Builds in which each access to memory is checked: tests that take long do a fraction of their work there.
#pragma once

#include "arch/base/config.hpp"

namespace loft::test {

inline constexpr bool kSlow =
#if defined(__SANITIZE_ADDRESS__) || defined(LOFT_RACES)
    true;
#else
    false;
#endif

// The configuration that has all schedules of bounded explorations. The others differ in few places: the format of
// entries, or what DEBUG does in addition.
inline constexpr bool kWhole = !kSlow && config::kPae && !config::kDebug;

} // namespace loft::test
