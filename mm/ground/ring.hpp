// Doubly linked lists for heads with static storage, and the ring that the hand of a clock follows.
//
// The kernel runs no constructors at namespace scope, and the lists of Boost.Intrusive have some that are not
// constexpr; so these use its algorithms.
#pragma once

#include "mm/ground/spinlock.hpp"

#include <boost/intrusive/circular_list_algorithms.hpp>
#include <boost/intrusive/parent_from_member.hpp>

namespace loft {

struct ListLink {
    ListLink *next = nullptr, *previous = nullptr;
};
struct ListLinkTraits {
    using node = ListLink;
    using node_ptr = ListLink*;
    using const_node_ptr = const ListLink*;
    static node_ptr get_next(const_node_ptr n) { return n->next; }
    static void set_next(node_ptr n, node_ptr next) { n->next = next; }
    static node_ptr get_previous(const_node_ptr n) { return n->previous; }
    static void set_previous(node_ptr n, node_ptr previous) { n->previous = previous; }
};
using ListLinks = boost::intrusive::circular_list_algorithms<ListLinkTraits>;

// Objects in the order in which the hand of a clock comes to them. The ring has no references to them. An object is
// added when it is made, and removed after its last reference was put and before it is freed.
// All calls: any context but NMI. Cost: constant; first() passes over the objects that are being freed, and first_of()
// over those that are not wanted.
template <typename T, ListLink T::*kLink> class Ring {
  public:
    void add(T& object) {
        SpinGuard guard{lock_};
        ListLinks::link_before(&head_, &(object.*kLink));
        ++count_;
    }
    void remove(T& object) {
        SpinGuard guard{lock_};
        ListLinks::unlink(&(object.*kLink));
        --count_;
    }
    // The object at the hand, with a reference. Null: none has one any more.
    T* first() {
        return first_of([](T&) { return true; });
    }
    // The first one from the hand on for which wanted(object) is true. The lock is held during wanted.
    template <typename F> T* first_of(F&& wanted) {
        SpinGuard guard{lock_};
        for (ListLink* at = head_.next; at != &head_; at = at->next) {
            T& object = *boost::intrusive::get_parent_from_member(at, kLink);
            if (wanted(object) && object.get_if_used()) return &object;
        }
        return nullptr;
    }
    // The hand has passed this object, to which the caller has a reference.
    void passed(T& object) {
        SpinGuard guard{lock_};
        ListLinks::unlink(&(object.*kLink));
        ListLinks::link_before(&head_, &(object.*kLink));
    }
    u32 size() {
        SpinGuard guard{lock_};
        return count_;
    }
    void reset() { // boot
        SpinGuard guard{lock_};
        ListLinks::init_header(&head_);
        count_ = 0;
    }

  private:
    SpinLock lock_{LockRank::last};
    ListLink head_ LOFT_GUARDED_BY(lock_);
    u32 count_ LOFT_GUARDED_BY(lock_) = 0;
};

} // namespace loft
