// Builds in which each access to memory is checked: tests that take long do a fraction of their work there.
#pragma once

namespace loft::test {

inline constexpr bool kSlow =
#if defined(__SANITIZE_ADDRESS__) || defined(LOFT_RACES)
    true;
#else
    false;
#endif

} // namespace loft::test
