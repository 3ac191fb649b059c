// The kernel command line: options as a table, one typed field each.
#pragma once

#include "arch/base/config.hpp"
#include "arch/base/panic.hpp"
#include "arch/base/types.hpp"
#include "mm/ground/boot_info.hpp"

#include <optional>
#include <span>
#include <string_view>

namespace loft {

// Order of the self-tests: as in the sources, from the end, or random.
enum class TestOrder : u8 { file, reverse, random };

// The options of the command line, or their defaults. Text fields point into the line.
struct Options {
    std::string_view selftest = "quick"; // selftest=off|quick|full|GLOB[,GLOB...]
    bool exit = false;                   // exit: leave QEMU when tests and benchmark are done
    TestOrder order = TestOrder::file;   // order=reverse|N: of the self-tests; N: random,
    u64 order_seed = 0;                  // with this seed
    u64 seed = 1;                        // seed=N: of the self-tests' random numbers
    u32 soak = 0;                        // soak=SECONDS: duration of the stress test; 0: not run
    u32 load = 0;                        // load=SECONDS: duration of each test of mixed load; 0: a short one
    u32 maxcpus = config::kMaxCpus;      // maxcpus=N: run at most N CPUs
    u64 highmem = BootInfo::kAllHighMem; // highmem=SIZE: use at most this much high memory
    bool user_tables_low = false;        // userpte=nohigh: user page tables stay in lowmem
    u32 vmalloc = 0;                     // vmalloc=SIZE of the vmap area; 0: the default
    bool nopse = false;                  // nopse: map lowmem with 4 KiB pages
    bool nmi_panics = false;             // nmi=panic: an unexpected NMI panics
    u32 loglevel = 7;                    // loglevel=N: print lines with a level below N
    std::string_view mounts;             // mount=DISK:PATH[,DISK:PATH...]: mount these disks
    std::string_view swap;               // swap=DISK[,DISK...]: swap areas
    std::string_view crash;              // crash=NAME: commit this misuse
    std::string_view bench;              // bench[=GLOB,...]: measure these (kernel/proof/bench.hpp); empty: none
};

// Parses `text` into options() and logs a warning for each word that it does not understand. `text` has printable
// characters and blanks only, and must stay valid (multiboot_command_line). Once, at boot.
void parse_command_line(std::string_view text);

// Any context. Before parse_command_line: the defaults.
const Options& options();

// The unknown or malformed words as one text; "" if there are none.
std::string_view ignored_words();

// The unparsed line, for the log.
std::string_view command_line();

// "4096", "0x1000", "64K", "16M", "4G": a number, with an optional suffix for parse_size. Nothing if it is malformed or
// overflows 64 bits. Pure, any context.
std::optional<u64> parse_size(std::string_view text);
std::optional<u64> parse_number(std::string_view text);

// Calls visit(item) for each non-empty item between commas; stops and returns true when visit does. Pure.
template <typename F> bool any_item(std::string_view list, F&& visit) {
    while (!list.empty()) {
        const std::size_t comma = list.find(',');
        const std::string_view item = list.substr(0, comma);
        list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
        if (!item.empty() && visit(item)) return true;
    }
    return false;
}

// Matches "*" (any run) and "?" (any character). Pure, any context.
bool matches_glob(std::string_view pattern, std::string_view text);

} // namespace loft
