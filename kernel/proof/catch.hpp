// Catching an expected panic: a self-test runs code that must panic and checks the panic's text.
#pragma once

#include "arch/base/format.hpp"

#include <string_view>

namespace loft {

// Runs body(argument). Returns the text of its panic (valid until the next call), or an empty view if it does not
// panic. Restores the interrupt flag, the context's counters, the depth of local maps and the locks; nothing else.
// Context: a thread, which stays on its CPU meanwhile; does not nest, one at a time.
std::string_view run_catching_panic(void (*body)(void*), void* argument);

} // namespace loft
