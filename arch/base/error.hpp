// Result<T>: a value or the reason why there is none. Nothing in loft throws.
#pragma once

#include <utility>

namespace loft {

enum class Error : unsigned char {
    no_memory,    // the allocator has nothing left that this request may take
    no_space,     // no free range of addresses is long enough
    invalid,      // an argument that no state could make right
    not_found,    //
    out_of_reach, // a physical address beyond what this configuration maps
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
    }
    return "?";
}

// T is trivially destructible wherever loft uses this: addresses, frames, pointers.
template <typename T> class [[nodiscard]] Result {
  public:
    constexpr Result(T value) : value_{std::move(value)}, ok_{true} {}
    constexpr Result(Error error) : error_{error} {}

    constexpr explicit operator bool() const { return ok_; }
    constexpr const T& operator*() const { return value_; }
    constexpr T& operator*() { return value_; }
    constexpr const T* operator->() const { return &value_; }
    constexpr Error error() const { return error_; }
    constexpr T value_or(T other) const { return ok_ ? value_ : other; }

  private:
    T value_{};
    Error error_{};
    bool ok_ = false;
};

} // namespace loft
