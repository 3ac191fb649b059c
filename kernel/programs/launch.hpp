// What a program is started with.
#pragma once

#include "arch/base/format.hpp"
#include "arch/base/types.hpp"

#include <span>
#include <string_view>

namespace loft {

struct TrapFrame;

// For the self-tests and for crash=: what happens beside the program.
struct ProcessWatch {
    // Everything that it, and what it forks, writes on the console; not serialized between processes.
    Sink* output = nullptr;
    // Asked about a fault that would kill it: true if `frame` was changed so that it can go on. Preemptible context.
    bool (*on_fault)(TrapFrame& frame, VirtAddr address, void* argument) = nullptr;
    // In its first thread, just before that goes to ring 3. Preemptible context.
    void (*at_start)(void* argument) = nullptr;
    void* argument = nullptr;
};

struct Launch {
    std::string_view name;
    std::span<const std::string_view> arguments{};   // without the name, which comes first by itself
    std::span<const std::string_view> environment{}; // "NAME=value"
    ProcessWatch watch{};
};

} // namespace loft
