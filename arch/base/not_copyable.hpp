// NotCopyable: the base of classes whose objects cannot be copied: locks, guards, and objects that others point to.
#pragma once

namespace loft {

// class Lock : NotCopyable<Lock> { ... };
// A base for each class: an empty base takes no room, unless the first member of the class has the same base.
template <typename> class NotCopyable {
  public:
    NotCopyable(const NotCopyable&) = delete;
    NotCopyable& operator=(const NotCopyable&) = delete;

  protected:
    constexpr NotCopyable() = default;
    ~NotCopyable() = default;
};

} // namespace loft
