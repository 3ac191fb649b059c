// COM1 as a 16550 UART: 115200 baud, 8 data bits, no parity, 1 stop bit.
#pragma once

#include "arch/base/types.hpp"

namespace loft::serial {

void init();      // boot CPU, once; a UART that is not there is noticed
void put(char c); // any context; waits for the transmitter, but not for ever: then the UART is given up
int get();        // a byte that has arrived, or -1

} // namespace loft::serial
