// Access to memory of any address space by pinned frames. Contract: user_copy.hpp.
#include "mm/spaces/user_copy.hpp"

#include "mm/frames/page_alloc.hpp"
#include "mm/ground/context.hpp"
#include "mm/windows/highmem.hpp"

#include <algorithm>

namespace loft {
namespace {

Error error_of(FaultResult result) {
    switch (result) {
    case FaultResult::no_access:
        return Error::no_access;
    case FaultResult::no_memory:
        return Error::no_memory;
    default:
        return Error::bad_address;
    }
}

// Calls copy(Page*, offset, at, bytes) for each page of the range; the page is pinned. Returns the bytes not copied.
template <typename F> u32 by_page(AddressSpace& space, UserAddr addr, u32 bytes, bool write, F&& copy) {
    might_sleep("access to another address space");
    if (!layout::is_user_range(addr, bytes)) return bytes;
    for (u32 at = 0; at < bytes;) {
        const UserPin pin{space, addr + at, write};
        if (!pin) return bytes - at;
        const u32 offset = (addr + at).page_offset(), here = std::min(bytes - at, kPageSize - offset);
        copy(pin.page(), offset, at, here);
        at += here;
    }
    return 0;
}

} // namespace

Result<u32> get_user_pages(AddressSpace& space, UserAddr addr, u32 count, bool write, Page** out) {
    might_sleep("get_user_pages");
    for (u32 i = 0; i < count; ++i) {
        // pin() fails at layout::kUserEnd, so the address does not wrap.
        const VirtAddr va{(addr.value() & kPageMask) + (i << kPageShift)};
        const auto pinned = space.pin(va, write ? FaultAccess::write : FaultAccess::read);
        if (pinned.result != FaultResult::resolved) {
            if (i == 0) return error_of(pinned.result);
            return i;
        }
        if (pinned.object != nullptr) pinned.object->put();
        out[i] = pinned.page;
    }
    return count;
}

UserPin::UserPin(AddressSpace& space, UserAddr addr, bool write) {
    // pin() fails from layout::kUserEnd on.
    pinned_ = space.pin(VirtAddr{addr.value() & kPageMask}, write ? FaultAccess::write : FaultAccess::read);
}

UserPin::~UserPin() {
    if (pinned_.page == nullptr) return;
    if (pinned_.object != nullptr) {
        pinned_.object->stored_to(pinned_.number);
        pinned_.object->put();
    }
    put_page(pinned_.page);
}

Error UserPin::error() const { return error_of(pinned_.result); }

u32 read_space(AddressSpace& space, void* to, UserAddr from, u32 bytes) {
    return by_page(space, from, bytes, false, [to](Page* frame, u32 offset, u32 at, u32 n) {
        memcpy_from_page(static_cast<u8*>(to) + at, frame, offset, n);
    });
}

u32 write_space(AddressSpace& space, UserAddr to, const void* from, u32 bytes) {
    return by_page(space, to, bytes, true, [from](Page* frame, u32 offset, u32 at, u32 n) {
        memcpy_to_page(frame, offset, static_cast<const u8*>(from) + at, n);
    });
}

} // namespace loft
