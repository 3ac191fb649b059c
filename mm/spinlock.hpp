// A lock for short work: interrupts of this CPU are off while it is held, so an interrupt can never wait for
// its own CPU. With SMP=0 the interrupt flag alone is the lock.
#pragma once

#include "arch/base/panic.hpp"
#include <hal/hal.hpp>

namespace loft {

class SpinLock {
  public:
    constexpr SpinLock() = default;

    bool held() const { return owner_.load() != 0; }
    void reset() { owner_.store(0); } // boot: whoever held it is gone

  private:
    friend class SpinGuard;
    void lock() {
        const u32 me = hal::this_cpu().value() + 1;
        u32 expected = 0;
        while (!owner_.compare_exchange(expected, me)) {
            if (expected == me) panic("spinlock: this CPU already holds it");
            expected = 0;
            hal::cpu_relax();
        }
    }
    void unlock() { owner_.store(0); }

    hal::Atomic<u32> owner_; // CPU + 1
};

// Any context. Takes the lock with interrupts off, gives both back. The guards of a CPU know each other, so that a
// context that is given up, as by a panic that a self-test expects, does not take its locks with it.
class [[nodiscard]] SpinGuard {
  public:
    explicit SpinGuard(SpinLock& lock) : flags_{hal::irq_save()}, lock_{lock} {
        lock_.lock();
        outer_ = newest();
        newest() = this;
    }
    ~SpinGuard() {
        newest() = outer_;
        lock_.unlock();
        hal::irq_restore(flags_);
    }
    SpinGuard(const SpinGuard&) = delete;
    SpinGuard& operator=(const SpinGuard&) = delete;

    // The guard of this CPU that was made last. Interrupts are off.
    static SpinGuard*& newest();
    // Unlocks what the guards made after `until` hold; they are never destroyed. Interrupts are off.
    static void abandon(SpinGuard* until) {
        for (; newest() != until; newest() = newest()->outer_)
            newest()->lock_.unlock();
    }

  private:
    u32 flags_;
    SpinLock& lock_;
    SpinGuard* outer_;
};

namespace detail {
struct HeldLocks {
    SpinGuard* newest = nullptr;
};
extern hal::PerCpu<HeldLocks> held_locks;
} // namespace detail

inline SpinGuard*& SpinGuard::newest() { return detail::held_locks.mine().newest; }

} // namespace loft
