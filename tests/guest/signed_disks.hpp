// The disks that self-tests may write to: those whose first sector is the test runner's (scripts/runner/disk.py writes
// it).
//
// It also says which errors QEMU injects there. The tests use these sectors:
//
//     0            the signature                        2048         cannot be read, with injected errors
//     64-319       pattern 1, written by the runner     2056         cannot be written, likewise
//     1024-1535    pattern 2, which the runner reads    4096-20479   for all tests of the disk
//                                                       32768-       for the tests of files (16 MiB and above)
#pragma once

#include "kernel/devices/disks.hpp"
#include "kernel/proof/selftest.hpp"
#include "mm/cache/block.hpp"

namespace loft::guest {

struct Signature {
    char text[32];
    u32 read_error, write_error; // sectors; 0: none
    u32 flush_error;             // 1: every flush fails
    u32 silent;                  // 1: after 128 KiB the disk is slower than any time limit
    u32 removed;                 // 1: the runner takes the disk away when the test asks for it; 2: the test does
    u32 read_only;               // 1: QEMU refuses writes
    u32 swap;                    // 1: it has a header of mkswap, and is for the tests of swap only
    u32 rest[113];

    // It can be read and written as long as the machine runs.
    bool is_reliable() const { return !silent && !removed && !read_only && !swap; }
};
static_assert(sizeof(Signature) == kSectorBytes);

// One request with one part.
Status transfer(BlockDevice& disk, BlockOp op, u64 sector, Page* page, u32 offset = 0, u32 bytes = kPageSize);

inline constexpr u32 kMostDisks = 12; // with a signature
// The signature of the n-th disk of disks(); null: the tests may not write to it. It is read once: later a disk may not
// answer any more.
const Signature* signature_of(u32 disk);

// Calls visit(disk, its signature) for each disk that the tests may write to. Returns how many there are.
template <typename F> u32 each_disk(F&& visit) {
    u32 count = 0;
    for (u32 i = 0; i < disks().size(); ++i)
        if (const Signature* const signature = signature_of(i)) {
            ++count;
            visit(*disks()[i].device, *signature);
        }
    return count;
}
inline constexpr const char* kNoDisk = "this machine has no disk with the signature of the tests";

template <typename F> void on_each_disk(F&& visit) {
    if (each_disk(visit) == 0) SKIP(kNoDisk);
}

} // namespace loft::guest
