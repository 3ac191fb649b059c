// The symbol table: a count, pairs of address and name offset in order of address, then the names
// (scripts/gen-symbols.py).
//
// Every index is checked: backtraces are printed when the kernel is already broken.
#include "kernel/report/symbols.hpp"

#include "arch/i386/cpu/image.hpp"

extern "C" {
extern const loft::u32 loft_symbols_begin[];
extern const char loft_symbols_end[];
}

namespace loft {
namespace {

struct Entry {
    u32 address;
    u32 name; // offset from the beginning of the table; an empty name: no function from this address on
};

} // namespace

std::optional<Symbol> find_symbol(u32 address) {
    const VirtAddr code{address};
    if (code < image_addr(__text_begin) || code > image_addr(__text_end)) return std::nullopt;

    const char* table = reinterpret_cast<const char*>(loft_symbols_begin);
    const u32 bytes = static_cast<u32>(loft_symbols_end - table);
    if (bytes < sizeof(u32)) return std::nullopt;
    const u32 count = loft_symbols_begin[0];
    if (count > (bytes - sizeof(u32)) / sizeof(Entry)) return std::nullopt;
    const auto* entries = reinterpret_cast<const Entry*>(loft_symbols_begin + 1);

    // Finds the last entry at or below the address.
    u32 low = 0, high = count;
    while (low != high) {
        const u32 middle = low + (high - low) / 2;
        if (entries[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0) return std::nullopt;
    const Entry& found = entries[low - 1];
    if (found.name >= bytes) return std::nullopt;
    const std::string_view rest{table + found.name, bytes - found.name};
    const std::string_view name = rest.substr(0, rest.find('\0'));
    if (name.empty()) return std::nullopt;
    return Symbol{name, address - found.address};
}

void print_code_address(Sink& sink, u32 address) {
    if (const std::optional<Symbol> symbol = find_symbol(address))
        format(sink, "{}+0x{:x}", symbol->name, symbol->offset);
    else
        sink.write("?");
}

void print_return_address(Sink& sink, u32 address) {
    if (const std::optional<Symbol> symbol = find_symbol(address - 1))
        format(sink, "{}+0x{:x}", symbol->name, symbol->offset + 1);
    else
        sink.write("?");
}

} // namespace loft
