// The VGA text screen: 80 x 25, scrolling.
#pragma once

#include <string_view>

namespace loft::vga {

void init();                       // clears the screen; boot CPU, once
void write(std::string_view text); // any context, after init

} // namespace loft::vga
