// The three places that everything is printed to: COM1, the VGA text screen and port 0xE9.
//
// Nothing here allocates, waits without a bound or needs another part of the kernel, so it works from the
// first line of kernel_main on and inside a panic. It takes no lock: callers that may run at the same time
// serialise (the log does).
#pragma once

#include <string_view>

namespace loft {

// Sets up the UART and clears the screen. Boot CPU, once; before it, console_write still reaches port 0xE9.
void console_init();

// Prints; "\n" becomes "\r\n" on the serial line. Any context, NMI included. A UART that is missing is not waited for;
// one whose reader sleeps is, with a limit (serial.hpp). Cost: no TLB operations; one port write a byte on each
// of the two ports, one 16-bit store a character to the screen.
void console_write(std::string_view text);

// Waits, with the same limit, until the serial line has sent everything. Any context.
void console_flush();

// A byte that has arrived on COM1, or -1. Never waits. Any context.
int console_getc();

} // namespace loft
