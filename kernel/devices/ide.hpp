// Disks at an IDE controller with a PIIX bus master: the controller of QEMU's `pc`, of Bochs and of v86.
//
// Sources: ATA/ATAPI-8 ACS for commands and IDENTIFY, ATA/ATAPI-7 volume 2 for registers and resets, Intel's 82371SB
// data sheet (2.7, "IDE controller") for the bus master. A controller has two channels, each with its ports, its
// interrupt (14 and 15, edge triggered), its bus master and up to two drives, of which one works at a time. Commands
// transfer by DMA; IDENTIFY alone is read from the data port.
//
// The bus master's addresses have 32 bits: frames from 4 GiB on are out of reach.
#pragma once

#include "kernel/devices/driver.hpp"

namespace loft {

struct PciFunction;

bool is_ide(const PciFunction& function);

// Starts the drives of this controller, and calls found() for each disk that can be used; other drives are logged.
// Every wait has a limit: seconds for a drive that is there and does not answer, otherwise none. Boot thread. One
// controller: others are logged.
void ide_start(const PciFunction& controller, DiskFound found);

} // namespace loft
