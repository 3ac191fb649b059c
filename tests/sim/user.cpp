// The copies of hal/user, in pieces that lie inside a page; each piece is an access that may fault.
#include <hal/mem.hpp>
#include <hal/user.hpp>

namespace loft::hal {
namespace {

// These bytes of the program have been accessed. A test that wants to know is told of the whole words.
void note(VirtAddr user, u32 bytes, const u8* data, FaultAccess access) {
    if (sim::user_word_copied == nullptr) return;
    for (u32 i = (0 - user.value()) % 4; i + 4 <= bytes; i += 4) {
        u32 value;
        std::memcpy(&value, data + i, sizeof value);
        sim::user_word_copied(user + i, value, access);
    }
}

// The bytes at a user address; null if the fault cannot be resolved. The fault is resolved after the catch block has
// ended: a fiber must not be switched away inside one.
u8* reach(VirtAddr va, sim::Access kind) {
    for (;;) {
        try {
            return sim::machine().access(va, 1, kind);
        } catch (const sim::PageFault&) {
        }
        const FaultAccess access = sim::writes(kind) ? FaultAccess::write : FaultAccess::read;
        if (resolve_user_fault(va, access) != FaultResult::resolved) return nullptr;
    }
}

// one(at, n) copies a piece, or returns false.
template <typename F> u32 copy(u32 bytes, VirtAddr a, VirtAddr b, F&& one) {
    u32 left = bytes;
    detail::in_pieces(bytes, a, b, [&](u32 at, u32 n) {
        if (left == bytes - at && one(at, n)) left -= n;
    });
    return left;
}

} // namespace

u32 user_copy_in(void* to, VirtAddr from, u32 bytes) {
    sim::touch_plain(to, bytes, sim::races::Kind::write);
    const u8* frame = nullptr;
    const u32 left = copy(bytes, from, from, [&](u32 at, u32 n) {
        const u8* source = reach(from + at, sim::Access::read);
        if (source == nullptr) return false;
        note(from + at, n, source, FaultAccess::read);
        std::memcpy(static_cast<u8*>(to) + at, source, n);
        frame = source - (from + at).page_offset();
        return true;
    });
    if (sim::detail::exploring) sim::detail::explore_copied(frame);
    return left;
}

u32 user_copy_out(VirtAddr to, const void* from, u32 bytes) {
    sim::touch_plain(from, bytes, sim::races::Kind::read);
    return copy(bytes, to, to, [&](u32 at, u32 n) {
        u8* target = reach(to + at, sim::Access::write);
        if (target == nullptr) return false;
        sim::machine().write(target, static_cast<const u8*>(from) + at, n);
        note(to + at, n, static_cast<const u8*>(from) + at, FaultAccess::write);
        return true;
    });
}

u32 user_copy_to_map(VirtAddr to, VirtAddr from, u32 bytes) {
    return copy(bytes, to, from, [&](u32 at, u32 n) {
        const u8* source = reach(from + at, sim::Access::read);
        if (source == nullptr) return false;
        note(from + at, n, source, FaultAccess::read);
        sim::machine().write(sim::machine().access(to + at, 1, sim::Access::write), source, n);
        return true;
    });
}

u32 user_copy_from_map(VirtAddr to, VirtAddr from, u32 bytes) {
    return copy(bytes, to, from, [&](u32 at, u32 n) {
        u8* target = reach(to + at, sim::Access::write);
        if (target == nullptr) return false;
        const u8* const source = sim::machine().access(from + at, 1, sim::Access::read);
        sim::machine().write(target, source, n);
        note(to + at, n, source, FaultAccess::write);
        return true;
    });
}

u32 user_clear(VirtAddr to, u32 bytes) {
    return copy(bytes, to, to, [&](u32 at, u32 n) {
        static constexpr u8 kZeros[kPageSize]{};
        u8* target = reach(to + at, sim::Access::write);
        if (target == nullptr) return false;
        sim::machine().write(target, kZeros, n);
        note(to + at, n, kZeros, FaultAccess::write);
        return true;
    });
}

} // namespace loft::hal
