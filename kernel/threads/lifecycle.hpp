// How a thread begins, ends, and is waited for.
#pragma once

#include "kernel/threads/thread.hpp"

namespace loft {

// A thread that runs run(argument), on a CPU of `affinity` that is online (at least one), and ends when it returns. The
// name is cut to what fits. `gfp`: where the frames of its stack come from; Gfp::user for a thread of a program, which
// leaves the kernel's reserve alone. Null when there is no memory for it. Every thread must be joined. Preemptible
// context.
[[nodiscard]] Thread* thread_create(std::string_view name, ThreadFunction run, void* argument,
                                    CpuSet affinity = kEveryCpu, Gfp gfp = Gfp::high);
// With something callable, which the caller keeps until it has joined the thread.
template <typename F> [[nodiscard]] Thread* thread_create(std::string_view name, F& body, CpuSet affinity = kEveryCpu) {
    return thread_create(
        name, [](void* argument) { (*static_cast<F*>(argument))(); }, &body, affinity);
}

// Ends the thread that calls. What it has not undone (local maps, kmaps) is reported. Preemptible context.
[[noreturn]] void thread_exit();

// Waits until the thread has ended and left its stack, and gives back what it had. Once for each thread, by one other
// thread. Preemptible context.
void thread_join(Thread* thread);

} // namespace loft
