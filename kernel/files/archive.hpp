// Boot modules that are archives: the files with which the root begins (the initramfs of Linux).
#pragma once

#include "kernel/boot/multiboot.hpp"

namespace loft {

// True: it begins as an archive of cpio's format "newc". Preemptible context.
[[nodiscard]] bool is_archive(const BootModule& module);
// Unpacks all archives into the root, in order, and logs each. Boot thread, once, after mounts_init.
void unpack_archives();

} // namespace loft
