// Exceptions: their handlers, and the panics for those that cannot be handled.
#pragma once

namespace loft {

// Installs the handlers and the trap hooks that count interrupt contexts for mm. Boot, after descriptors_init.
void faults_init();

} // namespace loft
