// The cost of operations on files. The program tests/user/filecosts measures them, here as on Linux
// (scripts/bench-files): it is the same file on both.
#include "kernel/programs/process.hpp"
#include "kernel/proof/bench.hpp"
#include "kernel/report/log.hpp"

namespace loft::bench {
namespace {

// A line names a run of the program, which prints one line for each operation. The disks of the last ones are given by
// mount= and swap= (kernel/boot/cmdline.hpp).
struct Run {
    std::string_view line;
    std::string_view arguments[3];
};
constexpr Run kRuns[] = {
    {"files.tmpfs", {"paths", "tmpfs", "/costs"}},
    {"files.ext2", {"disk", "ext2", "/mnt/costs"}},
    {"files.read", {"read", "ext2", "/mnt/data"}},
    {"files.swap", {"swap", "swap", "1280"}},
};

} // namespace

bool measure_files(Meter& meter) {
    for (const Run& run : kRuns) {
        if (!meter.asks_for(run.line)) continue;
        const Started started = process_start({.name = "filecosts", .arguments = run.arguments});
        if (started.process == nullptr) {
            log(LogLevel::error, "bench", "filecosts: {}", started.problem);
            return false;
        }
        if (process_wait(started.process) != WaitStatus{}) return false;
    }
    return true;
}

} // namespace loft::bench
