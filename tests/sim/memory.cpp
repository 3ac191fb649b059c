// The parts of hal/mem that need not be inline.
#include <hal/mem.hpp>

namespace loft::hal::detail {

void check_words(VirtAddr va, u32 bytes) {
    if (va.value() % 4 != 0 || bytes % 4 != 0)
        throw sim::BadAccess{sim::text("words at {:08x}, {} bytes: not a multiple of 4", va.value(), bytes)};
}

void fill_bytes(VirtAddr to, u8 value, u32 bytes) {
    in_pieces(bytes, to, to, [&](u32 at, u32 n) {
        u8 piece[kPageSize / 2];
        std::memset(piece, value, n);
        sim::machine().write(sim::machine().access(to + at, 1, sim::Access::write), piece, n);
    });
}

void not_lowmem(std::uintptr_t what) {
    throw sim::BadAccess{sim::text("{:x} is no address, or no object, of the direct map", static_cast<u64>(what))};
}

} // namespace loft::hal::detail
