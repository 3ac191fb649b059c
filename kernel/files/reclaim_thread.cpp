// The reclaim thread. Contract: reclaim_thread.hpp.
#include "kernel/files/reclaim_thread.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/irq/timer.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/reclaim/balance.hpp"

namespace loft {
namespace {

void free_frames(void*) {
    for (u32 in_vain = 0;;) {
        const ZoneSet low = wait_for_low_zones();
        const u64 begin = now_us();
        if (balance_zones(low))
            in_vain = 0;
        else
            sleep_ms(pause_ms(static_cast<u32>(now_us() - begin), in_vain++));
    }
}

} // namespace

void reclaim_thread_init() {
    // It is never joined: it runs as long as the machine.
    if (thread_create("reclaim", free_frames, nullptr) == nullptr)
        log(LogLevel::error, "files", "no memory for the thread that frees frames: only those who want some do");
}

} // namespace loft
