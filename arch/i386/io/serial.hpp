// COM1 as a 16550 UART: 115200 baud, 8 data bits, no parity, 1 stop bit.
#pragma once

#include "arch/base/types.hpp"

namespace loft::serial {

void init();      // boot CPU, once; detects a missing UART
void put(char c); // any context
void flush();     // any context: waits until everything has been sent
int get();        // a received byte, or -1

// The reader of the line may sleep: put waits for the transmitter, 5 s at most, and no byte is lost. After that it does
// not wait any more and drops bytes. At the beginning of each later line it checks the UART; as soon as that is ready,
// put prints the number of lost bytes, and the time limit applies again.

} // namespace loft::serial
