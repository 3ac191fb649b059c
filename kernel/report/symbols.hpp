// Names for code addresses, from the table that scripts/gen-symbols.py puts into the image.
#pragma once

#include "arch/base/format.hpp"
#include "arch/base/types.hpp"

#include <optional>
#include <string_view>

namespace loft {

struct Symbol {
    std::string_view name;
    u32 offset; // of the address from the symbol's start
};

// The function that contains `address`; nothing if the address is not in the kernel's text, or if there is no table
// (the first pass of the link). Any context; reads only the image.
std::optional<Symbol> find_symbol(u32 address);

// "loft::function+0x12", or "?" if no symbol is known. A return address may lie behind the end of its function, if the
// call was its last instruction: so it is looked up one byte before.
void print_code_address(Sink& sink, u32 address);
void print_return_address(Sink& sink, u32 address);

} // namespace loft
