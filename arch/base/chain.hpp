// Chain: a singly linked list whose links are members of its elements, with access to both ends.
//
// For heads with static storage: the kernel runs no constructors at namespace scope, and the lists of Boost.Intrusive
// have some that are not constexpr. Its trees and its list algorithms are used where they fit.
#pragma once

#include "arch/base/panic.hpp"

namespace loft {

// An element is in at most one chain per link. All calls: the caller serializes. Cost: constant, or as said.
template <typename T, T* T::*kNext> class Chain {
  public:
    constexpr Chain() = default;

    bool empty() const { return first_ == nullptr; }
    T* first() const { return first_; }

    void push_back(T& item) {
        item.*kNext = nullptr;
        (last_ != nullptr ? last_->*kNext : first_) = &item;
        last_ = &item;
    }
    void push_front(T& item) {
        item.*kNext = first_;
        if (first_ == nullptr) last_ = &item;
        first_ = &item;
    }
    T* pop_front() { // null: empty
        T* const item = first_;
        if (item != nullptr && (first_ = item->*kNext) == nullptr) last_ = nullptr;
        return item;
    }

    // Removes the first element for which wanted(const T&) holds. Null: there is none. Linear.
    template <typename F> T* take(F&& wanted) {
        T* before = nullptr;
        for (T* item = first_; item != nullptr; before = item, item = item->*kNext) {
            if (!wanted(*item)) continue;
            (before != nullptr ? before->*kNext : first_) = item->*kNext;
            if (last_ == item) last_ = before;
            return item;
        }
        return nullptr;
    }
    // `item` is in the chain: else a panic. Linear.
    void remove(const T& item) { LOFT_ASSERT(remove_if_there(item)); }
    // False: `item` was not in the chain. Linear.
    [[nodiscard]] bool remove_if_there(const T& item) {
        return take([&item](const T& one) { return &one == &item; }) != nullptr;
    }

    // Puts `item` before the first element for which is_after(const T&) holds, else at the end. Linear.
    template <typename F> void insert(T& item, F&& is_after) {
        T* before = nullptr;
        for (T* at = first_; at != nullptr && !is_after(*at); at = at->*kNext)
            before = at;
        if (before == nullptr) return push_front(item);
        item.*kNext = before->*kNext;
        before->*kNext = &item;
        if (last_ == before) last_ = &item;
    }

    // visit(T&) for each element, in order, until it returns false; then false. It may remove its element. Linear.
    template <typename F> bool each(F&& visit) const {
        for (T* item = first_; item != nullptr;) {
            T* const after = item->*kNext;
            if (!visit(*item)) return false;
            item = after;
        }
        return true;
    }

  private:
    T* first_ = nullptr;
    T* last_ = nullptr;
};

} // namespace loft
