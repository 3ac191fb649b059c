// The meaning of a page-table entry for the processor: SDM vol. 3, 4.3 (32-bit) and 4.4 (PAE), 4.6 (access rights).
//
// Written from the manual, independently of mm.
#pragma once

#include "arch/i386/isa/pte.hpp"
#include "tests/sim/ram.hpp"
#include "tests/sim/source_location.hpp"

#include <string>

namespace loft::sim {

inline constexpr u32 kSpan = paging::kPtesPerTable; // pages under one directory entry

enum class Access : u8 { read, write, execute, user_read, user_write };
constexpr bool writes(Access access) { return access == Access::write || access == Access::user_write; }
const char* access_name(Access access);

// The frame and the rights of a linear address.
struct Translation {
    u32 pfn = 0;
    bool write = false;
    bool user = false;
    bool no_execute = false;
    bool global = false;

    // CR0.WP is set: supervisor writes to read-only pages fault, too (4.6.1).
    constexpr bool permits(Access access) const {
        switch (access) {
        case Access::read:
            return true;
        case Access::write:
            return write;
        case Access::execute:
            return !no_execute;
        case Access::user_read:
            return user;
        case Access::user_write:
            return user && write;
        }
        return false;
    }
    constexpr bool operator==(const Translation&) const = default;
};
std::string describe(const Translation& translation);

// Rights that the directory entry contributes.
struct Rights {
    bool write = true;
    bool user = true;
    bool no_execute = false;
    constexpr bool operator==(const Rights&) const = default;
};

struct Features {
    bool large_pages = true;                // reported by hal::cpu_features(); the walker always supports large pages
    bool global = true;                     // CR4.PGE
    bool no_execute = config::kPae;         // EFER.NXE
    u32 phys_bits = config::kPae ? 36 : 32; // width of physical addresses (SDM vol. 3, 4.1.4)
};

// The line that changed an entry.
struct Where {
    const char* file = "?";
    u32 line = 0;
    constexpr Where() = default;
    constexpr Where(hal::SourceLocation at) : file{at.file_name()}, line{at.line()} {}
};

using RawCell [[gnu::may_alias]] = RawPte; // an entry as it lies in RAM
inline constexpr u32 kCellSize = sizeof(RawPte);

namespace raw {
inline constexpr RawPte kPresent = 1, kWrite = 2, kUser = 4, kAccessed = 1 << 5, kDirty = 1 << 6, kLarge = 1 << 7,
                        kGlobal = 1 << 8;
inline constexpr u64 kNx = u64{1} << 63;
inline constexpr u64 kFrame = config::kPae ? (kRamLimit - 1) & ~u64{kPageSize - 1} : 0xffff'f000u;

constexpr bool present(RawPte e) { return (e & kPresent) != 0; }
constexpr bool accessed(RawPte e) { return (e & kAccessed) != 0; }
constexpr bool large(RawPte e) { return (e & kLarge) != 0; }
constexpr u32 frame(RawPte e) { return static_cast<u32>((e & kFrame) >> kPageShift); }
constexpr bool no_execute(RawPte e) { return config::kPae && (u64{e} & kNx) != 0; }
inline RawCell* cell(u32 table, u32 index) {
    return reinterpret_cast<RawCell*>(ram_at((u64{table} << kPageShift) + index * kCellSize));
}

// Reserved bits, which make a walk fault (4.3 table 4-4, 4.4 tables 4-9 to 4-11): addresses beyond the CPU's width, NX
// if it is off, and the bits between the attributes of a large page and its frame.
constexpr bool reserved(RawPte e, bool is_large, const Features& f) {
    u64 bits = config::kPae ? ~((u64{1} << f.phys_bits) - 1) & 0x7fff'ffff'ffff'ffffull : 0;
    if (!f.no_execute && config::kPae) bits |= kNx;
    if (is_large) bits |= (paging::kLargeSize - 1) & 0xffff'e000u; // bit 12 is PAT
    return (u64{e} & bits) != 0;
}
constexpr Rights rights(RawPte e) { return {(e & kWrite) != 0, (e & kUser) != 0, no_execute(e)}; }

constexpr Translation translation(RawPte e, u32 pfn, Rights above, const Features& f) {
    return {pfn, (e & kWrite) != 0 && above.write, (e & kUser) != 0 && above.user, no_execute(e) || above.no_execute,
            f.global && (e & kGlobal) != 0};
}
// Of the first frame of a large page.
constexpr Translation large_translation(RawPte e, const Features& f) {
    return translation(e, frame(e) & ~(kSpan - 1), {}, f);
}
} // namespace raw

} // namespace loft::sim
