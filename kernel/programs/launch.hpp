// The parameters of a program's start.
#pragma once

#include "arch/base/format.hpp"
#include "arch/base/types.hpp"

#include <span>
#include <string_view>

namespace loft {

struct TrapFrame;

// Hooks for the self-tests and for crash=.
struct ProcessWatch {
    // Receives all console output of the process and of its forks; output of several processes is not serialized.
    Sink* output = nullptr;
    // Called for a fault that would kill the program. True: `frame` was changed, and the program goes on. Preemptible
    // context.
    bool (*on_fault)(TrapFrame& frame, VirtAddr address, void* argument) = nullptr;
    // Called by the first thread, just before it enters ring 3. Preemptible context.
    void (*at_start)(void* argument) = nullptr;
    void* argument = nullptr;
};

struct Launch {
    std::string_view name;
    std::span<const std::string_view> arguments{};   // without the name, which is argument 0
    std::span<const std::string_view> environment{}; // "NAME=value"
    ProcessWatch watch{};
};

} // namespace loft
