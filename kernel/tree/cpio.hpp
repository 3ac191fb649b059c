// Unpacks a cpio archive of the format "newc", which Linux's initramfs has, into a file system.
//
// Source: Documentation/driver-api/early-userspace/buffer-format.rst of Linux; cpio(5).
#pragma once

#include "kernel/tree/file_system.hpp"

namespace loft {

struct Unpacked {
    u32 entries = 0; // files, directories and links that were made
    u32 skipped = 0; // devices, sockets: there are none
    u64 bytes = 0;   // of the archive that were used
};
// The directory of each name has to exist, or to be in the archive before it; a directory that exists is left as it is.
// Names are paths without ".."; a slash at their begin does not count. Ends behind the entry "TRAILER!!!" and the zeros
// that follow it; another archive may come then. `result` counts what was done, also if there is an error: inval (no
// such archive, or it is cut off: at result.bytes), exist, and those of FileSystem. Preemptible context.
Errno unpack_cpio(MemoryObject& archive, FileSystem& into, Unpacked& result);

void cpio_init(); // boot; after the object cache

} // namespace loft
