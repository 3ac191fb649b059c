// The kernel command line: options as a table, one typed field for each.
#pragma once

#include "arch/base/config.hpp"
#include "arch/base/panic.hpp"
#include "arch/base/types.hpp"
#include "mm/ground/boot_info.hpp"

#include <optional>
#include <span>
#include <string_view>

namespace loft {

// In which order the self-tests come: as in the sources, from the end, or at random.
enum class TestOrder : u8 { file, reverse, random };

// What the command line asked for, or the defaults. Text fields point into the line.
struct Options {
    std::string_view selftest = "quick"; // selftest=off|quick|full|GLOB[,GLOB...]
    bool exit = false;                   // exit: leave QEMU when everything is done
    TestOrder order = TestOrder::file;   // order=reverse|N: of the self-tests; N: at random,
    u64 order_seed = 0;                  // by this seed
    u64 seed = 1;                        // seed=N: of the self-tests' random numbers
    u32 soak = 0;                        // soak=SECONDS: how long the stress test goes on; 0: it is left out
    u32 maxcpus = config::kMaxCpus;      // maxcpus=N: run at most so many CPUs
    u64 highmem = BootInfo::kAllHighMem; // highmem=SIZE: at most this much of it is used
    bool user_tables_low = false;        // userpte=nohigh: page tables of programs stay in lowmem
    u32 vmalloc = 0;                     // vmalloc=SIZE of the vmap area; 0: the default
    bool nopse = false;                  // nopse: map lowmem with 4 KiB pages
    bool nmi_panics = false;             // nmi=panic: an NMI that nobody expects ends in a panic
    u32 loglevel = 7;                    // loglevel=N: lines with a level below N are printed
    std::string_view crash;              // crash=NAME: commit this misuse
    std::string_view bench;              // bench[=GLOB,...]: measure these (kernel/proof/bench.hpp); empty: nothing
};

// Parses `text` into options() and warns about what it does not understand. It has printable characters and blanks
// only, and stays where it is (multiboot_command_line). Once, at boot.
void parse_command_line(std::string_view text);

// Any context; the defaults before parse_command_line.
const Options& options();

// The words that were not understood, or not as they were meant, as one text; "" if there are none.
std::string_view ignored_words();

// The line as it was given, for the log.
std::string_view command_line();

// "4096", "0x1000", "64K", "16M", "4G": a number with an optional suffix; nothing if it is malformed or too
// large. Pure, any context.
std::optional<u64> parse_size(std::string_view text);
std::optional<u64> parse_number(std::string_view text);

// Calls visit(item) for each item between commas that is not empty; stops and returns true when visit does. Pure.
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
