// Memory is full of clean pages of a disk: who needs a frame gets one of them.
#include "kernel/files/disk_file.hpp"
#include "mm/windows/highmem.hpp"
#include "tests/sim/disk.hpp"
#include "tests/threads/rig.hpp"

#include <vector>

using namespace loft;
using namespace loft::test;

TEST_CASE("memory: a write to a pipe takes frames from the cache", "[.threads][threads-memory]") {
    constexpr u32 kDiskPages = 64;
    Scene s{1};
    sim::SimDisk disk{{.sectors = kDiskPages * (kPageSize / kSectorBytes), .at_once = true}};
    REQUIRE(disk.ready());
    disk_file_init();
    File* const file = open_disk(disk, {.reads = true, .writes = true});
    REQUIRE(file != nullptr);
    PipeEnds ends;
    REQUIRE(make_pipe(ends));
    Page* const page = alloc_page(Gfp::user);
    for (u32 number = 0; number < kDiskPages; ++number)
        put_page(*file->object()->page(number));
    std::vector<Page*> taken;
    while (Page* const frame = alloc_page(Gfp::user))
        taken.push_back(frame);
    ByteSource source = ByteSource::of_page(page, 0, kPageSize);
    CHECK(ends.write->write(source).value() == int{kPageSize});
    CHECK(page_cache_stats().pages < kDiskPages);
    for (Page* const frame : taken)
        free_page(frame);
    free_page(page);
    ends.read->release();
    ends.write->release();
    file->release();
}
