// COM1 as a 16550 UART: 115200 baud, 8 data bits, no parity, 1 stop bit.
#pragma once

#include "arch/base/types.hpp"

namespace loft::serial {

void init();      // boot CPU, once; a UART that is not there is noticed
void put(char c); // any context
void flush();     // any context: waits until all that was put has left
int get();        // a byte that has arrived, or -1

// A reader of the line may sleep: the transmitter is waited for, 5 s at most, and nothing is lost. When that was not
// enough, the machine goes on: nothing is waited for any more, and the rest of the line is lost. At the beginning of
// each later line the UART is looked at again; as soon as it takes bytes, it gets to know how many were lost, and the
// patience is as long as before.

} // namespace loft::serial
