// Error results of system calls: Linux's numbers, negative in EAX.
#pragma once

#include "arch/base/error.hpp"

namespace loft {

// Errno{}: no error.
enum class Errno : int {
    perm = 1,
    noent = 2,
    srch = 3,
    intr = 4,
    io = 5,
    nxio = 6,
    badf = 9,
    child = 10,
    again = 11,
    nomem = 12,
    acces = 13,
    fault = 14,
    busy = 16,
    exist = 17,
    xdev = 18,
    nodev = 19,
    notdir = 20,
    isdir = 21,
    inval = 22,
    mfile = 24,
    notty = 25,
    txtbsy = 26,
    fbig = 27,
    nospc = 28,
    spipe = 29,
    rofs = 30,
    mlink = 31,
    pipe = 32,
    range = 34,
    nametoolong = 36,
    nosys = 38,
    notempty = 39,
    loop = 40,
    nopkg = 65,
    overflow = 75,
    notsup = 95,
    timedout = 110,
    uclean = 117,
};

// The errno for an error of mm.
constexpr Errno errno_of(Error error) {
    switch (error) {
    case Error::no_memory:
    case Error::no_space:
    case Error::not_found: // mprotect(2): "addresses in the range are not mapped"
        return Errno::nomem;
    case Error::invalid:
    case Error::out_of_reach:
        return Errno::inval;
    case Error::bad_address:
        return Errno::fault;
    case Error::no_access:
        return Errno::acces;
    case Error::busy:
        return Errno::again;
    case Error::io:
    case Error::timed_out:
    case Error::gone:
        return Errno::io;
    case Error::full:
        return Errno::nospc;
    case Error::corrupt:
        return Errno::uclean;
    }
    return Errno::inval;
}

constexpr bool is_error(Errno error) { return error != Errno{}; }
constexpr Errno errno_of(Status status) { return status ? Errno{} : errno_of(status.error()); }

// The result of a system call: a non-negative value, or an Errno. The addresses that mmap and brk return are values
// too; they lie below the last page.
class [[nodiscard]] SysResult {
  public:
    constexpr SysResult(Errno error) : value_{-static_cast<int>(error)} {}
    constexpr SysResult(Error error) : SysResult{errno_of(error)} {}
    constexpr SysResult(unsigned value) : value_{static_cast<int>(value)} {}
    constexpr SysResult(Status status) : value_{status ? 0 : -static_cast<int>(errno_of(status.error()))} {}
    constexpr int value() const { return value_; }
    constexpr bool failed() const { return value_ < 0 && value_ >= -4095; }

  private:
    int value_;
};

} // namespace loft
