// Disks of virtio (Virtual I/O Device Version 1.1, "the specification": 2.6 split virtqueues, 4.1 PCI, 5.2 block
// device): the modern interface, which transitional devices have, too. A device without it is logged and not used.
//
// A disk has one queue. Its descriptors are divided into slots, each with a chain for one request: the request's
// header, up to 32 parts, and the byte for the status. So nothing is allocated on the way, and the ends of requests may
// come in any order. Addresses have 64 bits: every frame is in reach. The interrupt is a message (MSI-X), or the line
// of the PCI bus.
#pragma once

#include "kernel/devices/driver.hpp"

namespace loft {

struct PciFunction;

bool is_virtio_blk(const PciFunction& function);

// Starts the disk, named by a number of its own (vda, vdb, ...), and calls found() if it can be used; otherwise the
// reason is logged. Boot thread. At most kMostVirtioDisks.
void virtio_blk_start(const PciFunction& function, DiskFound found);
inline constexpr u32 kMostVirtioDisks = 8;

} // namespace loft
