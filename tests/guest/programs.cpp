// Contract: programs.hpp.
#include "tests/guest/programs.hpp"

#include "kernel/programs/programs.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/spaces/highpte.hpp"

namespace loft::guest {
namespace {

// Descriptors of threads are never freed: makes them before frames are counted.
void warm_up() {
    static bool done = false;
    if (done) return;
    done = true;
    warm_up_threads(128);
    drain_all_cpus();
}

} // namespace

const char* needs_program(std::string_view name) {
    return find_program(name) != nullptr ? nullptr : "the programs did not come along (run-qemu --module)";
}

WaitStatus wait_for(Process* process, u32 seconds) {
    Patience patience{seconds * kSleepsPerSecond, seconds};
    while (!process->ended.done()) {
        if (patience.over()) {
            selftest::note("{} has not ended after {} s", process->name_view(), seconds);
            process_kill(*process, WaitStatus::killed(Signal::kill));
            break;
        }
        sleep_ms(1);
    }
    return process_wait(process);
}

void Text::write(std::string_view text) {
    const SpinGuard guard{lock_};
    for (const char c : text)
        text_[size_++ % text_.size()] = c;
}

Outcome run_program(std::string_view name, ProcessWatch watch, std::span<const std::string_view> arguments) {
    const Started started = process_start({.name = name, .arguments = arguments, .watch = watch});
    if (started.process == nullptr) {
        selftest::note("{}: {}", name, started.problem);
        return {};
    }
    return {true, wait_for(started.process)};
}

// Children of an earlier run may outlive it.
NothingIsLeft::NothingIsLeft() {
    warm_up();
    process_wait_for_all();
}

NothingIsLeft::~NothingIsLeft() {
    process_wait_for_all();
    CHECK_EQ(process_count(), 0u);
    CHECK_EQ(page_table_stats().tables, 0u);
}

} // namespace loft::guest
