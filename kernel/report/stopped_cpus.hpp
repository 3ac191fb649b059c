// What becomes of the other CPUs in a panic: they are stopped where they are, and listed.
#pragma once

#include <string_view>

namespace loft {

// Stops the other CPUs, whatever they do, and remembers where they were. Any context.
void stop_others();
// Prints where the CPUs were that stop_others stopped, and which ones did not stop.
void print_stopped();

// --- Up-call, defined by kernel/threads/thread.cpp: the name of the thread that runs, "boot" in quotes before there
// are any. It stays valid. Any context.
std::string_view running_thread_name();

} // namespace loft
