// ext2: images of mke2fs are read right, and what loft writes is right for e2fsck and debugfs.
#include "kernel/ext2/inode.hpp"
#include "tests/host/ext2/changes.hpp"
#include "tests/host/ext2/images.hpp"
#include "tests/host/slow.hpp"

#include <filesystem>
#include <fstream>

using namespace loft;
using namespace loft::test;

namespace {

namespace host = std::filesystem;

// A file of the host and its node. `holes`: pieces with gaps between them.
void put_file(const host::path& path, Node& parent, const std::string& bytes) {
    std::ofstream{path, std::ios::binary}.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    parent.names[path.filename().string()] = new_node(InodeKind::file, bytes);
}
NodeTree put_folder(const host::path& path, Node& parent) {
    host::create_directory(path);
    return parent.names[path.filename().string()] = new_node(InodeKind::directory);
}

} // namespace

TEST_CASE("ext2: an image of mke2fs is read, with blocks of each size", "[ext2][ext2-read]") {
    const u32 block = GENERATE(1024u, 2048u, 4096u);
    const u32 inode = GENERATE(128u, 256u);
    Random random{block};
    const Folder folder;
    const NodeTree root = new_node(InodeKind::directory);
    for (const u32 bytes : {0u, 1u, 1023u, 1024u, 4095u, 4096u, 4097u, 12288u, 50000u, 300'000u})
        put_file(folder / ("file" + std::to_string(bytes)), *root, random_bytes(random, bytes));
    const NodeTree below = put_folder(folder / "below", *root);
    put_file(folder / "below/one", *below, "one");
    const NodeTree many = put_folder(folder / "many", *root);
    for (u32 i = 0; i < (kSlow ? 700 : 3000); ++i)
        put_file(folder / ("many/a name that is long enough for several blocks " + std::to_string(i)), *many,
                 i % 500 == 0 ? std::to_string(i) : "");
    for (const std::string& target :
         {std::string{"below/one"}, std::string(59, 'x'), std::string(60, 'y'), std::string(900, 'z')}) {
        const std::string name = "link" + std::to_string(target.size());
        host::create_symlink(target, folder / name);
        root->names[name] = new_node(InodeKind::link, target);
    }
    host::create_hard_link(folder / "file1", folder / "below/same");
    below->names["same"] = root->names["file1"];
    constexpr u32 kKib = 16384, kSectors = kKib * 2;
    const sim::DiskImage image =
        make_image("-N 4096 -b " + std::to_string(block) + " -I " + std::to_string(inode), kKib, folder.path());
    WithFiles kernel;
    Mounted ext2{image, kSectors, true};
    CHECK(difference(ext2.fs(), *root) == "");
    CHECK(at(ext2.fs(), "file1")->links() == 2);
    const Ref file = at(ext2.fs(), "below/one");
    CHECK(ext2.fs().unlink(*at(ext2.fs(), "below"), "one") == Errno::rofs);
    CHECK(ext2.fs().link(*at(ext2.fs(), "below"), "two", *file) == Errno::rofs);
    CHECK(ext2.fs().link(*at(ext2.fs(), "below"), "one", *file) == Errno::exist);
    CHECK(ext2.fs().truncate(*file, 0) == Errno::rofs);
}

TEST_CASE("ext2: sparse files with one, two and three levels of indirect blocks are read", "[ext2][ext2-read]") {
    const u32 block = GENERATE(1024u, 2048u, 4096u);
    const u64 per_block = block / 4;
    const u64 begin[4] = {0, 12, 12 + per_block, 12 + per_block + per_block * per_block}; // blocks
    const Folder folder;
    for (u32 levels = 0; levels < 4; ++levels) {
        std::ofstream file{folder / ("sparse" + std::to_string(levels)), std::ios::binary};
        for (const u64 at : {begin[levels], begin[levels] + 5}) {
            file.seekp(static_cast<std::streamoff>(at * block + 7));
            file << "level " << levels << " block " << at;
        }
    }
    constexpr u32 kKib = 8192, kSectors = kKib * 2;
    const sim::DiskImage image = make_image("-b " + std::to_string(block), kKib, folder.path());
    WithFiles kernel;
    Mounted ext2{image, kSectors, true};
    for (u32 levels = 0; levels < 4; ++levels) {
        const Ref file = at(ext2.fs(), "sparse" + std::to_string(levels));
        for (u64 number = begin[levels] - (levels != 0); number < begin[levels] + 6; ++number) {
            const bool there = number == begin[levels] || number == begin[levels] + 5;
            const std::string text = "level " + std::to_string(levels) + " block " + std::to_string(number);
            char got[40]{};
            const u32 bytes = static_cast<u32>(std::min<u64>(sizeof got, file->bytes() - number * block - 7));
            REQUIRE(file->read(number * block + 7, got, bytes));
            CHECK(std::string(got, text.size()) == (there ? text : std::string(text.size(), '\0')));
        }
    }
}

// --- Writing.

TEST_CASE("ext2: random changes are those of a model, and right for e2fsck and debugfs", "[ext2][ext2-write]") {
    const u32 block = GENERATE(1024u, 2048u, 4096u);
    const u32 seed = GENERATE(1u, 2u);
    constexpr u32 kKib = 8192, kSectors = kKib * 2;
    const sim::DiskImage image =
        make_image("-N 512 -b " + std::to_string(block) + (seed == 1 ? " -I 128 -g 2048" : " -I 256"), kKib);
    WithFiles kernel;
    Mounted ext2{image, kSectors};
    Changes changes{ext2.fs(), seed, 600'000};
    for (u32 round = 0; round < (kSlow ? 2 : 4); ++round) {
        for (u32 i = 0; i < 150; ++i)
            changes.step();
        REQUIRE(ext2.fs().sync() == Errno{});
        check_clean(ext2.disk.image(), kSectors);
        CHECK(difference(ext2.fs(), *changes.root) == "");
    }
    WARN(changes.done << " changes, " << changes.refused << " refused");
    CHECK(changes.done > (kSlow ? 150 : 300));
    REQUIRE(ext2.unmount() == Errno{});
    const sim::DiskImage after = ext2.disk.image();
    check_clean(after, kSectors);
    CHECK(difference(after, kSectors, *changes.root) == "");
    CHECK(run_tool("true").status == 0);
    Mounted again{after, kSectors};
    CHECK(!again.fs().is_read_only());
    CHECK(difference(again.fs(), *changes.root) == "");
}

namespace {

// A file of this size, with contents that depend on `seed`.
Ref new_file(FileSystem& fs, const std::string& folder, const std::string& name, const std::string& bytes = {}) {
    const Ref parent = at(fs, folder);
    const Result<Inode*, Errno> made = fs.create(*parent, name, kModeFile | 0644);
    REQUIRE(made);
    Ref file{*made};
    const Result<u32, Errno> written = fs.write(*file, 0, bytes.data(), static_cast<u32>(bytes.size()));
    REQUIRE((bytes.empty() || (written && *written == bytes.size())));
    return file;
}
Ref new_folder(FileSystem& fs, const std::string& folder, const std::string& name) {
    const Ref parent = at(fs, folder);
    const Result<Inode*, Errno> made = fs.create(*parent, name, kModeDirectory | 0755);
    REQUIRE(made);
    return Ref{*made};
}
// A store through a mapping, as the object sees it.
void store_to(Inode& file, u32 page, u32 word) {
    const Result<Page*> found = file.page(page);
    REQUIRE(found);
    memcpy_to_page(*found, 0, &word, sizeof word);
    file.stored_to(page);
    put_page(*found);
}
u32 free_blocks(FileSystem& fs) {
    REQUIRE(fs.sync() == Errno{});
    return fs.stat().free_blocks;
}
bool failed_as(const Status& status, Error error) { return !status && status.error() == error; }

constexpr u32 kSmallKib = 2048, kSmallSectors = kSmallKib * 2;

} // namespace

TEST_CASE("ext2: blocks of each level are written and freed", "[ext2][ext2-write][ext2-levels]") {
    const u32 block = GENERATE(1024u, 2048u, 4096u);
    const u64 per_block = block / 4;
    const u64 ends[] = {11,
                        12,
                        12 + per_block - 1,
                        12 + per_block,
                        12 + per_block + per_block * per_block - 1,
                        12 + per_block + per_block * per_block,
                        12 + per_block + per_block * per_block + 70'000};
    WithFiles kernel;
    Mounted ext2{make_image("-b " + std::to_string(block), kSmallKib), kSmallSectors};
    FileSystem& fs = ext2.fs();
    const u32 before = free_blocks(fs);
    const Ref file = new_file(fs, "", "file");
    const auto put = [&](u64 number) {
        const std::string text = "block " + std::to_string(number);
        REQUIRE(fs.write(*file, number * block + 5, text.data(), static_cast<u32>(text.size())));
    };
    const auto has = [&](u64 number) {
        const std::string text = "block " + std::to_string(number);
        char got[40]{};
        return file->read(number * block + 5, got, static_cast<u32>(text.size())) && got == text;
    };
    for (const u64 end : ends)
        put(end);
    REQUIRE(fs.sync() == Errno{});
    check_clean(ext2.disk.image(), kSmallSectors);
    // 7 blocks of data; 1 indirect, 1 + 2 double, 1 + 1 or 2 + 2 triple.
    const u32 used = before - fs.stat().free_blocks;
    CHECK(used == fs.stat(*file).sectors / (block / 512));
    CHECK(used >= 7 + 1 + 3 + 4);
    CHECK(used <= 7 + 1 + 3 + 5);
    for (const u64 end : ends)
        CHECK(has(end));
    for (u32 i = 6; i > 0; --i) { // one block less each time, in the middle of a block
        REQUIRE(fs.truncate(*file, ends[i - 1] * block + 200) == Errno{});
        REQUIRE(fs.sync() == Errno{});
        check_clean(ext2.disk.image(), kSmallSectors);
        for (u32 j = 0; j < i; ++j)
            CHECK(has(ends[j]));
    }
    CHECK(before - fs.stat().free_blocks == 1);
    REQUIRE(fs.truncate(*file, 0) == Errno{});
    CHECK(free_blocks(fs) == before);
    CHECK(fs.truncate(*file, u64{1} << 42) == Errno::fbig);
    CHECK(fs.write(*file, u64{1} << 42, "x", 1).error() == Errno::fbig);
}

TEST_CASE("ext2: a file of more than 2 GiB sets its feature bit", "[ext2][ext2-write]") {
    WithFiles kernel;
    Mounted ext2{make_image("-b 1024 -O ^large_file", kSmallKib), kSmallSectors};
    const Ref file = new_file(ext2.fs(), "", "file");
    REQUIRE(ext2.fs().truncate(*file, 0x7fff'ffff) == Errno{});
    REQUIRE(ext2.fs().sync() == Errno{});
    CHECK((ext2.disk.image().at(2)[100] & 2) == 0);
    REQUIRE(ext2.fs().truncate(*file, 0x8000'0000) == Errno{});
    REQUIRE(ext2.fs().write(*file, 0x8000'0000 + 10, "end", 3));
    REQUIRE(ext2.fs().sync() == Errno{});
    CHECK((ext2.disk.image().at(2)[100] & 2) != 0);
    check_clean(ext2.disk.image(), kSmallSectors);
    CHECK(ext2.fs().stat(*file).bytes == 0x8000'000d);
}

TEST_CASE("ext2: a file without a name lives until its last user", "[ext2][ext2-write]") {
    WithFiles kernel;
    Mounted ext2{make_image("-b 1024", kSmallKib), kSmallSectors};
    FileSystem& fs = ext2.fs();
    const u32 before = free_blocks(fs), inodes = fs.stat().free_inodes;
    {
        const Ref file = new_file(fs, "", "file", std::string(50'000, 'a'));
        REQUIRE(file->sync());
        REQUIRE(fs.unlink(*at(fs, ""), "file") == Errno{});
        CHECK(try_at(fs, "file").error() == Errno::noent);
        CHECK(file->links() == 0);
        CHECK(contents(*file) == std::string(50'000, 'a'));
        REQUIRE(fs.write(*file, 50'000, "more", 4));
        CHECK(contents(*file) == std::string(50'000, 'a') + "more");
        CHECK(free_blocks(fs) <= before - 50);
        CHECK(fs.link(*at(fs, ""), "again", *file) == Errno::noent);
        const Ref other = new_file(fs, "", "file", "other"); // the name is free, the number is not
        CHECK(other->number() != file->number());
        REQUIRE(fs.unlink(*at(fs, ""), "file") == Errno{});
    }
    CHECK(free_blocks(fs) == before);
    CHECK(fs.stat().free_inodes == inodes);
    const Ref folder = new_folder(fs, "", "folder");
    REQUIRE(fs.rmdir(*at(fs, ""), "folder") == Errno{});
    CHECK(fs.create(*folder, "file", kModeFile).error() == Errno::noent);
    CHECK(fs.lookup(*folder, "file").error() == Errno::noent);
    struct Nothing final : ListVisitor {
        bool entry(const DirectoryEntry&) override { return false; }
    } nothing;
    u64 position = 0;
    CHECK(fs.list(*folder, position, nothing) == Errno::noent);
    CHECK(fs.rename(*at(fs, ""), "lost+found", *folder, "x") == Errno::noent);
}

TEST_CASE("ext2: a full disk refuses writes, and stores of programs at sync", "[ext2][ext2-write][ext2-full]") {
    const u32 block = GENERATE(1024u, 4096u);
    WithFiles kernel;
    Mounted ext2{make_image("-b " + std::to_string(block) + " -N 64", 512), 1024};
    FileSystem& fs = ext2.fs();
    const u32 before = free_blocks(fs);
    const Ref mapped = new_file(fs, "", "mapped"), room = new_file(fs, "", "room", std::string(2 * block, 'r'));
    REQUIRE(fs.truncate(*mapped, 40'000) == Errno{});
    std::string all;
    Result<u32, Errno> got = 0u;
    {
        const Ref file = new_file(fs, "", "file");
        const std::string piece(7000, 'f');
        for (u32 bytes = 7000; bytes != 0; bytes = bytes > block ? block : 0) { // at last block by block
            while ((got = fs.write(*file, all.size(), piece.data(), bytes)))
                all.append(*got, 'f');
        }
        CHECK(got.error() == Errno::nospc);
        CHECK(contents(*file) == all);
        CHECK(all.size() > 200'000);
        // A page that does not get all of its blocks gives back those that it has got.
        if (block < kPageSize) {
            REQUIRE(fs.truncate(*room, 0) == Errno{});
            REQUIRE(fs.sync() == Errno{});
            const u64 sectors = fs.stat(*file).sectors, end = round_up(file->bytes(), u64{kPageSize});
            CHECK(fs.write(*file, end, std::string(kPageSize, 'p').data(), kPageSize).error() == Errno::nospc);
            CHECK(fs.stat(*file).sectors == sectors);
            CHECK(file->bytes() == all.size());
            const std::string two(2 * block, 'r'); // all are taken again
            REQUIRE(fs.write(*room, 0, two.data(), 2 * block));
            CHECK(contents(*room) == two);
        }
        CHECK(fs.create(*at(fs, ""), "folder", kModeDirectory).error() == Errno::nospc);
        CHECK(fs.create(*at(fs, ""), "link", kModeLink, true, std::string(100, 'l')).error() == Errno::nospc);
        REQUIRE(fs.sync() == Errno{});
        check_clean(ext2.disk.image(), 1024);

        // What a program has stored through a mapping finds no block. Zeros need none.
        store_to(*mapped, 1, 77);
        store_to(*mapped, 4, 0);
        CHECK(failed_as(mapped->sync(), Error::full));
        CHECK(failed_as(mapped->sync(), Error::full)); // it is not forgotten
        CHECK(fs.sync() == Errno::nospc);
    }
    REQUIRE(fs.unlink(*at(fs, ""), "file") == Errno{});
    REQUIRE(fs.truncate(*room, 0) == Errno{});
    CHECK(mapped->sync()); // the blocks of the file are free now
    CHECK(fs.sync() == Errno{});
    CHECK(fs.stat(*mapped).sectors == block / 512);
    u32 word = 0;
    REQUIRE(mapped->read(kPageSize, &word, 4));
    CHECK(word == 77);
    check_clean(ext2.disk.image(), 1024);
    CHECK(free_blocks(fs) == before - 1);
    // Inodes, too.
    u32 count = 0;
    Errno error{};
    while (!is_error(error)) {
        const Result<Inode*, Errno> made = fs.create(*at(fs, ""), "n" + std::to_string(count), kModeFile);
        error = made ? Errno{} : made.error();
        if (made) FileSystem::release(*made), ++count;
    }
    CHECK(error == Errno::nospc);
    CHECK(count > 30);
    for (u32 i = 0; i < count; ++i)
        REQUIRE(fs.unlink(*at(fs, ""), "n" + std::to_string(i)) == Errno{});
    const Ref one = new_file(fs, "", "one"); // released inodes are free when one is needed
    REQUIRE(ext2.fs().sync() == Errno{});
    check_clean(ext2.disk.image(), 1024);
}

TEST_CASE("ext2: what a removed file has had is there for the next one", "[ext2][ext2-write][ext2-room]") {
    constexpr u32 kBytes = 300'000; // one such file fits
    WithFiles kernel;
    Mounted ext2{make_image("-b 1024", 512), 1024};
    FileSystem& fs = ext2.fs();
    const Ref root = at(fs, "");
    const u32 before = free_blocks(fs), inodes = fs.stat().free_inodes;
    const std::string bytes(kBytes, 'b');
    // Closed, then removed: only the list of dirty objects has it still, and its pages need not be written.
    (void)new_file(fs, "", "first", bytes);
    const u32 stored = page_cache_stats().stored;
    REQUIRE(fs.unlink(*root, "first") == Errno{});
    CHECK(page_cache_stats().stored == stored);
    (void)new_file(fs, "", "file", bytes);
    // Its last user gives it back in another way than by release(), as an area of a program does. Then who needs room
    // frees it, or a change of a name.
    const auto leave = [&](const char* name) {
        Ref file = at(fs, name);
        REQUIRE(fs.unlink(*root, name) == Errno{});
        file.release()->put();
    };
    Ref other = new_file(fs, "", "other");
    leave("file");
    const u32 first = fs.write(*other, 0, bytes.data(), kBytes).value_or(0); // up to the end of the room
    CHECK((first != 0 && first < kBytes));
    CHECK(fs.write(*other, first, bytes.data(), kBytes - first).value_or(0) == kBytes - first);
    for (u32 way = 0; way < 3; ++way) {
        (void)new_file(fs, "", "small", "small");
        leave("small");
        const u32 sources = page_cache_stats().clocked;
        if (way == 0) REQUIRE(fs.link(*root, "link", *other) == Errno{});
        if (way == 1) REQUIRE(fs.rename(*root, "link", *root, "other", false) == Errno::exist);
        if (way == 2) (void)new_file(fs, "", "new");
        CHECK(page_cache_stats().clocked == sources - (way < 2 ? 1 : 0));
    }
    for (const char* const name : {"other", "link", "new"})
        REQUIRE(fs.unlink(*root, name) == Errno{});
    other.reset();
    CHECK(free_blocks(fs) == before);
    CHECK(fs.stat().free_inodes == inodes);
    check_clean(ext2.disk.image(), 1024);
}

TEST_CASE("ext2: a write that the disk refuses is reported by each fsync until it is there",
          "[ext2][ext2-write][ext2-errors]") {
    WithFiles kernel;
    Mounted ext2{make_image("-b 1024", kSmallKib), kSmallSectors};
    FileSystem& fs = ext2.fs();
    const NodeTree expected = new_node(InodeKind::directory);
    expected->names["lost+found"] = new_node(InodeKind::directory);
    const Ref file = new_file(fs, "", "file", std::string(50'000, 'a'));
    const auto each_sector = [&](auto&& what) {
        for (u64 sector = 0; sector < kSmallSectors; ++sector)
            what(sector);
    };
    const auto is_durable = [&](char byte) {
        expected->names["file"] = new_node(InodeKind::file, std::string(50'000, byte));
        return difference(ext2.disk.after_power_cut(0), kSmallSectors, *expected) == "";
    };
    each_sector([&](u64 sector) { ext2.disk.fail(sector); });
    CHECK(failed_as(write_back_all(), Error::io)); // the thread of the kernel: nobody has been told yet
    CHECK(failed_as(file->sync(), Error::io));
    CHECK(failed_as(file->sync(), Error::io));
    CHECK(fs.sync() == Errno::io);
    CHECK(contents(*file) == std::string(50'000, 'a'));
    each_sector([&](u64 sector) { ext2.disk.repair(sector); });
    REQUIRE(file->sync());
    CHECK(is_durable('a'));
    // What leads to the data arrives, but not the data.
    each_sector([&](u64 sector) {
        if (ext2.disk.image().at(sector)[100] == 'a') ext2.disk.fail(sector);
    });
    REQUIRE(fs.write(*file, 0, std::string(50'000, 'c').data(), 50'000));
    CHECK(failed_as(file->sync(), Error::io));
    CHECK(failed_as(file->sync(), Error::io));
    each_sector([&](u64 sector) { ext2.disk.repair(sector); });
    REQUIRE(file->sync());
    CHECK(is_durable('c'));
    // The data arrives, but not what leads to it.
    const std::string bytes(50'000, 'b');
    REQUIRE(fs.truncate(*file, 0) == Errno{});
    REQUIRE(fs.write(*file, 0, bytes.data(), 50'000));
    REQUIRE(file->write_back());
    each_sector([&](u64 sector) { ext2.disk.fail(sector); });
    CHECK(failed_as(file->sync(), Error::io));
    CHECK(failed_as(file->sync(), Error::io));
    each_sector([&](u64 sector) { ext2.disk.repair(sector); });
    REQUIRE(file->sync());
    CHECK(is_durable('b'));
    REQUIRE(fs.sync() == Errno{});
    check_clean(ext2.disk.image(), kSmallSectors);
}

namespace {

// The blocks that are not data of files leave the memory, as when it is short.
void forget_blocks(FileSystem& fs) {
    ext2::MetaObject& meta = static_cast<ext2::Ext2&>(fs).volume().meta();
    REQUIRE(meta.sync());
    (void)meta.drop(); // pages that were found since the last call stay
    (void)meta.drop();
}

} // namespace

TEST_CASE("ext2: a truncate that fails loses nothing, and shows nothing of other files",
          "[ext2][ext2-write][ext2-cut]") {
    WithFiles kernel;
    Mounted ext2{make_image("-b 1024", kSmallKib), kSmallSectors};
    FileSystem& fs = ext2.fs();
    const std::string others(8'000'000, 'x'), bytes(50'000, 'a');
    {
        const Ref other = new_file(fs, "", "other");
        REQUIRE(fs.write(*other, 0, others.data(), static_cast<u32>(others.size())));
        REQUIRE(other->sync());
    }
    REQUIRE(fs.unlink(*at(fs, ""), "other") == Errno{});
    REQUIRE(fs.sync() == Errno{});
    const Ref file = new_file(fs, "", "file", bytes); // on the disk its blocks have what was removed
    const u64 indirect = static_cast<ext2::Ext2Inode&>(*file).record().block[ext2::kDirectBlocks] * 2;
    const auto fail = [&] {
        for (const u64 sector : {indirect, indirect + 1})
            ext2.disk.fail(sector);
    };
    const auto repair = [&] {
        for (const u64 sector : {indirect, indirect + 1})
            ext2.disk.repair(sector);
    };
    for (const u64 size : {5000u, 20'000u, 0u}) {
        forget_blocks(fs);
        fail();
        CHECK(fs.truncate(*file, size) == Errno::io);
        repair();
        CHECK((contents(*file) == bytes));
    }
    // It could be read before the file had its new size, and cannot be read any more.
    forget_blocks(fs);
    REQUIRE(file->resize(5000));
    fail();
    CHECK(failed_as(static_cast<ext2::Ext2Inode&>(*file).set_size(5000), Error::io));
    repair();
    CHECK((contents(*file) == bytes.substr(0, 5000)));
    CHECK(fs.is_read_only());
    CHECK(fsck(ext2.disk.image(), kSmallSectors, "-fy").status <= 1);
}

TEST_CASE("ext2: a directory that cannot grow now grows later", "[ext2][ext2-write][ext2-grow]") {
    WithFiles kernel;
    Mounted ext2{make_image("-b 1024 -I 1024 -N 64", kSmallKib), kSmallSectors}; // each inode has its own block
    FileSystem& fs = ext2.fs();
    const Ref folder = new_folder(fs, "", "folder");
    for (const char name : {'1', '2', '3'})
        (void)new_file(fs, "folder", std::string(240, name));
    const Result<ext2::Volume::Place> place = static_cast<ext2::Ext2&>(fs).volume().place_of(folder->number());
    REQUIRE(place);
    forget_blocks(fs);
    for (const u64 sector : {place->block * 2, place->block * 2 + 1})
        ext2.disk.fail(sector);
    CHECK(fs.create(*folder, std::string(240, '4'), kModeFile).error() == Errno::io);
    for (const u64 sector : {place->block * 2, place->block * 2 + 1})
        ext2.disk.repair(sector);
    CHECK(fs.stat(*folder).bytes == 1024);
    (void)new_file(fs, "", "other", std::string(100'000, 'o'));
    (void)new_file(fs, "folder", std::string(240, '5'));
    CHECK(fs.stat(*folder).bytes == 2048);
    REQUIRE(fs.sync() == Errno{});
    check_clean(ext2.disk.image(), kSmallSectors);
}

// One allocation fails at a time, in each step of a file's life.
TEST_CASE("ext2: a short lack of memory loses no block and no inode", "[ext2][ext2-write][ext2-memory]") {
    enum Step : u32 { make_file, make_folder, write, link, cut, cut_more, rename, remove, free, steps };
    const u32 fails_in = GENERATE(range(u32{make_file}, u32{steps}));
    // With one more block of bitmaps and descriptors for each group.
    const sim::DiskImage image = make_image("-b 1024 -g 256 -N 64", 1024);
    u32 unclean = 0, failed = 0;
    for (u32 nth = 0; nth < 60; ++nth) {
        WithFiles kernel;
        Mounted ext2{image, 2048};
        FileSystem& fs = ext2.fs();
        bool fails = false;
        {
            const Ref root = at(fs, ""), other = new_file(fs, "", "other"), moved = new_file(fs, "", "moved");
            Ref file = new_file(fs, "", "file");
            const auto put = [&](u64 block) {
                const Result<u32, Errno> got = fs.write(*file, block * 1024, "data", 4);
                return got ? Errno{} : got.error();
            };
            for (const u64 block : {0, 11, 12, 20, 200, 268, 269, 530, 12 + 256 + 65536, 12 + 256 + 65536 + 300})
                REQUIRE(put(block) == Errno{});
            const auto step = [&](Step which, auto&& what) {
                if (which == fails_in) {
                    forget_blocks(fs);
                    kernel.machine.fail_allocation(nth);
                }
                const Errno error = what();
                if (which != fails_in) return;
                fails = kernel.machine.allocation_failed();
                failed += fails;
                kernel.machine.allow_allocations();
                if (is_error(error)) CHECK(error == Errno::nomem);
            };
            const auto create = [&](const char* name, u32 mode) {
                const Result<Inode*, Errno> made = fs.create(*root, name, mode);
                if (!made) return made.error();
                FileSystem::release(*made);
                return Errno{};
            };
            step(make_file, [&] { return create("new", kModeFile); });
            step(make_folder, [&] { return create("folder", kModeDirectory); });
            step(write, [&] { return put(2000); });
            step(link, [&] { return fs.link(*root, "link", *other); });
            const auto truncate = [&](u64 blocks) {
                const u64 size = file->bytes();
                const Errno error = fs.truncate(*file, blocks * 1024);
                CHECK(file->bytes() == (is_error(error) ? size : blocks * 1024));
                CHECK(fs.stat(*file).bytes == file->bytes());
                return error;
            };
            step(cut, [&] { return truncate(12 + 256 + 65536 + 100); });
            step(cut_more, [&] { return truncate(15); });
            if (fails_in == cut || fails_in == cut_more) {
                REQUIRE(fs.sync() == Errno{});
                check_clean(ext2.disk.image(), 2048);
            }
            REQUIRE(fs.truncate(*file, 15 * 1024) == Errno{});
            for (const u64 block : {200, 268, 269, 530, 12 + 256 + 65536, 12 + 256 + 65536 + 300})
                REQUIRE(put(block) == Errno{});
            step(rename, [&] { return fs.rename(*root, "moved", *root, "other"); });
            file.reset();
            step(remove, [&] { return fs.unlink(*root, "file"); });
            step(free, [&] { return fs.sync(); });
        }
        if (!fails) break;
        REQUIRE(ext2.unmount() == Errno{});
        const bool is_clean = (ext2.disk.image().at(2)[58] & 1) != 0;
        unclean += !is_clean;
        INFO("step " << fails_in << ", allocation " << nth);
        if (is_clean)
            check_clean(ext2.disk.image(), 2048);
        else
            CHECK(fsck(ext2.disk.image(), 2048, "-fy").status <= 1);
    }
    WARN("step " << fails_in << ": " << failed << " failed, " << unclean << " left it not clean");
    CHECK(failed != 0);
    if (fails_in != make_folder && fails_in != link && fails_in != rename && fails_in != remove) CHECK(unclean == 0);
}

TEST_CASE("ext2: what is not written yet is not seen", "[ext2][ext2-write][ext2-size]") {
    WithFiles kernel;
    Mounted ext2{make_image("-b 1024", kSmallKib), kSmallSectors};
    FileSystem& fs = ext2.fs();
    const Ref file = new_file(fs, "", "file", "123");
    const auto sizes = [&](u64 visible) { return file->visible_bytes() == visible && fs.stat(*file).bytes == visible; };
    MutexGuard guard{fs.writer_of(*file)};
    for (const u32 stored : {0u, 10u, 500u}) { // nothing is copied, a part, everything
        const u64 before = file->bytes();
        const Result<FileSystem::Part, Errno> part = fs.begin_page(*file, before, 500);
        REQUIRE(part);
        CHECK(file->bytes() == before + 500);
        CHECK(sizes(before));
        CHECK(fs.end_page(*file, *part, before, stored) == Errno{});
        CHECK(sizes(before + stored));
    }
    const Result<FileSystem::Part, Errno> inside = fs.begin_page(*file, 0, 100);
    REQUIRE(inside);
    CHECK(sizes(513));
    CHECK(fs.end_page(*file, *inside, 0, 100) == Errno{});
    CHECK(sizes(513));
    CHECK(fs.begin_page(*file, u64{1} << 42, 100).error() == Errno::fbig);
    CHECK(sizes(513));
}

TEST_CASE("ext2: rights, owners and times", "[ext2][ext2-write][ext2-change]") {
    WithFiles kernel;
    Mounted ext2{make_image("-b 1024", kSmallKib), kSmallSectors};
    FileSystem& fs = ext2.fs();
    const Ref file = new_file(fs, "", "file"), folder = new_folder(fs, "", "folder");
    REQUIRE(fs.change(*file, {.rights = 06711, .uid = 100'000, .gid = 200'000, .atime = 1000, .mtime = ~0u}) ==
            Errno{});
    REQUIRE(fs.change(*folder, {.rights = 02750, .gid = 300'000}) == Errno{});
    REQUIRE(fs.change(*folder, {.uid = 7, .gives_away = true}) == Errno{}); // it keeps set-group-ID
    const Ref below = new_folder(fs, "folder", "below"), other = new_file(fs, "folder", "other");
    REQUIRE(fs.sync() == Errno{});
    check_clean(ext2.disk.image(), kSmallSectors);
    const Folder host;
    save(host / "image", ext2.disk.image(), kSmallSectors);
    const auto has = [&](const std::string& path, const char* text) {
        const std::string said = run_tool("debugfs -R 'stat " + path + "' " + host / "image").text;
        INFO(path << ": " << said);
        CHECK(said.find(text) != std::string::npos);
    };
    has("/file", "Mode:  06711");
    has("/file", "User: 100000   Group: 200000");
    has("/file", "atime: 0x000003e8");
    has("/file", "mtime: 0xffffffff");
    has("/folder", "Mode:  02750");
    has("/folder", "User:     7   Group: 300000");
    has("/folder/below", "Mode:  02755");
    has("/folder/below", "Group: 300000");
    has("/folder/other", "Mode:  0644");
    has("/folder/other", "Group: 300000");
    REQUIRE(fs.change(*file, {.uid = 1, .gives_away = true}) == Errno{});
    CHECK((fs.stat(*file).mode & kModeRights) == 0711);
    CHECK(fs.stat(*file).gid == 200'000);
    CHECK(ext2.unmount() == Errno::busy);
    Mounted only_read{ext2.disk.image(), kSmallSectors, true};
    CHECK(only_read.fs().change(*at(only_read.fs(), "file"), {.rights = 0777}) == Errno::rofs);
}

TEST_CASE("ext2: thousands of names, and an index that is cleared before a change", "[ext2][ext2-write][ext2-names]") {
    const u32 block = GENERATE(1024u, 4096u);
    const Folder folder;
    const NodeTree root = new_node(InodeKind::directory);
    for (const char* const name : {"changed", "as it was"}) {
        const NodeTree many = put_folder(folder / name, *root);
        for (u32 i = 0; i < (kSlow ? 400 : 1000); ++i)
            put_file(folder / name + "/name " + std::string(i % 90, 'n') + std::to_string(i), *many, "");
    }
    constexpr u32 kKib = 8192, kSectors = kKib * 2;
    const sim::DiskImage made = make_image("-N 4096 -O dir_index -b " + std::to_string(block), kKib, folder.path());
    const Folder other;
    save(other / "image", made, kSectors);
    REQUIRE(run_tool("e2fsck -fyD " + other / "image").status <= 1);
    const auto is_indexed = [&](const char* name) {
        return run_tool("debugfs -R 'htree_dump \"/" + std::string{name} + "\"' " + other / "image")
                   .text.find("Root node dump") != std::string::npos;
    };
    REQUIRE(is_indexed("changed"));
    WithFiles kernel;
    Mounted ext2{load(other / "image"), kSectors};
    FileSystem& fs = ext2.fs();
    CHECK(difference(fs, *root) == "");
    Node& names = *root->names["changed"];
    Random random{block};
    const Ref directory = at(fs, "changed");
    for (u32 i = 0; i < (kSlow ? 300 : 1500); ++i) {
        const std::string name = "other " + std::string(below(random, 200), 'o') + std::to_string(i);
        const Result<Inode*, Errno> file = fs.create(*directory, name, kModeFile | 0600);
        REQUIRE(file);
        FileSystem::release(*file);
        names.names[name] = new_node(InodeKind::file);
        if (i % 2 == 0) continue;
        auto victim = names.names.begin();
        std::advance(victim, below(random, static_cast<u32>(names.names.size())));
        REQUIRE(fs.unlink(*directory, victim->first) == Errno{});
        names.names.erase(victim);
    }
    CHECK(difference(fs, *root) == "");
    REQUIRE(fs.sync() == Errno{});
    check_clean(ext2.disk.image(), kSectors);
    CHECK(difference(ext2.disk.image(), kSectors, *root) == "");
    save(other / "image", ext2.disk.image(), kSectors);
    CHECK(!is_indexed("changed"));
    CHECK(is_indexed("as it was"));
}

TEST_CASE("ext2: an index that could not be cleared is cleared before the next change",
          "[ext2][ext2-write][ext2-names][ext2-index]") {
    const Folder folder, other;
    const NodeTree root = new_node(InodeKind::directory);
    (void)put_folder(folder / "names", *root);
    for (u32 i = 0; i < 200; ++i)
        put_file(folder / "names/a long name " + std::to_string(i), *root, "");
    constexpr u32 kKib = 4096, kSectors = kKib * 2;
    save(other / "image", make_image("-N 512 -O dir_index -b 1024", kKib, folder.path()), kSectors);
    REQUIRE(run_tool("e2fsck -fyD " + other / "image").status <= 1);
    const auto is_indexed = [&] {
        const std::string text = run_tool("debugfs -R 'htree_dump /names' " + other / "image").text;
        return text.find("Root node dump") != std::string::npos;
    };
    REQUIRE(is_indexed());
    WithFiles kernel;
    Mounted ext2{load(other / "image"), kSectors};
    FileSystem& fs = ext2.fs();
    const Ref names = at(fs, "names");
    const Result<ext2::Volume::Place> place = static_cast<ext2::Ext2&>(fs).volume().place_of(names->number());
    REQUIRE(place);
    for (const u64 sector : {place->block * 2, place->block * 2 + 1})
        ext2.disk.fail(sector);
    CHECK(fs.create(*names, "new", kModeFile).error() == Errno::io);
    for (const u64 sector : {place->block * 2, place->block * 2 + 1})
        ext2.disk.repair(sector);
    const Result<Inode*, Errno> made = fs.create(*names, "new", kModeFile);
    REQUIRE(made);
    FileSystem::release(*made);
    save(other / "image", ext2.disk.after_power_cut(0), kSectors); // the index may not know the name
    CHECK(!is_indexed());
}

TEST_CASE("ext2: what loft does not know is refused, or only read", "[ext2][ext2-features]") {
    WithFiles kernel;
    const auto mounts = [](const sim::DiskImage& image, u64 sectors = kSmallSectors) -> std::string {
        sim::SimDisk disk{{.sectors = sectors, .image = image}};
        REQUIRE(disk.ready());
        const Result<FileSystem*, Errno> fs = ext2_mount(disk, false);
        if (!fs) return "errno " + std::to_string(static_cast<int>(fs.error()));
        const std::string how = (*fs)->is_read_only() ? "read-only" : "yes";
        CHECK(ext2_unmount(*fs) == Errno{});
        return how;
    };
    const auto changed = [](const sim::DiskImage& image, u32 at, u8 value) {
        sim::DiskImage other = image;
        sim::Sector data = other.at(2 + at / kSectorBytes);
        data[at % kSectorBytes] = value;
        other.write(2 + at / kSectorBytes, data);
        return other;
    };
    const sim::DiskImage image = make_image("-b 1024", kSmallKib);
    CHECK(mounts(image) == "yes");
    CHECK(mounts(make_image("-r 0 -b 1024", kSmallKib)) == "yes");
    CHECK(mounts(make_image("-b 1024 -O ^filetype,^sparse_super,^resize_inode", kSmallKib)) == "yes");
    CHECK(mounts(make_image("-b 1024 -O extents", kSmallKib)) == "errno 22");
    CHECK(mounts(make_image("-t ext3 -b 1024", 4096), 8192) == "yes"); // with a journal that is empty
    CHECK(mounts(make_image("-b 1024 -O huge_file", kSmallKib)) == "read-only");
    CHECK(mounts(make_image("-b 1024 -O uninit_bg", kSmallKib)) == "read-only");
    CHECK(mounts(changed(image, 96, 0x06)) == "errno 22"); // a journal to recover
    CHECK(mounts(changed(image, 58, 0)) == "read-only");   // not clean
    CHECK(mounts(changed(image, 58, 3)) == "read-only");
    CHECK(mounts(changed(image, 56, 0)) == "errno 22");
    CHECK(mounts(changed(image, 7, 1)) == "errno 117"); // more blocks than the disk has
    CHECK(mounts(sim::DiskImage{}) == "errno 22");
    CHECK(mounts(image, 3) == "errno 22");
    // While it is mounted it is not clean.
    Mounted ext2{image, kSmallSectors};
    CHECK((ext2.disk.after_power_cut(0).at(2)[58] & 1) == 0);
    CHECK(mounts(ext2.disk.after_power_cut(0)) == "read-only");
    const Ref root = at(ext2.fs(), "");
    CHECK(ext2_unmount(&ext2.fs()) == Errno::busy);
}

TEST_CASE("ext2: rules of names", "[ext2][ext2-rules]") {
    WithFiles kernel;
    Mounted ext2{make_image("-b 1024", kSmallKib), kSmallSectors};
    FileSystem& fs = ext2.fs();
    Ref a = new_folder(fs, "", "a");
    const Ref root = at(fs, ""), b = new_folder(fs, "a", "b"), file = new_file(fs, "", "file");
    CHECK(fs.lookup(*file, "x").error() == Errno::notdir);
    CHECK(fs.lookup(*root, std::string(256, 'x')).error() == Errno::nametoolong);
    CHECK(fs.create(*root, std::string(256, 'x'), kModeFile).error() == Errno::nametoolong);
    CHECK(fs.create(*root, "a", kModeFile).error() == Errno::exist);
    const Result<Inode*, Errno> same = fs.create(*root, "a", kModeFile, false);
    REQUIRE(same);
    CHECK(*same == a.get());
    FileSystem::release(*same);
    CHECK(fs.unlink(*root, "a") == Errno::isdir);
    CHECK(fs.rmdir(*root, "a") == Errno::notempty);
    CHECK(fs.rmdir(*root, "file") == Errno::notdir);
    CHECK(fs.rmdir(*root, "x") == Errno::noent);
    CHECK(fs.link(*root, "c", *a) == Errno::perm);
    CHECK(fs.link(*root, "file", *a) == Errno::exist);
    {
        Mounted other{make_image("-b 1024", kSmallKib), kSmallSectors};
        const Ref theirs = at(other.fs(), "");
        CHECK(fs.link(*root, "file", *theirs) == Errno::exist);
        CHECK(fs.link(*root, "c", *theirs) == Errno::xdev);
    }
    CHECK(fs.rename(*root, "a", *b, "x") == Errno::inval);
    CHECK(fs.rename(*root, "a", *root, "file", false) == Errno::exist);
    CHECK(fs.rename(*root, "file", *root, "file", false) == Errno::exist);
    CHECK(fs.rename(*root, "x", *root, "file", false) == Errno::noent);
    REQUIRE(fs.rename(*root, "file", *root, "renamed", false) == Errno{});
    REQUIRE(fs.rename(*root, "renamed", *root, "file", false) == Errno{});
    CHECK(fs.rename(*root, "a", *a, "x") == Errno::inval);
    CHECK(fs.rename(*a, "b", *root, "file") == Errno::notdir);
    CHECK(fs.rename(*root, "file", *a, "b") == Errno::isdir);
    CHECK(fs.rename(*a, "b", *root, "a") == Errno::notempty);
    {
        const Ref deep = new_file(fs, "a/b", "deep");
        CHECK(fs.rename(*b, "deep", *root, "a") == Errno::notempty); // above what is renamed
        CHECK(fs.rename(*b, "deep", *a, "b") == Errno::notempty);
        REQUIRE(fs.unlink(*b, "deep") == Errno{});
    }
    CHECK(fs.truncate(*a, 0) == Errno::isdir);
    CHECK(fs.write(*a, 0, "x", 1).error() == Errno::isdir);
    CHECK(fs.create(*root, "long", kModeLink, true, std::string(1024, 'l')).error() == Errno::nametoolong);
    char text[8];
    CHECK(fs.read_link(*file, text, 8).error() == Errno::inval);
    // A directory that moves knows its parent.
    REQUIRE(fs.rename(*a, "b", *root, "b") == Errno{});
    const Result<Inode*, Errno> up = fs.parent(*b);
    REQUIRE(up);
    CHECK(*up == root.get());
    FileSystem::release(*up);
    CHECK(root->links() == 5); // ".", "..", "lost+found", a, b
    CHECK(a->links() == 2);
    REQUIRE(fs.rename(*root, "b", *root, "a") == Errno{}); // a is empty now
    CHECK(a->links() == 0);
    CHECK(root->links() == 4);
    a.reset();
    const Result<Inode*, Errno> top = fs.parent(*root);
    REQUIRE(top);
    CHECK(*top == root.get());
    FileSystem::release(*top);
    REQUIRE(fs.sync() == Errno{});
    check_clean(ext2.disk.image(), kSmallSectors);
    // Links, up to their limit.
    for (u32 i = 1; i < 300; ++i)
        REQUIRE(fs.link(*b, "link" + std::to_string(i), *file) == Errno{});
    CHECK(file->links() == 300);
    REQUIRE(fs.sync() == Errno{});
    check_clean(ext2.disk.image(), kSmallSectors);
}
