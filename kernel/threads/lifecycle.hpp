// Creating a thread, ending it, joining it.
#pragma once

#include "kernel/threads/thread.hpp"

namespace loft {

// Creates a thread that runs run(argument) on the CPUs of `affinity` (set_affinity) and ends when that returns.
// The name is cut to kNameBytes. `gfp`: where the frames of its stack come from; Gfp::user for a thread of a program,
// which leaves the kernel's reserve alone. Null if there is no memory, or no free descriptor. Every thread must be
// joined. Preemptible context.
[[nodiscard]] Thread* thread_create(std::string_view name, ThreadFunction run, void* argument,
                                    CpuSet affinity = kEveryCpu, Gfp gfp = Gfp::high);
// With a callable object, which the caller keeps until it has joined the thread.
template <typename F> [[nodiscard]] Thread* thread_create(std::string_view name, F& body, CpuSet affinity = kEveryCpu) {
    return thread_create(
        name, [](void* argument) { (*static_cast<F*>(argument))(); }, &body, affinity);
}

// Ends the calling thread. Local maps and kmaps that it still holds are reported. Preemptible context.
[[noreturn]] void thread_exit();

// Waits until the thread has ended and left its stack, then frees stack and descriptor. Once for each thread, by one
// other thread. Preemptible context.
void thread_join(Thread* thread);

} // namespace loft
