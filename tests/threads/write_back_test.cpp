// The limit of dirty pages (kernel/files/write_back.hpp): who writes to files writes pages back when too many are
// dirty.
#include "kernel/files/disk_file.hpp"
#include "kernel/files/write_back.hpp"
#include "mm/windows/highmem.hpp"
#include "tests/sim/disk.hpp"
#include "tests/threads/rig.hpp"

#include <algorithm>
#include <cstring>

using namespace loft;
using namespace loft::test;

// As for the kernel's own static objects, a schedule begins with its first value.
namespace loft::litmus {
namespace {

// Pages of zeros; what is stored reaches nobody.
class Drain final : public MemoryObject {
  public:
    Drain() : MemoryObject{2 * kPageSize, ObjectKind::written_back} {}

  private:
    Status fill(u32, std::span<Page* const> frames) override {
        for (Page* frame : frames)
            clear_highpage(frame);
        return {};
    }
    Status store(u32, std::span<Page* const>) override { return {}; }
    void destroy() override;
};
Cache<Drain> drains{"drain", Gfp::kernel};
void Drain::destroy() { drains.destroy(this); }

} // namespace
} // namespace loft::litmus

namespace {

using loft::litmus::Drain, loft::litmus::drains;

constexpr u32 kLimit = 8, kDiskPages = 64, kSectorsPerPage = kPageSize / kSectorBytes;

// A disk, and a page that is written to it again and again.
struct DiskToWrite {
    DiskToWrite() {
        REQUIRE(disk.ready());
        disk_file_init();
        set_dirty_page_limit(kLimit);
        page = alloc_page(Gfp::user);
        REQUIRE(page != nullptr);
    }
    ~DiskToWrite() { free_page(page); }
    File* open() {
        File* const file = open_disk(disk, {.reads = true, .writes = true});
        REQUIRE(file != nullptr);
        return file;
    }
    // The next page of the file, all of whose bytes are `value`. Returns how many pages are dirty then.
    u32 write(File& file, u8 value) const {
        memset_page(page, 0, value, kPageSize);
        ByteSource source = ByteSource::of_page(page, 0, kPageSize);
        REQUIRE(file.write(source).value() == int{kPageSize});
        return page_cache_stats().dirty;
    }
    sim::SimDisk disk{{.sectors = kDiskPages * kSectorsPerPage, .at_once = true}};
    Page* page;
};

} // namespace

TEST_CASE("dirty pages: a writer of many pages writes them back, and few are dirty", "[.threads][threads-dirty]") {
    Scene s{1};
    DiskToWrite d;
    File* const file = d.open();
    const u32 before = page_cache_stats().stored;
    u32 most = 0;
    for (u32 number = 0; number < kDiskPages; ++number)
        most = std::max(most, d.write(*file, static_cast<u8>(number + 1)));
    CHECK(most == kLimit);
    CHECK(page_cache_stats().stored - before >= kDiskPages - kLimit);
    CHECK(file->sync());
    u32 wrong = 0;
    for (u32 sector = 0; sector < kDiskPages * kSectorsPerPage; ++sector) {
        const sim::Sector data = d.disk.image().at(sector);
        for (const u8 byte : data)
            wrong += byte != sector / kSectorsPerPage + 1;
    }
    CHECK(wrong == 0);
    CHECK(page_cache_stats().dirty == 0);
    file->release();
}

TEST_CASE("dirty pages: those of another object count, and are written by whoever writes",
          "[.threads][threads-dirty]") {
    Scene s{1};
    DiskToWrite d;
    drains.reset();
    Drain* const other = drains.make();
    REQUIRE(other != nullptr);
    for (u32 number = 0; number < 2; ++number) {
        const Result<Page*> page = other->page(number);
        REQUIRE(page);
        other->stored_to(number);
        put_page(*page);
    }
    File* const file = d.open();
    for (u32 number = 2; number < kLimit; ++number)
        CHECK(d.write(*file, 1) == number + 1);
    CHECK(page_cache_stats().objects == 2);
    CHECK(d.write(*file, 1) == kLimit - 1); // the two of the other object, which became dirty first
    CHECK(page_cache_stats().objects == 1);
    CHECK(d.write(*file, 1) == kLimit);
    CHECK(d.write(*file, 1) == 0);
    other->put();
    file->release();
}

TEST_CASE("dirty pages: a disk that cannot be written does not stop a writer", "[.threads][threads-dirty]") {
    Scene s{1};
    DiskToWrite d;
    File* const file = d.open();
    d.disk.fail(3);
    u32 dirty = 0;
    for (u32 number = 0; number < 2 * kLimit; ++number)
        dirty = d.write(*file, 7);
    CHECK(dirty <= kLimit); // only the page with the bad sector stays dirty
    CHECK(dirty >= 1);
    CHECK(!file->sync());
    CHECK(page_cache_stats().dirty == 1);
    d.disk.repair(3);
    CHECK(file->sync());
    CHECK(page_cache_stats().dirty == 0);
    file->release();
}

TEST_CASE("threads: two writers at the limit of dirty pages, while all is written back", "[.threads][threads-dirty]") {
    constexpr u32 kFew = 1;
    Scene s{2};
    set_dirty_page_limit(kFew);
    drains.reset();
    Drain* object[2];
    for (Drain*& one : object) {
        one = drains.make();
        REQUIRE(one != nullptr);
        for (u32 number = 0; number < 2; ++number) {
            const Result<Page*> page = one->page(number);
            REQUIRE(page);
            put_page(*page);
        }
    }
    for (u32 i = 0; i < 2; ++i)
        s.thread(i, [&object, i] {
            for (u32 number = 0; number < 2; ++number) {
                object[i]->stored_to(number);
                limit_dirty_pages();
                // The other writer may just have stored to a page.
                sim::expect(page_cache_stats().dirty <= kFew + 1, "at most one page for each writer is over the limit");
            }
        });
    s.main([] { sim::expect(static_cast<bool>(write_back_all()), "all can be written"); });
    s.check = [] {
        sim::expect(page_cache_stats().dirty <= kFew, "when all have ended, the limit holds");
        sim::expect(page_cache_stats().stored != 0, "pages were stored");
    };
    s.explore(sim::reduced(schedules(4'000), 1, 0));
    s.explore(sim::random(schedules(2'000)));
}
