// STAC and CLAC at their places. Contract: smap.hpp.
#include "arch/i386/cpu/smap.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/isa/smap.hpp"

#include <cstring>

namespace loft {
namespace {

extern "C" const SmapPlace __smap_begin[], __smap_end[]; // linker.ld

constexpr u8 kNop[SmapPlace::kBytes]{0x8d, 0x76, 0x00}; // leal 0(%esi), %esi

} // namespace

void smap_write_instructions() {
    for (const SmapPlace* place = __smap_begin; place != __smap_end; ++place) {
        void* const code = reinterpret_cast<void*>(place->at);
        LOFT_ASSERT(std::memcmp(code, kNop, sizeof kNop) == 0);
        std::memcpy(code, &place->code, SmapPlace::kBytes);
    }
}

} // namespace loft
