// Copies between the kernel and programs: through addresses that may be bad, and memory that may go away meanwhile.
//
// A UserAddr is believed in nothing: a range that wraps or reaches layout::kUserEnd is not touched at all, and every
// access may fault. The copy instructions are in an exception table (hal/user.hpp) and run with page faults off, so a
// fault ends them short. Then, page by page:
//
//     1. the fault is resolved as if the program had had it, and the copy is tried once more;
//     2. if that brought nothing forward (another thread has taken the page away again), the page is pinned under the
//        mutex of the space, and copied frame to frame.
//
// Each round copies at least one byte or ends, and the mutex is fair: no parallel munmap and mmap, however fast, keeps
// a copy from ending. A frame that is pinned is the one that was mapped at that moment: it cannot become another page
// of the program half-way (seed: Arcangeli on scalable kmap), and nothing of the address space is pinned with it.
//
// All u32 results are the number of bytes NOT copied, 0 for success. What is behind them has not been touched, or is
// undefined.
#pragma once

#include "arch/base/error.hpp"
#include "arch/base/fault.hpp"
#include "mm/spaces/address_space.hpp"

namespace loft {

// --- Of the program that runs. Preemptible context (checked in every build). Cost: none but what the faults cost.
[[nodiscard]] u32 copy_from_user(void* to, UserAddr from, u32 bytes);
[[nodiscard]] u32 copy_to_user(UserAddr to, const void* from, u32 bytes);
[[nodiscard]] u32 clear_user(UserAddr to, u32 bytes);

// --- The same without resolving anything: short on a fault. Any context but NMI.
[[nodiscard]] u32 copy_from_user_inatomic(void* to, UserAddr from, u32 bytes);
[[nodiscard]] u32 copy_to_user_inatomic(UserAddr to, const void* from, u32 bytes);

// --- One value of 1, 2 or 4 bytes. Error: bad_address. Preemptible context.
template <typename T> Result<T> get_user(UserAddr from);
template <typename T> Status put_user(UserAddr to, T value);

// A string of at most `size` bytes, its end included. Returns its length; `size` if its end is not among them (then
// `to` has no end either). Error: bad_address. Nothing behind the end of the string is touched but in its last page.
// Preemptible context.
Result<u32> strncpy_from_user(char* to, UserAddr from, u32 size);

// Resolves, page by page, the faults that reading or writing [addr, addr + bytes) would have now. Preemptible context.
[[nodiscard]] u32 fault_in_readable(UserAddr addr, u32 bytes);
[[nodiscard]] u32 fault_in_writeable(UserAddr addr, u32 bytes);

// --- Between a page of the kernel's, high or low, and the program. offset + bytes at most kPageSize; panics beyond.
// The copy itself runs under kmap_atomic. Preemptible context.
[[nodiscard]] u32 copy_user_to_page(Page* to, u32 offset, UserAddr from, u32 bytes);
[[nodiscard]] u32 copy_page_to_user(UserAddr to, Page* from, u32 offset, u32 bytes);

// --- Of any space, by whoever has a reference to it. Preemptible context. Pins the frames of `count` pages from `addr`
// (its page) on, as if each had been read or, with `write`, written; copies on write are made first. Returns how many
// are pinned, at least 1: fewer than `count` where a page cannot be had. Errors of the first page: bad_address,
// no_access, no_memory. put_page gives one back, whatever has become of the space by then.
Result<u32> get_user_pages(AddressSpace& space, UserAddr addr, u32 count, bool write, Page** out);

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
