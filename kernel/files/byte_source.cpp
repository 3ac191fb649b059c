// The bytes of a write. Contract: byte_source.hpp.
#include "kernel/files/byte_source.hpp"

#include "mm/spaces/user_copy.hpp"
#include "mm/windows/highmem.hpp"

#include <algorithm>

namespace loft {

ByteSource ByteSource::of_list(UserAddr list, u32 pieces, u32 bytes) {
    ByteSource source{UserAddr{}, 0};
    source.list_ = list;
    source.pieces_ = pieces;
    source.left_ = bytes;
    return source;
}

ByteSource ByteSource::of_page(Page* page, u32 offset, u32 bytes) {
    ByteSource source{UserAddr{offset}, bytes};
    source.page_ = page;
    return source;
}

// Calls copy(from, done, bytes) for each contiguous part; `done` bytes were copied before it. It returns the number of
// bytes that it has not copied. The result: how many were copied.
template <typename F> u32 ByteSource::each_piece(u32 bytes, F&& copy) {
    for (u32 done = 0; done < bytes;) {
        if (piece_.bytes == 0) {
            if (pieces_ == 0 || copy_from_user(&piece_, list_, sizeof piece_) != 0) return done;
            list_ = list_ + u32{sizeof piece_};
            --pieces_;
            continue;
        }
        const u32 step = std::min(bytes - done, piece_.bytes);
        if (const u32 left = copy(UserAddr{piece_.base}, done, step); left != 0) return done + step - left;
        piece_.base += step;
        piece_.bytes -= step;
        done += step;
    }
    left_ -= bytes;
    return bytes;
}

// Calls copy(from) with the address of the next bytes of the page.
template <typename F> void ByteSource::with_page(u32 bytes, F&& copy) {
    {
        const KMap map{page_};
        copy(map.addr() + piece_.base);
    }
    piece_.base += bytes;
    left_ -= bytes;
}

bool ByteSource::copy_to(void* to, u32 bytes) {
    if (page_ != nullptr) {
        with_page(bytes, [&](VirtAddr from) { hal::copy_in(to, from, bytes); });
        return true;
    }
    return each_piece(bytes, [&](UserAddr from, u32 done, u32 step) {
               return copy_from_user(static_cast<u8*>(to) + done, from, step);
           }) == bytes;
}

u32 ByteSource::copy_to_page(Page* to, u32 offset, u32 bytes) {
    if (page_ != nullptr) {
        with_page(bytes, [&](VirtAddr from) {
            const LocalMap target{to};
            hal::copy_bytes(target.addr() + offset, from, bytes);
        });
        return bytes;
    }
    return each_piece(
        bytes, [&](UserAddr from, u32 done, u32 step) { return copy_user_to_page(to, offset + done, from, step); });
}

} // namespace loft
