// Result<T>: a value or an error; Status: success or an error. loft throws no exceptions.
#pragma once

#include <utility>

namespace loft {

enum class Error : unsigned char {
    no_memory,    // the allocator has no memory left for this request
    no_space,     // no free address range is large enough
    invalid,      // invalid argument, in any state
    not_found,    //
    out_of_reach, // a physical address beyond what this configuration maps
    bad_address,  // a user address without memory
    no_access,    // the memory exists, but does not permit this access
    busy,         // another user has it now
    io,           // the device reported an error
    timed_out,    // the device did not answer
    gone,         // the device was taken away
    full,         // the disk, or the file system, has no room left
    corrupt,      // what the disk has contradicts its format
};

constexpr const char* error_name(Error error) {
    switch (error) {
    case Error::no_memory:
        return "out of memory";
    case Error::no_space:
        return "out of address space";
    case Error::invalid:
        return "invalid argument";
    case Error::not_found:
        return "not found";
    case Error::out_of_reach:
        return "out of reach";
    case Error::bad_address:
        return "bad address";
    case Error::no_access:
        return "no access";
    case Error::busy:
        return "busy";
    case Error::io:
        return "input/output error";
    case Error::timed_out:
        return "the device does not answer";
    case Error::gone:
        return "the device is gone";
    case Error::full:
        return "no space left";
    case Error::corrupt:
        return "the structure needs cleaning";
    }
    return "?";
}

// loft uses this only with trivially destructible T: addresses, frames, pointers. E: the type of the errors.
template <typename T, typename E = Error> class [[nodiscard]] Result {
  public:
    constexpr Result(T value) : value_{std::move(value)}, ok_{true} {}
    constexpr Result(E error) : error_{error} {}

    constexpr explicit operator bool() const { return ok_; }
    constexpr const T& operator*() const { return value_; }
    constexpr T& operator*() { return value_; }
    constexpr const T* operator->() const { return &value_; }
    constexpr E error() const { return error_; }
    constexpr T value_or(T other) const { return ok_ ? value_ : other; }

  private:
    T value_{};
    E error_{};
    bool ok_ = false;
};

// For functions without a result value.
class [[nodiscard]] Status {
  public:
    constexpr Status() = default; // success
    constexpr Status(Error error) : error_{error}, ok_{false} {}

    constexpr explicit operator bool() const { return ok_; }
    constexpr Error error() const { return error_; }

  private:
    Error error_{};
    bool ok_ = true;
};

} // namespace loft
