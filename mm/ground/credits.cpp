// Credits: the queue. Contract: credits.hpp.
#include "mm/ground/credits.hpp"

#include "mm/ground/context.hpp"

namespace loft {

bool Credits::try_acquire() {
    u32 value = value_.load();
    do {
        if (static_cast<int>(value) <= 0) return false;
    } while (!value_.compare_exchange(value, value - 1));
    return true;
}

void Credits::wait() {
    might_sleep("waiting for a credit");
    Waiter me;
    me.thread = hal::current_thread();
    {
        SpinGuard guard{lock_};
        if (granted_ != 0) {
            --granted_; // a thread released a credit after this one's take()
            return;
        }
        waiters_.push_back(me);
    }
    while (me.granted.load() == 0)
        hal::park();
}

void Credits::hand_over() {
    SpinGuard guard{lock_};
    Waiter* const waiter = waiters_.pop_front();
    if (waiter == nullptr) {
        ++granted_;
        return;
    }
    // The waiter lies on its thread's stack and is invalid as soon as that thread sees `granted`: read `thread` before.
    const ThreadId thread = waiter->thread;
    waiter->granted.store(1);
    hal::unpark(thread);
}

void Credits::reset(u32 n) LOFT_UNCHECKED {
    lock_.reset();
    value_.store(n);
    waiters_ = {};
    granted_ = 0;
}

} // namespace loft
