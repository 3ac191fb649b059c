// Finding the BIOS's structures in low memory: each begins on a 16-byte boundary with a signature, in the areas that
// ACPI (6.5, 5.2.5.1) and the MultiProcessor Specification (1.4, 4) define.
#pragma once

#include "arch/i386/firmware/topology.hpp"

#include <array>
#include <optional>
#include <span>

namespace loft {

// The sum of all bytes; 0 for a structure with a right checksum.
constexpr u8 byte_sum(std::span<const u8> bytes) {
    u8 sum = 0;
    for (const u8 byte : bytes)
        sum = static_cast<u8>(sum + byte);
    return sum;
}

// The same for physical memory. False if it cannot be read, or if the sum is not 0.
bool checksum_is_right(PhysicalReader read, PhysAddr from, u32 bytes);

// What is at an address, as a T; nothing if it cannot be read.
template <typename T> std::optional<T> read_as(PhysicalReader read, PhysAddr from) {
    T value;
    if (!read(from, &value, sizeof value)) return std::nullopt;
    return value;
}

// The upper limit of conventional memory; video memory begins here.
inline constexpr u32 kBaseMemoryEnd = 640 * KiB;

// From the BIOS data area: begin of the extended BIOS data area, and end of base memory; 0 if the value is impossible.
struct BiosAreas {
    u32 extended_data = 0, base_end = 0;
};
inline BiosAreas bios_areas(PhysicalReader read) {
    constexpr u32 kLeast = 128 * KiB; // no BIOS reserves more than the rest
    u16 segment = 0, kib = 0;
    if (!read(PhysAddr{u64{0x40e}}, &segment, sizeof segment) || !read(PhysAddr{u64{0x413}}, &kib, sizeof kib))
        return {};
    const u32 data = u32{segment} << 4, end = u32{kib} * KiB;
    return {data >= kLeast && data < kBaseMemoryEnd ? data : 0, end >= kLeast && end <= kBaseMemoryEnd ? end : 0};
}

// Calls try_at(address, the 16 bytes there) until it returns true.
template <typename F> bool scan_firmware(PhysicalReader read, F&& try_at) {
    constexpr u32 kStep = 16, kChunk = 1024;
    const auto scan = [&](u32 begin, u32 end) {
        std::array<u8, kChunk> bytes{};
        for (u32 at = begin; at < end; at += kChunk) {
            if (!read(PhysAddr{u64{at}}, bytes.data(), kChunk)) continue;
            for (u32 offset = 0; offset < kChunk; offset += kStep)
                if (try_at(PhysAddr{u64{at} + offset}, std::span<const u8>{bytes.data() + offset, kStep})) return true;
        }
        return false;
    };
    const BiosAreas bios = bios_areas(read);
    if (bios.extended_data != 0 && scan(bios.extended_data, bios.extended_data + kChunk)) return true;
    if (bios.base_end != 0 && scan(bios.base_end - kChunk, bios.base_end)) return true;
    return scan(0xe0000, 0x100000);
}

} // namespace loft
