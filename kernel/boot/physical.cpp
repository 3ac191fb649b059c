// Reading physical memory. Contract: physical.hpp.
#include "kernel/boot/physical.hpp"

#include "mm/windows/fixmap.hpp"

#include <algorithm>

namespace loft {

bool read_physical(PhysAddr from, void* to, u32 bytes) {
    if (from.value() + bytes < from.value()) return false;
    char* out = static_cast<char*>(to);
    while (bytes != 0) {
        const BootWindow window{from, bytes};
        const u32 step = std::min(window.bytes(), bytes);
        if (step == 0) return false;
        hal::copy_in(out, window.at(), step);
        out += step;
        from = from + step;
        bytes -= step;
    }
    return true;
}

bool read_below_4g(PhysAddr from, void* to, u32 bytes) {
    return from.value() <= 4 * GiB && bytes <= 4 * GiB - from.value() && read_physical(from, to, bytes);
}

} // namespace loft
