// Mutex. Contract: mutex.hpp.
#include "mm/ground/mutex.hpp"

#include "mm/ground/context.hpp"

namespace loft {
namespace {

u32 me() { return hal::current_thread().value() + 1; } // not 0: hal/thread.hpp

// Out of unlock(), which is as short as it can be.
[[noreturn, gnu::cold, gnu::noinline]] void not_mine(const char* name, u32 owner) {
    if (owner == 0) panic("mutex {}: unlocked by thread {}, but not held", name, hal::current_thread());
    panic("mutex {}: unlocked by thread {}, held by {}", name, hal::current_thread(), ThreadId{owner - 1});
}

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
    if (owner != me()) not_mine(name_, owner);
    owner_.store(0);
    free_.release();
}

bool Mutex::is_mine() const { return owner_.load() == me(); }

} // namespace loft
