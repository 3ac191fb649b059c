// Exceptions of the kernel: who handles them, and what is said about those that nobody can.
#pragma once

namespace loft {

// Installs the handlers and the hooks that keep mm's account of interrupt contexts. Boot, after
// descriptors_init.
void faults_init();

} // namespace loft
