// Descriptors that a program chooses. Contract: tls.hpp; load_tls is in descriptors.cpp, beside the GDT.
#include "arch/i386/cpu/tls.hpp"

namespace loft {

u32 TlsDescriptors::free_place() const {
    u32 place = 0;
    while (place < kCount && high[place] != 0)
        ++place;
    return place;
}

bool TlsDescriptors::set(u32 place, const UserDescriptor& wanted) {
    using D = UserDescriptor;
    const u32 flags = wanted.flags & D::kAll;
    const bool empty = wanted.base == 0 && wanted.limit == 0 && flags == (D::kReadExecOnly | D::kNotPresent);
    const bool all_zero = wanted.base == 0 && wanted.limit == 0 && flags == 0;
    if (empty || all_zero) {
        low[place] = high[place] = 0;
        return true;
    }
    // Only data segments (also expand-down), always present.
    const u32 contents = (flags & D::kContents) >> 1;
    if (!(flags & D::k32Bit) || contents > 1 || (flags & D::kNotPresent)) return false;
    const u32 type = 0x10 | contents << 2 | (flags & D::kReadExecOnly ? 0u : 2u); // SDM vol. 3, table 3-1
    const u32 access = 0x80 | 0x60 | type;                                        // present, ring 3
    const u32 granularity = (flags & D::kLimitInPages ? 0x8u : 0u) | 0x4 | (flags & D::kUseable ? 1u : 0u);
    low[place] = (wanted.limit & 0xffff) | wanted.base << 16;
    high[place] = (wanted.base >> 16 & 0xff) | access << 8 | (wanted.limit & 0xf0000) | granularity << 20 |
                  (wanted.base & 0xff00'0000);
    return true;
}

} // namespace loft
