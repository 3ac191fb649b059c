// The copies: try, resolve the fault and try again, pin and copy. Contract: user_copy.hpp.
#include "mm/spaces/user_copy.hpp"

#include "arch/base/not_copyable.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/ground/context.hpp"
#include "mm/windows/highmem.hpp"

#include <algorithm>

namespace loft {
namespace {

// Page-fault handling is off: an attempt ends at the first fault.
class [[nodiscard]] NoFaults : NotCopyable<NoFaults> {
  public:
    NoFaults() { pagefault_disable(); }
    ~NoFaults() { pagefault_enable(); }
};

// A kind of copy. `at` is the offset in the whole copy. attempt() returns the number of bytes not copied; by_frame()
// copies the part that lies in one frame.
struct CopyIn {
    static constexpr FaultAccess kAccess = FaultAccess::read;
    u8* to;
    u32 attempt(VirtAddr user, u32 at, u32 bytes) const {
        NoFaults guard;
        return hal::user_copy_in(to + at, user, bytes);
    }
    void by_frame(Page* frame, u32 offset, u32 at, u32 bytes) const { memcpy_from_page(to + at, frame, offset, bytes); }
};

struct CopyOut {
    static constexpr FaultAccess kAccess = FaultAccess::write;
    const u8* from;
    u32 attempt(VirtAddr user, u32 at, u32 bytes) const {
        NoFaults guard;
        return hal::user_copy_out(user, from + at, bytes);
    }
    void by_frame(Page* frame, u32 offset, u32 at, u32 bytes) const { memcpy_to_page(frame, offset, from + at, bytes); }
};

struct Clear {
    static constexpr FaultAccess kAccess = FaultAccess::write;
    u32 attempt(VirtAddr user, u32, u32 bytes) const {
        NoFaults guard;
        return hal::user_clear(user, bytes);
    }
    void by_frame(Page* frame, u32 offset, u32, u32 bytes) const { memset_page(frame, offset, 0, bytes); }
};

struct CopyToPage {
    static constexpr FaultAccess kAccess = FaultAccess::read;
    Page* to;
    u32 first;
    u32 attempt(VirtAddr user, u32 at, u32 bytes) const {
        AtomicMap map{to};
        return hal::user_copy_to_map(map.addr() + first + at, user, bytes);
    }
    void by_frame(Page* frame, u32 offset, u32 at, u32 bytes) const {
        LocalMap source{frame};
        LocalMap target{to};
        hal::copy_bytes(target.addr() + first + at, source.addr() + offset, bytes);
    }
};

struct CopyFromPage {
    static constexpr FaultAccess kAccess = FaultAccess::write;
    Page* from;
    u32 first;
    u32 attempt(VirtAddr user, u32 at, u32 bytes) const {
        AtomicMap map{from};
        return hal::user_copy_from_map(user, map.addr() + first + at, bytes);
    }
    void by_frame(Page* frame, u32 offset, u32 at, u32 bytes) const {
        LocalMap source{from};
        LocalMap target{frame};
        hal::copy_bytes(target.addr() + offset, source.addr() + first + at, bytes);
    }
};

// True if the current thread has a program, and this is a user range. In a kernel thread the CPU may have the root of
// another program loaded lazily.
bool may_touch(UserAddr user, u32 bytes) { return layout::is_user_range(user, bytes) && active_space() != nullptr; }

template <typename Copy> u32 run(const Copy& copy, UserAddr user, u32 bytes) {
    might_sleep("a copy from or to a program");
    if (!may_touch(user, bytes)) return bytes;
    AddressSpace& space = *active_space();
    u32 left = copy.attempt(VirtAddr{user.value()}, 0, bytes);
    while (left != 0) {
        const u32 at = bytes - left;
        const VirtAddr va{user.value() + at};
        if (space.handle_fault(va, Copy::kAccess) != FaultResult::resolved) return left;
        const u32 now = copy.attempt(va, at, left);
        if (now < left) {
            left = now;
            continue;
        }
        // The attempt copied nothing: another thread has unmapped the page again, or a word lies across the end of the
        // page. A pinned frame cannot be taken away.
        const UserPin pin{space, user + at, Copy::kAccess == FaultAccess::write};
        if (!pin) return left;
        const u32 here = std::min(left, kPageSize - va.page_offset());
        copy.by_frame(pin.page(), va.page_offset(), at, here);
        left -= here;
    }
    return 0;
}

template <typename Copy> u32 run_in_page(const Copy& copy, UserAddr user, u32 offset, u32 bytes) {
    if (offset > kPageSize || bytes > kPageSize - offset)
        panic("copy between a page and a program: {} bytes from offset {} do not lie in one page", bytes, offset);
    return run(copy, user, bytes);
}

u32 fault_in(UserAddr addr, u32 bytes, FaultAccess access) {
    might_sleep("fault-in");
    if (!may_touch(addr, bytes)) return bytes;
    AddressSpace& space = *active_space();
    for (u32 at = 0; at < bytes;) {
        const VirtAddr va{addr.value() + at};
        if (space.handle_fault(va, access) != FaultResult::resolved) return bytes - at;
        at += std::min(bytes - at, kPageSize - va.page_offset());
    }
    return 0;
}

} // namespace

u32 copy_from_user(void* to, UserAddr from, u32 bytes) { return run(CopyIn{static_cast<u8*>(to)}, from, bytes); }
u32 copy_to_user(UserAddr to, const void* from, u32 bytes) {
    return run(CopyOut{static_cast<const u8*>(from)}, to, bytes);
}
u32 clear_user(UserAddr to, u32 bytes) { return run(Clear{}, to, bytes); }

u32 copy_from_user_inatomic(void* to, UserAddr from, u32 bytes) {
    if (!may_touch(from, bytes)) return bytes;
    return CopyIn{static_cast<u8*>(to)}.attempt(VirtAddr{from.value()}, 0, bytes);
}

u32 copy_to_user_inatomic(UserAddr to, const void* from, u32 bytes) {
    if (!may_touch(to, bytes)) return bytes;
    return CopyOut{static_cast<const u8*>(from)}.attempt(VirtAddr{to.value()}, 0, bytes);
}

u32 copy_user_to_page(Page* to, u32 offset, UserAddr from, u32 bytes) {
    return run_in_page(CopyToPage{to, offset}, from, offset, bytes);
}
u32 copy_page_to_user(UserAddr to, Page* from, u32 offset, u32 bytes) {
    return run_in_page(CopyFromPage{from, offset}, to, offset, bytes);
}

Result<u32> strncpy_from_user(char* to, UserAddr from, u32 size) {
    might_sleep("a copy from or to a program");
    for (u32 at = 0; at < size;) {
        // Up to the end of the page: the string may end there, and the next page may be unmapped.
        const u32 piece = std::min(size - at, kPageSize - (from + at).page_offset());
        if (copy_from_user(to + at, from + at, piece) != 0) return Error::bad_address;
        const char* const end = std::find(to + at, to + at + piece, '\0');
        if (end != to + at + piece) return static_cast<u32>(end - to);
        at += piece;
    }
    return size;
}

u32 fault_in_readable(UserAddr addr, u32 bytes) { return fault_in(addr, bytes, FaultAccess::read); }
u32 fault_in_writeable(UserAddr addr, u32 bytes) { return fault_in(addr, bytes, FaultAccess::write); }

FaultResult resolve_user_fault(VirtAddr va, FaultAccess access) {
    if (pagefaults_disabled() || !preemptible() || va.value() >= layout::kUserEnd) return FaultResult::bad_address;
    AddressSpace* const space = active_space();
    return space != nullptr ? space->handle_fault(va, access) : FaultResult::bad_address;
}

} // namespace loft
