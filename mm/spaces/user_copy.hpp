// Copies between the kernel and programs. Addresses may be bad, and other threads may unmap the memory meanwhile.
//
// A UserAddr is never trusted: a range that wraps or reaches layout::kUserEnd is not accessed, and every access may
// fault. The copy instructions are in an exception table (hal/user.hpp) and run with page faults off, so a fault ends
// them short. Then, page by page:
//
//     1. the fault is resolved as if the program had had it, and the copy is repeated;
//     2. if that copied nothing (another thread has unmapped the page again), the page is pinned under the mutex of the
//        space, and copied frame to frame.
//
// Each round copies at least one byte or ends, and the mutex is fair: munmap and mmap in other threads, however fast,
// cannot keep a copy from ending. A pin holds the frame that was mapped at that moment, so the copy does not change to
// another page half-way (Arcangeli on scalable kmap: semantics.md). It does not pin the mapping.
//
// All u32 results are the number of bytes NOT copied, 0 for success. The target bytes that were not copied are
// unchanged or undefined.
#pragma once

#include "arch/base/error.hpp"
#include "arch/base/fault.hpp"
#include "arch/base/not_copyable.hpp"
#include "mm/spaces/address_space.hpp"

namespace loft {

// --- Memory of the current program. Preemptible context (checked in every build). Cost: that of the faults.
[[nodiscard]] u32 copy_from_user(void* to, UserAddr from, u32 bytes);
[[nodiscard]] u32 copy_to_user(UserAddr to, const void* from, u32 bytes);
[[nodiscard]] u32 clear_user(UserAddr to, u32 bytes);

// --- The same without resolving faults: ends short at a fault. Any context but NMI.
[[nodiscard]] u32 copy_from_user_inatomic(void* to, UserAddr from, u32 bytes);
[[nodiscard]] u32 copy_to_user_inatomic(UserAddr to, const void* from, u32 bytes);

// --- One value of 1, 2 or 4 bytes. Error: bad_address. Preemptible context.
template <typename T> Result<T> get_user(UserAddr from);
template <typename T> Status put_user(UserAddr to, T value);

// Copies a string of at most `size` bytes, with its NUL. Returns its length, or `size` if there is no NUL among them
// (then `to` is not terminated either). Error: bad_address. Reads no page after that of the NUL. Preemptible context.
Result<u32> strncpy_from_user(char* to, UserAddr from, u32 size);

// Resolves, page by page, the faults that a read or a write of [addr, addr + bytes) would have. Preemptible context.
[[nodiscard]] u32 fault_in_readable(UserAddr addr, u32 bytes);
[[nodiscard]] u32 fault_in_writeable(UserAddr addr, u32 bytes);

// --- Between a page of the kernel, high or low, and the program. Panics if offset + bytes is more than kPageSize.
// The copy itself runs under kmap_atomic. Preemptible context.
[[nodiscard]] u32 copy_user_to_page(Page* to, u32 offset, UserAddr from, u32 bytes);
[[nodiscard]] u32 copy_page_to_user(UserAddr to, Page* from, u32 offset, u32 bytes);

// --- Memory of any space; the caller has a reference to the space. Preemptible context. Pins the frames of `count`
// pages, from that of `addr` on, as if each had been read or, with `write`, written; copies on write are made first.
// Returns the number of pinned pages, at least 1; fewer than `count` if a page cannot be pinned. Errors of the first
// page: bad_address, no_access, no_memory. put_page unpins a page, also after the end of the space. A pin for writing
// counts as a store to an object that is written back, once: of stores after its write-back the object does not know. A
// caller whose page may be one of a file uses UserPin.
Result<u32> get_user_pages(AddressSpace& space, UserAddr addr, u32 count, bool write, Page** out);

// One pinned page until the end of the scope. At its end an object that is written back is told that the page was
// stored to, if it was pinned for writing. Context and errors as get_user_pages.
class UserPin : NotCopyable<UserPin> {
  public:
    UserPin(AddressSpace& space, UserAddr addr, bool write);
    ~UserPin();
    explicit operator bool() const { return pinned_.page != nullptr; }
    Page* page() const { return pinned_.page; }
    Error error() const; // if it has no page

  private:
    AddressSpace::Pinned pinned_;
};

[[nodiscard]] u32 read_space(AddressSpace& space, void* to, UserAddr from, u32 bytes);
[[nodiscard]] u32 write_space(AddressSpace& space, UserAddr to, const void* from, u32 bytes);

template <typename T> Result<T> get_user(UserAddr from) {
    static_assert(sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4);
    T value{};
    if (copy_from_user(&value, from, sizeof value) != 0) return Error::bad_address;
    return value;
}

template <typename T> Status put_user(UserAddr to, T value) {
    static_assert(sizeof(T) == 1 || sizeof(T) == 2 || sizeof(T) == 4);
    if (copy_to_user(to, &value, sizeof value) != 0) return Error::bad_address;
    return {};
}

} // namespace loft
