// A lock for short work: interrupts of this CPU are off while it is held, so an interrupt can never wait for
// its own CPU. With SMP=0 the interrupt flag alone is the lock.
#pragma once

#include "arch/base/panic.hpp"
#include "arch/base/thread_safety.hpp"
#include <hal/hal.hpp>

namespace loft {

// The order in which locks are taken: each one while only those before it are held. One without a rank comes
// last. Checked with DEBUG=1.
enum class LockRank : u8 { threads, vmap, cache, pkmap, zone, wait, last };

class HeldLock;

struct LockStats {
    u32 taken = 0; // by a guard; the scheduler's lock of a run queue, which has none, is not counted
    u32 waits = 0; // found taken by another CPU
};
LockStats lock_stats_sum(); // of all online CPUs

namespace detail {
struct HeldLocks {
    HeldLock* newest = nullptr;
    u32 taken = 0;
    u32 waits = 0;
};
extern hal::PerCpu<HeldLocks> held_locks;
} // namespace detail

class LOFT_LOCK("spin lock") SpinLock {
  public:
    constexpr SpinLock() = default;
    explicit constexpr SpinLock(LockRank rank) : rank_{rank} {}

    bool held() const { return owner_.load() != kNobody; }
    void reset() { owner_.store(kNobody); } // boot: whoever held it is gone

    // Without a guard: for the scheduler, which takes a lock on one stack and gives it back on another. Interrupts are
    // off.
    void lock() LOFT_TAKES() {
        const u32 me = hal::this_cpu().value();
        u32 expected = kNobody;
        if (!owner_.compare_exchange(expected, me)) [[unlikely]]
            contend(me);
        if constexpr (config::kDebug) taken_at_.store(hal::return_address());
    }
    void unlock() LOFT_GIVES_BACK() { owner_.store(kNobody); }

    LockRank rank() const { return rank_; }

  private:
    static constexpr u32 kNobody = ~0u;

    [[gnu::cold, gnu::noinline]] void contend(u32 me); // until it is ours

    hal::Atomic<u32> owner_{kNobody}; // a CPU
    hal::Plain<u32> taken_at_;        // DEBUG: where, for messages
    LockRank rank_ = LockRank::last;
};

// A lock that this CPU holds. They know each other, so that a context that is given up, as by a panic that a self-test
// expects, does not take its locks with it.
class HeldLock {
  public:
    // Interrupts are off.
    explicit HeldLock(SpinLock& lock) LOFT_TAKES(lock) : lock_{lock} {
        if constexpr (config::kDebug) check_rank();
        lock.lock();
        outer_ = newest();
        set_newest(this);
        detail::held_locks.add<&detail::HeldLocks::taken>(1);
    }
    void leave(SpinLock& lock) LOFT_GIVES_BACK(lock) {
        set_newest(outer_);
        lock.unlock();
    }
    HeldLock(const HeldLock&) = delete;
    HeldLock& operator=(const HeldLock&) = delete;

    // The one of this CPU that was taken last. Interrupts are off.
    static HeldLock* newest() { return detail::held_locks.load<&detail::HeldLocks::newest>(); }
    // Unlocks those taken after `until`; they are never left. Interrupts are off.
    static void abandon(HeldLock* until) LOFT_UNCHECKED { // of locks that no function here has taken
        for (HeldLock* held = newest(); held != until; held = held->outer_)
            held->leave(held->lock_);
    }

  private:
    static void set_newest(HeldLock* held) { detail::held_locks.store<&detail::HeldLocks::newest>(held); }
    // The youngest one held has the highest rank, as all of them were taken in order. Locks of the last rank nest.
    void check_rank() const {
        const HeldLock* held = newest();
        const bool in_order = held == nullptr || held->lock_.rank() < lock_.rank() || lock_.rank() == LockRank::last;
        if (!in_order)
            panic("spinlock: rank {} taken at {:08x} while rank {} is held", static_cast<u32>(lock_.rank()),
                  hal::return_address(), static_cast<u32>(held->lock_.rank()));
    }

    SpinLock& lock_;
    HeldLock* outer_;
};

// Any context. Takes the lock with interrupts off, gives both back.
class [[nodiscard]] LOFT_GUARD SpinGuard {
  public:
    explicit SpinGuard(SpinLock& lock) LOFT_TAKES(lock) : flags_{hal::irq_save()}, lock_{lock}, held_{lock} {}
    ~SpinGuard() LOFT_GIVES_BACK() {
        held_.leave(lock_);
        hal::irq_restore(flags_);
    }
    SpinGuard(const SpinGuard&) = delete;
    SpinGuard& operator=(const SpinGuard&) = delete;

  private:
    u32 flags_;
    SpinLock& lock_;
    HeldLock held_;
};

// body() with the lock held, for who is behind might_sleep(): interrupts are on. Nothing that was known before has to
// be looked up after: a third cheaper than a guard. The analysis does not see through it: the body says by
// LOFT_REQUIRES that it has the lock.
template <typename F> [[gnu::always_inline]] inline auto with_lock(SpinLock& lock, F&& body) LOFT_UNCHECKED {
    hal::irq_off();
    HeldLock held{lock};
    struct Leave {
        SpinLock& lock;
        HeldLock& held;
        ~Leave() {
            held.leave(lock);
            hal::irq_restore(hal::kIrqsOn);
        }
    } const leave{lock, held};
    return body();
}

} // namespace loft
