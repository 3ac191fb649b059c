// The other CPUs in a panic: stopped where they are, and listed.
#pragma once

#include <string_view>

namespace loft {

// Stops the other CPUs, in whatever context they are, and records where. Any context.
void stop_others();
// Prints where stop_others stopped each CPU, and which CPUs did not stop.
void print_stopped();

// --- Up-call, defined by kernel/threads/thread.cpp: the name of the running thread; "boot" in quotes before there are
// threads. The text stays valid. Any context.
std::string_view running_thread_name();

} // namespace loft
