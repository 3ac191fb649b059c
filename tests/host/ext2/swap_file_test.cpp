// A file of ext2 as a swap area: pages go to its blocks, and the file system does not notice. Errors as Linux's swapon.
#include "kernel/ext2/inode.hpp"
#include "mm/cache/swap_area.hpp"
#include "mm/reclaim/reclaim.hpp"
#include "tests/host/ext2/changes.hpp"
#include "tests/host/ext2/images.hpp"
#include "tests/host/spaces/program.hpp"

#include <filesystem>
#include <fstream>

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kSlots = 64; // with the header

// A file of full blocks (mke2fs makes holes of zeros), with the header of mkswap(8).
void make_swap_file(const std::string& path, u32 pages) {
    std::ofstream{path, std::ios::binary} << std::string(pages * kPageSize, 'x');
    std::filesystem::permissions(path, std::filesystem::perms{0600});
    REQUIRE(run_tool("mkswap " + path).status == 0);
    // Of the header, blocks of 1 KiB that are zeros so far: what boots, and numbers of bad pages behind the last one.
    std::fstream file{path, std::ios::binary | std::ios::in | std::ios::out};
    for (const u32 offset : {0u, 2048u})
        file.seekp(offset).put('x');
}

void write_and_drop() {
    for (u32 call = 0; call < 10; ++call)
        static_cast<void>(swap_out_pages(~0u));
    CHECK(write_back_all());
    while (drop_pages(~0u) != 0) {
    }
}

} // namespace

