// A lock for short critical sections. Interrupts are off on the holder's CPU, so an interrupt handler never spins for a
// lock that its own CPU holds. With SMP=0 turning interrupts off is the lock.
#pragma once

#include "arch/base/near_wrap.hpp"
#include "arch/base/not_copyable.hpp"
#include "arch/base/panic.hpp"
#include "arch/base/thread_safety.hpp"
#include <hal/hal.hpp>

namespace loft {

// The lock order: a lock is taken only while locks of lower ranks are held. A lock without a rank has the rank `last`.
// Checked with DEBUG=1.
enum class LockRank : u8 { threads, vmap, cache, pkmap, zone, block, wait, last };

class HeldLock;

struct LockStats {
    u32 taken = 0; // by a HeldLock. The scheduler takes the lock of a run queue without one: not counted
    u32 waits = 0; // the lock was held by another CPU
};
LockStats lock_stats_sum(); // of all CPUs (counting_cpus)

namespace detail {
struct HeldLocks {
    HeldLock* newest = nullptr;
    u32 taken = near_wrap<u32>();
    u32 waits = near_wrap<u32>();
};
extern hal::PerCpu<HeldLocks> held_locks;
} // namespace detail

class LOFT_LOCK("spin lock") SpinLock {
  public:
    constexpr SpinLock() = default;
    explicit constexpr SpinLock(LockRank rank) : rank_{rank} {}

    bool held() const { return owner_.load() != kNobody; }
    void reset() { owner_.store(kNobody); } // boot: releases the lock, whatever CPU held it before

    // Without a guard: for the scheduler, which locks on one stack and unlocks on another. Interrupts are off.
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

    [[gnu::cold, gnu::noinline]] void contend(u32 me); // spins until this CPU holds the lock

    hal::Atomic<u32> owner_{kNobody}; // the number of a CPU
    hal::Plain<u32> taken_at_;        // DEBUG: return address of the holder, for messages
    LockRank rank_ = LockRank::last;
};

// A lock that this CPU holds. All of them are in a per-CPU list, so that when a context is abandoned (a panic that a
// self-test expects), its locks can be released.
class HeldLock : NotCopyable<HeldLock> {
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

    // The lock that this CPU took last. Interrupts are off.
    static HeldLock* newest() { return detail::held_locks.load<&detail::HeldLocks::newest>(); }
    // Unlocks all locks taken after `until`; their context will not run again. Interrupts are off.
    static void abandon(HeldLock* until) LOFT_UNCHECKED { // of locks that no function here has taken
        for (HeldLock* held = newest(); held != until; held = held->outer_)
            held->leave(held->lock_);
    }

  private:
    static void set_newest(HeldLock* held) { detail::held_locks.store<&detail::HeldLocks::newest>(held); }
    // The newest one has the highest rank of all, because each was taken in order. Locks of the rank `last` nest.
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

// Turns interrupts off and takes the lock; the destructor undoes both. Any context but NMI.
class [[nodiscard]] LOFT_GUARD SpinGuard : NotCopyable<SpinGuard> {
  public:
    explicit SpinGuard(SpinLock& lock) LOFT_TAKES(lock) : flags_{hal::irq_save()}, lock_{lock}, held_{lock} {}
    ~SpinGuard() LOFT_GIVES_BACK() {
        held_.leave(lock_);
        hal::irq_restore(flags_);
    }

  private:
    u32 flags_;
    SpinLock& lock_;
    HeldLock held_;
};

// Runs body() with the lock held. Context: interrupts on, as after might_sleep(); so no flags need to be saved, which
// makes it a third cheaper than a guard. The thread-safety analysis does not see that the body has the lock: the body
// is declared with LOFT_REQUIRES.
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
