// What a driver of disks tells the list of disks.
#pragma once

#include "mm/cache/block.hpp"

namespace loft {

struct FoundDisk {
    BlockDevice* device = nullptr; // prepared, with a name; stays for ever
    const char* model = "";
    const char* driver = ""; // and its most important property
    // The disk does not exist any more, and will not answer: it has to be taken away. Any context.
    bool (*is_lost)(const BlockDevice& device) = nullptr;
};

// What a driver calls an operation in its messages.
constexpr const char* name_of(BlockOp op) {
    return op == BlockOp::read ? "read" : op == BlockOp::write ? "write" : "flush";
}

using DiskFound = void (*)(const FoundDisk& disk);

} // namespace loft
