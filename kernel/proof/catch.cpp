// Catches an expected panic by a jump back to the test.
//
// The compiler's built-in setjmp and longjmp are sufficient: the panicking code is always deeper on the same stack,
// also in an exception handler. The double-fault task and the NMI handler do not call deliver_expected_panic.
#include "kernel/proof/catch.hpp"

#include "arch/base/panic.hpp"
#include "kernel/report/panic.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/ground/context.hpp"
#include "mm/ground/spinlock.hpp"
#include "mm/windows/kmap_local.hpp"

namespace loft {
namespace {

void* jump_buffer[5];
bool armed = false;
constinit ThreadId expecting{}; // a panic of another thread is not caught
constinit BufferSink<512> caught_text;

// State that an interrupt handler or a map changes, and restores at its end.
struct Before {
    u32 flags;
    Context counts;
    u32 local_limit;
    u32 depth;
    HeldLock* newest_lock;
};
constinit Before before{};

} // namespace

[[gnu::noinline]] std::string_view run_catching_panic(void (*body)(void*), void* argument) {
    LOFT_ASSERT(!armed);
    const MigrateGuard same_cpu; // the saved state belongs to this CPU
    caught_text.clear();
    const u32 flags = hal::irq_save();
    before = {flags, context.mine(), local_maps.mine().limit, local_depth(), HeldLock::newest()};
    hal::irq_restore(flags);
    expecting = hal::current_thread();
    armed = true;
    if (__builtin_setjmp(jump_buffer) == 0) {
        body(argument);
        armed = false;
        return {};
    }
    context.mine() = before.counts;
    local_maps.mine().limit = before.local_limit;
    if (local_depth() > before.depth) local_unwind(before.depth);
    hal::irq_restore(before.flags);
    return caught_text.view();
}

void deliver_expected_panic(std::string_view text, std::span<const fmt::Arg> args) {
    if (!armed || hal::current_thread() != expecting) return;
    armed = false;
    static_cast<void>(hal::irq_save());
    fmt::format_args(caught_text, text, args);
    HeldLock::abandon(before.newest_lock); // while the stack of the guards still exists
    __builtin_longjmp(jump_buffer, 1);
}

} // namespace loft
