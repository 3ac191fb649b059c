// Mutex. Contract: mutex.hpp.
#include "mm/ground/mutex.hpp"

#include "mm/ground/context.hpp"

namespace loft {
namespace {

u32 me() { return hal::current_thread().value() + 1; } // not 0: hal/thread.hpp

} // namespace

void Mutex::lock() LOFT_UNCHECKED {
    might_sleep("lock of a mutex");
    const u32 thread = me();
    if (owner_.load() == thread) panic("mutex {}: this thread already holds it", name_);
    free_.acquire();
    owner_.store(thread);
}

bool Mutex::try_lock() LOFT_UNCHECKED {
    might_sleep("lock of a mutex");
    if (!free_.try_acquire()) return false;
    owner_.store(me());
    return true;
}

void Mutex::unlock() LOFT_UNCHECKED {
    const u32 owner = owner_.load();
    if (owner == 0) panic("mutex {}: unlocked by thread {}, but not held", name_, hal::current_thread());
    if (owner != me())
        panic("mutex {}: unlocked by thread {}, held by {}", name_, hal::current_thread(), ThreadId{owner - 1});
    owner_.store(0);
    free_.release();
}

bool Mutex::is_mine() const { return owner_.load() == me(); }

} // namespace loft
