// Finding what the BIOS left in low memory: structures that begin on a 16-byte boundary with a signature, in
// the places where ACPI (6.5, 5.2.5.1) and the MultiProcessor Specification (1.4, 4) say they may be.
#pragma once

#include "arch/i386/topology.hpp"

#include <array>
#include <span>

namespace loft {

// The sum of all bytes; 0 for a structure whose checksum is right.
constexpr u8 byte_sum(std::span<const u8> bytes) {
    u8 sum = 0;
    for (const u8 byte : bytes)
        sum = static_cast<u8>(sum + byte);
    return sum;
}

// The same of physical memory. False if it cannot be read, or is not 0.
bool checksum_is_right(PhysicalReader read, PhysAddr from, u32 bytes);

// Calls try_at(place, the 16 bytes there) until it returns true.
template <typename F> bool scan_firmware(PhysicalReader read, F&& try_at) {
    constexpr u32 kStep = 16, kChunk = 1024;
    const auto scan = [&](u32 begin, u32 end) {
        std::array<u8, kChunk> bytes{};
        for (u32 at = begin; at < end; at += kChunk) {
            if (!read(PhysAddr{u64{at}}, bytes.data(), kChunk)) continue;
            for (u32 offset = 0; offset < kChunk; offset += kStep)
                if (try_at(PhysAddr{u64{at} + offset}, std::span<const u8>{bytes.data() + offset, kStep}))
                    return true;
        }
        return false;
    };
    // The BIOS data area tells the segment of the extended one, and the KiB of base memory.
    u16 ebda_segment = 0, base_kib = 0;
    const bool told = read(PhysAddr{u64{0x40e}}, &ebda_segment, sizeof ebda_segment) &&
                      read(PhysAddr{u64{0x413}}, &base_kib, sizeof base_kib);
    const u32 ebda = u32{ebda_segment} << 4, base_end = u32{base_kib} * KiB;
    if (told && ebda >= 512 * KiB && ebda < 640 * KiB && scan(ebda, ebda + kChunk)) return true;
    if (told && base_end >= 512 * KiB && base_end <= 640 * KiB && scan(base_end - kChunk, base_end))
        return true;
    return scan(0xe0000, 0x100000);
}

} // namespace loft