TEST_CASE("ext2: a file is a swap area", "[ext2][ext2-swap]") {
    const u32 block = GENERATE(1024u, 2048u, 4096u);
    const Folder folder;
    make_swap_file(folder / "swap", kSlots);
    make_swap_file(folder / "other", 16);
    constexpr u32 kKib = 8192, kSectors = kKib * 2;
    const sim::DiskImage image = make_image("-b " + std::to_string(block), kKib, folder.path());
    WithFiles kernel;
    warm_up();
    Mounted ext2{image, kSectors};
    FileSystem& fs = ext2.fs();
    {
        const Ref root{*fs.root()};
        const Ref file = at(fs, "swap");
        // A mapping that can be written already.
        Owned mapper;
        REQUIRE(mapper->map(VirtAddr{kBase}, kSlots * kPageSize, kReadWrite, MapKind::shared, true, true, {&*file, 0}));
        run_in(mapper.get());
        user_store(VirtAddr{kBase + 5 * kPageSize}, 0x7878'7878); // what it has
        const Result<SwapArea*, Errno> opened = fs.swap_on(*file);
        REQUIRE(opened);
        SwapArea* const area = *opened;
        CHECK(SwapArea::of_file(*file) == area);
        CHECK(SwapArea::of_disk(ext2.disk) == nullptr);
        CHECK(area->slots() >= kSlots - 8); // a page whose blocks do not follow one another is not used
        CHECK(area->slots() <= kSlots - 1);
        const u32 pages = area->slots();
        {
            Owned space;
            map_pages(*space, kBase, pages);
            run_in(space.get());
            for (u32 page = 0; page < pages; ++page)
                user_store(VirtAddr{kBase + page * kPageSize + page * 4}, page + 100);
            write_and_drop();
            CHECK(space->stats().resident == 0);
            CHECK(area->free_slots() == 0);
            // The pages lie in the blocks of the file.
            u32 found = 0;
            for (u32 slot = 1; slot < kSlots; ++slot) {
                const Result<u32> first = static_cast<ext2::Ext2Inode&>(*file).block(slot * (kPageSize / block));
                REQUIRE(first);
                for (u32 sector = 0; sector < kPageSectors; ++sector) {
                    const sim::Sector data = ext2.disk.image().at(u64{*first} * (block / kSectorBytes) + sector);
                    found += std::any_of(data.begin(), data.end(), [](u8 byte) { return byte != 'x'; });
                }
            }
            CHECK(found >= pages * kPageSectors); // most of a page are zeros
            // While it is one.
            CHECK(fs.swap_on(*file).error() == Errno::busy);
            CHECK(fs.write(*file, 5000, "x", 1).error() == Errno::txtbsy);
            CHECK(fs.truncate(*file, 4096) == Errno::txtbsy);
            CHECK(fs.truncate(*file, u64{kSlots} * kPageSize) == Errno::txtbsy);
            CHECK(fs.unlink(*root, "swap") == Errno::perm);
            CHECK(fs.rename(*root, "swap", *root, "new") == Errno::perm);
            CHECK(fs.rename(*root, "other", *root, "swap") == Errno::perm);
            CHECK(fs.rename(*root, "other", *root, "another") == Errno{});
            for (const u32 page : {0u, 5u})
                CHECK(mapper->handle_fault(VirtAddr{kBase + page * kPageSize}, FaultAccess::write) ==
                      FaultResult::no_page);
            for (u32 page = 0; page < pages; ++page)
                REQUIRE(user_load(VirtAddr{kBase + page * kPageSize + page * 4}) == page + 100);
            run_in(nullptr);
        }
        CHECK(area->is_empty());
        area->remove();
        fs.swap_off(*file);
        CHECK(mapper->handle_fault(VirtAddr{kBase}, FaultAccess::write) == FaultResult::resolved);
        mapper.end();
        CHECK(fs.write(*file, 5000, "x", 1));
        CHECK(fs.truncate(*file, 4096) == Errno{});
        CHECK(fs.unlink(*root, "swap") == Errno{});
    }
    while (*write_back_one()) {
    }
    CHECK(ext2.unmount() == Errno{});
    check_clean(ext2.disk.image(), kSectors);
}

// Else nobody could swap off: the area has no name.
TEST_CASE("ext2: a file keeps its name while it becomes a swap area", "[ext2][ext2-swap]") {
    const Folder folder;
    make_swap_file(folder / "swap", 16);
    make_swap_file(folder / "removed", 16);
    constexpr u32 kKib = 4096, kSectors = kKib * 2;
    const sim::DiskImage image = make_image("-b 4096", kKib, folder.path());
    WithFiles kernel;
    warm_up();
    Mounted ext2{image, kSectors};
    FileSystem& fs = ext2.fs();
    {
        const Ref root{*fs.root()};
        const Ref removed = at(fs, "removed");
        REQUIRE(fs.unlink(*root, "removed") == Errno{});
        CHECK(fs.swap_on(*removed).error() == Errno::noent);
        CHECK_FALSE(removed->is_frozen());
        const Ref file = at(fs, "swap");
        const u32 starts = ext2.disk.counts().starts;
        bool tried = false;
        Result<SwapArea*, Errno> area = Errno::inval;
        {
            const sim::ScopedHook hook{[&](sim::Point) {
                if (tried || ext2.disk.counts().starts == starts || !preemptible()) return;
                tried = true;
                CHECK(fs.unlink(*root, "swap") == Errno::perm);
            }};
            area = fs.swap_on(*file);
        }
        CHECK(tried);
        REQUIRE(area);
        (*area)->remove();
        fs.swap_off(*file);
    }
    CHECK(ext2.unmount() == Errno{});
}

TEST_CASE("ext2: what is no swap area", "[ext2][ext2-swap]") {
    const Folder folder;
    make_swap_file(folder / "swap", 16);
    make_swap_file(folder / "short", 16);
    std::filesystem::resize_file(folder / "short", 15 * kPageSize);
    std::ofstream{folder / "text", std::ios::binary} << std::string(16 * kPageSize, 'x');
    std::ofstream{folder / "empty"};
    make_swap_file(folder / "holes", 16);
    std::filesystem::resize_file(folder / "holes", kPageSize); // the header stays
    std::filesystem::resize_file(folder / "holes", 16 * kPageSize);
    std::filesystem::create_directory(folder / "directory");
    make_swap_file(folder / "bad", 16);
    for (const auto& [offset, value] : {std::pair{1032, '\1'}, std::pair{1536, '\3'}}) // one bad page, number 3
        std::fstream{folder / "bad", std::ios::binary | std::ios::in | std::ios::out}.seekp(offset).put(value);
    constexpr u32 kKib = 4096, kSectors = kKib * 2;
    const sim::DiskImage image = make_image("-b 4096", kKib, folder.path());
    WithFiles kernel;
    warm_up();
    ObjectCache::give_back_empty_slabs();
    {
        Mounted ext2{image, kSectors};
        const auto error_of = [&](const char* name) { return ext2.fs().swap_on(*at(ext2.fs(), name)).error(); };
        CHECK(error_of("short") == Errno::inval);
        CHECK(error_of("text") == Errno::inval);
        CHECK(error_of("empty") == Errno::inval);
        CHECK(error_of("holes") == Errno::inval);
        CHECK(error_of("bad") == Errno::inval);
        CHECK(error_of("directory") == Errno::isdir);
        CHECK(swap_stats().slots == 0);
        CHECK(ext2.fs().unlink(*Ref{*ext2.fs().root()}, "text") == Errno{});
    }
    Mounted read_only{image, kSectors, true};
    CHECK(read_only.fs().swap_on(*at(read_only.fs(), "swap")).error() == Errno::rofs);
}
