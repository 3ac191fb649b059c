// Console output goes to COM1, the VGA text screen and port 0xE9.
//
// This code does not allocate or wait without limit and uses no other part of the kernel, so it works from the first
// line of kernel_main on and inside a panic. It takes no lock: concurrent callers must serialise (the log does).
#pragma once

#include <string_view>

namespace loft {

// Sets up the UART and clears the screen. Boot CPU, once; earlier output of console_write reaches port 0xE9 only.
void console_init();

// Prints; "\n" becomes "\r\n" on the serial line. Any context, NMI included. Does not wait for a missing UART; waits
// for a slow reader, with a limit (serial.hpp). Cost: no TLB operations; per byte one write to each of the two ports,
// per character one 16-bit store to the screen.
void console_write(std::string_view text);

// Waits, with the same limit, until the UART has sent everything. Any context.
void console_flush();

// A byte received on COM1, or -1. Never waits. Any context.
int console_getc();

} // namespace loft
