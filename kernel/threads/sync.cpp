// WaitQueue, Completion. Contracts: sync.hpp.
#include "kernel/threads/sync.hpp"

#include "arch/base/panic.hpp"

namespace loft {

void WaitQueue::enter(Waiter& waiter) {
    waiter.thread = hal::current_thread();
    SpinGuard guard{lock_};
    waiters_.push_back(waiter);
}

// A waiter that was woken meanwhile is no longer in the queue. It did not need that wake-up: it passes it on.
void WaitQueue::leave(Waiter& waiter) {
    {
        SpinGuard guard{lock_};
        if (waiters_.remove_if_there(waiter)) return;
    }
    wake(1);
}

void WaitQueue::sleep(Waiter& waiter) {
    while (waiter.woken.load() == 0)
        hal::park();
}

u32 WaitQueue::wake(u32 most) {
    SpinGuard guard{lock_};
    u32 woken = 0;
    for (; woken < most && !waiters_.empty(); ++woken) {
        Waiter& waiter = *waiters_.pop_front();
        // When the waiter sees `woken`, its stack frame may be gone.
        const ThreadId thread = waiter.thread;
        waiter.woken.store(1);
        hal::unpark(thread);
    }
    return woken;
}

bool Completion::take() {
    u32 done = done_.load();
    do {
        if (done >= kAll) return true;
        if (done == 0) return false;
    } while (!done_.compare_exchange(done, done - 1));
    return true;
}

void Completion::wait() {
    queue_.wait([this] { return take(); });
}

void Completion::complete() {
    if (done_.load() < kAll) done_.fetch_add(1);
    queue_.wake_one();
}

void Completion::complete_all() {
    done_.fetch_or(kAll);
    queue_.wake_all();
}

} // namespace loft
