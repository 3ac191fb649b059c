// Checksums. Contract: firmware_scan.hpp.
#include "arch/i386/firmware/firmware_scan.hpp"

#include <algorithm>

namespace loft {

bool checksum_is_right(PhysicalReader read, PhysAddr from, u32 bytes) {
    std::array<u8, 512> chunk{};
    u8 sum = 0;
    for (u32 done = 0; done < bytes;) {
        const u32 step = std::min<u32>(bytes - done, chunk.size());
        if (!read(from + done, chunk.data(), step)) return false;
        sum = static_cast<u8>(sum + byte_sum({chunk.data(), step}));
        done += step;
    }
    return sum == 0;
}

} // namespace loft
