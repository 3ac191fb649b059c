// A lock for short work: interrupts of this CPU are off while it is held, so an interrupt can never wait for
// its own CPU. With SMP=0 the interrupt flag alone is the lock.
#pragma once

#include "arch/base/panic.hpp"
#include <hal/hal.hpp>

namespace loft {

// The order in which locks are taken: each one while only those before it are held. One without a rank comes
// last. Checked with DEBUG=1.
enum class LockRank : u8 { threads, vmap, cache, pkmap, zone, wait, last };

class SpinGuard;

struct LockStats {
    u32 taken = 0; // by a SpinGuard; the scheduler's lock of a run queue, which has none, is not counted
    u32 waits = 0; // found taken by another CPU
};
LockStats lock_stats_sum(); // of all online CPUs

namespace detail {
struct HeldLocks {
    SpinGuard* newest = nullptr;
    u32 taken = 0;
    u32 waits = 0;
};
extern hal::PerCpu<HeldLocks> held_locks;
} // namespace detail

class SpinLock {
  public:
    constexpr SpinLock() = default;
    explicit constexpr SpinLock(LockRank rank) : rank_{rank} {}

    bool held() const { return owner_.load() != 0; }
    void reset() { owner_.store(0); } // boot: whoever held it is gone

    // Without a guard: for the scheduler, which takes a lock on one stack and gives it back on another. Interrupts are off.
    void lock() {
        const u32 me = hal::this_cpu().value() + 1;
        u32 expected = 0;
        if (!owner_.compare_exchange(expected, me)) [[unlikely]]
            contend(me);
        if constexpr (config::kDebug) taken_at_.store(hal::return_address());
    }
    void unlock() { owner_.store(0); }

    LockRank rank() const { return rank_; }

  private:
    [[gnu::cold, gnu::noinline]] void contend(u32 me); // until it is ours

    hal::Atomic<u32> owner_;   // CPU + 1
    hal::Plain<u32> taken_at_; // DEBUG: where, for messages
    LockRank rank_ = LockRank::last;
};

// Any context. Takes the lock with interrupts off, gives both back. The guards of a CPU know each other, so that a
// context that is given up, as by a panic that a self-test expects, does not take its locks with it.
class [[nodiscard]] SpinGuard {
  public:
    explicit SpinGuard(SpinLock& lock) : flags_{hal::irq_save()}, lock_{lock} { enter(); }
    // Behind might_sleep(): interrupts are on.
    struct FromThread {};
    SpinGuard(SpinLock& lock, FromThread) : flags_{hal::kIrqsOn}, lock_{lock} {
        hal::irq_off();
        enter();
    }
    ~SpinGuard() {
        set_newest(outer_);
        lock_.unlock();
        hal::irq_restore(flags_);
    }
    SpinGuard(const SpinGuard&) = delete;
    SpinGuard& operator=(const SpinGuard&) = delete;

    // The guard of this CPU that was made last. Interrupts are off.
    static SpinGuard* newest() { return detail::held_locks.load<&detail::HeldLocks::newest>(); }
    // Unlocks what the guards made after `until` hold; they are never destroyed. Interrupts are off.
    static void abandon(SpinGuard* until) {
        for (SpinGuard* guard = newest(); guard != until; guard = guard->outer_) {
            guard->lock_.unlock();
            set_newest(guard->outer_);
        }
    }

  private:
    void enter() {
        if constexpr (config::kDebug) check_rank();
        lock_.lock();
        outer_ = newest();
        set_newest(this);
        detail::held_locks.add<&detail::HeldLocks::taken>(1);
    }
    static void set_newest(SpinGuard* guard) { detail::held_locks.store<&detail::HeldLocks::newest>(guard); }

    // The youngest one held has the highest rank, as all of them were taken in order. Locks of the last rank nest.
    void check_rank() const {
        const SpinGuard* held = newest();
        const bool in_order =
            held == nullptr || held->lock_.rank() < lock_.rank() || lock_.rank() == LockRank::last;
        if (!in_order)
            panic("spinlock: rank {} taken at {:08x} while rank {} is held", static_cast<u32>(lock_.rank()),
                  hal::return_address(), static_cast<u32>(held->lock_.rank()));
    }

    u32 flags_;
    SpinLock& lock_;
    SpinGuard* outer_;
};

} // namespace loft
