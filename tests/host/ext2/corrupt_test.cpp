// ext2: damaged images. Whatever a disk has, loft reports errors; it does not panic, read outside of anything, or go on
// for ever. Under the sanitizers this is more than it looks.
//
//     LOFT_MUTATED=10000 build/host-64g-asan/host-tests '[ext2-corrupt]'       # more images than by default
//     LOFT_MUTATED_FROM=5000 LOFT_MUTATED=5000 ...                              # others
#include "tests/host/ext2/changes.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kKib = 384, kSectors = kKib * 2;

// Files, directories and links of each kind, in as little as possible.
sim::DiskImage seed_image(u32 block) {
    const Folder folder;
    Random random{block};
    namespace host = std::filesystem;
    const auto put = [&](const std::string& name, const std::string& bytes) {
        std::ofstream{folder / name, std::ios::binary}.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    };
    put("empty", "");
    put("small", "small");
    put("blocks", random_bytes(random, 20'000));
    put("indirect", random_bytes(random, 70'000));
    std::ofstream sparse{folder / "sparse", std::ios::binary};
    sparse.seekp(block * (12 + block / 4 + 3));
    sparse << "double";
    sparse.seekp(std::streamoff{block} * (12 + block / 4 + block / 4 * (block / 4) + 3));
    sparse << "triple";
    sparse.close();
    host::create_directories(folder / "a/b/c");
    put("a/b/c/deep", "deep");
    host::create_directory(folder / "many");
    for (u32 i = 0; i < 60; ++i)
        put("many/a rather long name, so that there are some blocks of them " + std::to_string(i), "");
    host::create_symlink("a/b", folder / "short");
    host::create_symlink(std::string(100, 'l'), folder / "long");
    host::create_hard_link(folder / "small", folder / "a/same");
    return make_image("-N 128 -b " + std::to_string(block) + (block == 1024 ? " -g 256" : ""), kKib, folder.path());
}

// The sectors with something in them that is not the random data of files.
std::vector<u64> structure_of(const sim::DiskImage& image) {
    std::vector<u64> sectors;
    for (u64 i = 0; i < kSectors; ++i) {
        const sim::Sector data = image.at(i);
        const auto zeros = std::count(data.begin(), data.end(), u8{0});
        if (zeros > 20 && zeros < kSectorBytes) sectors.push_back(i);
    }
    return sectors;
}

// A few fields are changed, mostly where there is something.
void mutate(sim::DiskImage& image, const std::vector<u64>& structure, Random& random) {
    const u32 changes = 1 + below(random, 4);
    for (u32 i = 0; i < changes;) {
        const u32 where = below(random, 12);
        const u64 sector = where == 0   ? 2 // the superblock
                           : where == 1 ? below(random, kSectors)
                                        : structure[below(random, static_cast<u32>(structure.size()))];
        sim::Sector data = image.at(sector);
        const u32 at = where == 0 ? below(random, 104) : below(random, kSectorBytes);
        if (data[at] == 0 && below(random, 16) != 0) continue;
        const u32 word = at & ~3u;
        u32 value = 0;
        switch (below(random, 6)) {
        case 0:
            data[at] = static_cast<u8>(data[at] ^ 1u << below(random, 8));
            break;
        case 1:
            data[at] = static_cast<u8>(random());
            break;
        case 2:
            data[at] = below(random, 2) != 0 ? 0xff : 0;
            break;
        case 3:
            value = below(random, kKib + 2); // a number of a block or an inode
            std::memcpy(&data[word], &value, 4);
            break;
        case 4:
            value = static_cast<u32>(random());
            std::memcpy(&data[word], &value, 4);
            break;
        default: // from somewhere else in the sector
            std::memcpy(&data[word], &data[below(random, kSectorBytes) & ~3u], 4);
        }
        image.write(sector, data);
        ++i;
    }
    // Mostly it looks clean, so that it may be written.
    if (below(random, 8) != 0) {
        sim::Sector super = image.at(2);
        super[58] = 1;
        super[59] = 0;
        image.write(2, super);
    }
}

u32 number_of(const char* name, u32 otherwise) {
    const char* const text = std::getenv(name);
    return text != nullptr ? static_cast<u32>(std::atoi(text)) : otherwise;
}

// Fields of an image with blocks of 1024 bytes and one group.
class Patch {
  public:
    explicit Patch(sim::DiskImage image) : image_{std::move(image)} {}
    u32 get(u64 at) const {
        u32 word = 0;
        const sim::Sector data = image_.at(at / kSectorBytes);
        std::memcpy(&word, &data[at % kSectorBytes], 4);
        return word;
    }
    void put(u64 at, u32 word, u32 bytes = 4) {
        sim::Sector data = image_.at(at / kSectorBytes);
        std::memcpy(&data[at % kSectorBytes], &word, bytes);
        image_.write(at / kSectorBytes, data);
    }
    u64 inode(u32 number) const { return u64{get(2048 + 8)} * 1024 + (number - 1) * (get(1024 + 88) & 0xffff); }
    u32 block(u32 number, u32 slot) const { return get(inode(number) + 40 + slot * 4); }
    void set_block(u32 number, u32 slot, u32 block) { put(inode(number) + 40 + slot * 4, block); }
    const sim::DiskImage& image() const { return image_; }

  private:
    sim::DiskImage image_;
};

struct Use {
    FileSystem& fs;
    Random& random;
    std::set<int> errors{};
    u32 left = 400; // inodes to look at

    bool good(Errno error) {
        if (is_error(error)) errors.insert(static_cast<int>(error));
        return !is_error(error);
    }
    // Reads all names, and a part of each file.
    void look(Inode& inode, u32 depth) {
        if (left == 0 || depth > 12) return;
        --left;
        (void)fs.stat(inode);
        char text[300];
        if (inode.kind() == InodeKind::link) {
            const Result<u32, Errno> got = fs.read_link(inode, text, sizeof text);
            good(got ? Errno{} : got.error());
        }
        if (inode.kind() == InodeKind::file) {
            const u64 size = inode.bytes();
            for (u32 i = 0; i < 12 && size != 0; ++i) {
                const u64 offset = i < 4 ? i * 5000 : (u64{static_cast<u32>(random())} << 8) % size;
                const u32 bytes = static_cast<u32>(std::min<u64>(sizeof text, size - std::min(offset, size)));
                good(errno_of(inode.read(std::min(offset, size), text, bytes)));
            }
        }
        if (!inode.is_directory()) return;
        struct Names final : ListVisitor {
            bool entry(const DirectoryEntry& entry) override {
                if (names.size() == 100) return false;
                names.emplace_back(entry.name);
                return true;
            }
            std::vector<std::string> names;
        } all;
        u64 position = 0;
        good(fs.list(inode, position, all));
        for (const std::string& name : all.names) {
            if (name == "." || name == "..") continue;
            const Result<Inode*, Errno> found = fs.lookup(inode, name);
            if (!good(found ? Errno{} : found.error())) continue;
            const Ref ref{*found};
            look(*ref, depth + 1);
        }
        const Result<Inode*, Errno> up = fs.parent(inode);
        if (good(up ? Errno{} : up.error())) FileSystem::release(*up);
    }
    void change(Inode& root) {
        std::string bytes(6000, 'w');
        const auto made = [&](Result<Inode*, Errno> inode) {
            if (good(inode ? Errno{} : inode.error())) FileSystem::release(*inode);
        };
        made(fs.create(root, "new", kModeFile | 0644));
        made(fs.create(root, "folder", kModeDirectory | 0755));
        made(fs.create(root, "target", kModeLink | 0777, true, bytes.substr(0, 200)));
        for (const char* const name : {"new", "indirect", "sparse", "many", "small", "blocks"}) {
            const Result<Inode*, Errno> found = fs.lookup(root, name);
            if (!good(found ? Errno{} : found.error())) continue;
            const Ref file{*found};
            const Result<u32, Errno> written = fs.write(*file, below(random, 90'000), bytes.data(), 6000);
            good(written ? Errno{} : written.error());
            if (below(random, 2) != 0) good(fs.truncate(*file, below(random, 30'000)));
            good(errno_of(file->sync()));
            if (file->is_directory())
                for (u32 i = 0; i < 20; ++i) {
                    made(fs.create(*file, "another long name that needs its room " + std::to_string(i), kModeFile));
                    good(fs.unlink(*file, "a rather long name, so that there are some blocks of them " +
                                              std::to_string(below(random, 60))));
                }
        }
        if (const Result<Inode*, Errno> a = fs.lookup(root, "a"); good(a ? Errno{} : a.error())) {
            const Ref ref{*a};
            good(fs.rename(root, "many", *ref, "moved"));
            good(fs.rename(*ref, "b", root, "b"));
            good(fs.rmdir(root, "b"));
        }
        for (const char* const name : {"small", "sparse", "indirect", "long", "short", "blocks", "empty"})
            if (below(random, 2) != 0) good(fs.unlink(root, name));
        good(fs.sync());
    }
};

} // namespace

TEST_CASE("ext2: damaged images give errors", "[ext2][ext2-corrupt]") {
    const u32 block = GENERATE(1024u, 2048u, 4096u);
    const u32 images = number_of("LOFT_MUTATED", 300) / 3 + 1, from = number_of("LOFT_MUTATED_FROM", 0) / 3;
    const sim::DiskImage seed = seed_image(block);
    const std::vector<u64> structure = structure_of(seed);
    WithFiles kernel;
    u32 mounted = 0, damaged = 0, refused = 0;
    std::set<int> errors;
    Books before{};
    for (u32 i = 0; i < images; ++i) {
        Random random{(from + i) * 4 + block / 1024};
        sim::DiskImage image = seed;
        mutate(image, structure, random);
        INFO("block " << block << ", image " << from + i);
        {
            sim::SimDisk disk{{.sectors = kSectors, .image = image}};
            REQUIRE(disk.ready());
            const Result<FileSystem*, Errno> fs = ext2_mount(disk, below(random, 8) == 0);
            if (!fs) {
                ++refused;
                CHECK((fs.error() == Errno::uclean || fs.error() == Errno::inval));
                continue;
            }
            ++mounted;
            Use use{**fs, random};
            if (const Result<Inode*, Errno> root = (*fs)->root(); use.good(root ? Errno{} : root.error())) {
                const Ref ref{*root};
                use.look(*ref, 0);
                use.change(*ref);
                use.left = 400;
                use.look(*ref, 0);
            }
            damaged += use.errors.contains(static_cast<int>(Errno::uclean));
            errors.merge(use.errors);
            REQUIRE(ext2_unmount(*fs) != Errno::busy);
            CHECK(disk.counts().starts < 20'000); // it did not go on for long
        }
        ObjectCache::give_back_empty_slabs();
        if (i < 20)
            before = books();
        else
            REQUIRE(books() == before);
    }
    std::string all;
    for (const int error : errors)
        all += " " + std::to_string(error);
    WARN(mounted << " mounted, " << refused << " refused, " << damaged << " reported damage; errors" << all);
    CHECK(damaged > mounted / 20);
    CHECK(mounted > images / 2);
}

namespace {

// Mounts a patched image, runs `what`, and unmounts it. All of it is little work, counted in operations of the machine.
template <typename F> void with_patch(const Patch& patch, F&& what) {
    sim::SimDisk disk{{.sectors = kSectors, .image = patch.image()}};
    REQUIRE(disk.ready());
    u64 work = 0;
    const sim::ScopedHook hook{[&](sim::Point) { ++work; }};
    const Result<FileSystem*, Errno> fs = ext2_mount(disk, false);
    REQUIRE(fs);
    CHECK(!(*fs)->is_read_only());
    what(**fs);
    CHECK(ext2_unmount(*fs) == Errno{});
    CHECK(work < (kDebug ? 8'000'000 : 4'000'000)); // a frame is poisoned and checked then
}
Errno read_error(FileSystem& fs, const std::string& path, u64 offset) {
    char byte = 0;
    const Result<Inode*, Errno> found = try_at(fs, path);
    if (!found) return found.error();
    const Ref file{*found};
    return errno_of(file->read(offset, &byte, 1));
}
Errno lookup_error(FileSystem& fs, const std::string& path) {
    const Result<Inode*, Errno> found = try_at(fs, path);
    if (found) FileSystem::release(*found);
    return found ? Errno{} : found.error();
}

constexpr u32 kFirstOfFiles = 12; // behind lost+found

// A file with indirect blocks, a directory with two names; one group.
struct Known {
    Known() {
        const Folder folder;
        Random random{1};
        std::ofstream{folder / "file", std::ios::binary} << random_bytes(random, 300'000);
        std::filesystem::create_directory(folder / "folder");
        std::ofstream{folder / "folder/one"} << "one";
        std::ofstream{folder / "folder/two"} << "two";
        image = make_image("-b 1024 -N 64 -I 128 -O ^resize_inode", kKib, folder.path());
        Mounted ext2{image, kSectors, true};
        file = at(ext2.fs(), "file")->number();
        this->folder = at(ext2.fs(), "folder")->number();
        one = at(ext2.fs(), "folder/one")->number();
        REQUIRE(file >= kFirstOfFiles);
    }
    Patch patch() const { return Patch{image}; }
    // The place of an entry of the folder.
    u64 entry(const std::string& name) const {
        const Patch now = patch();
        u64 at = u64{now.block(folder, 0)} * 1024;
        for (;; at += now.get(at + 4) & 0xffff) {
            char text[4]{};
            const u32 word = now.get(at + 8);
            std::memcpy(text, &word, 3);
            if (name == text) return at;
        }
    }

    WithFiles kernel;
    sim::DiskImage image;
    u32 file = 0, folder = 0, one = 0;
};

} // namespace

TEST_CASE("ext2: numbers of blocks are checked", "[ext2][ext2-corrupt][ext2-numbers]") {
    const Known known;
    const Patch clean = known.patch();
    const u32 bitmap = clean.get(2048), inode_bitmap = clean.get(2052), table = clean.get(2056);
    for (const u32 bad : {kKib, ~0u, 1u, 2u, bitmap, inode_bitmap, table, table + 1}) {
        INFO(bad);
        Patch direct = clean;
        direct.set_block(known.file, 5, bad); // of the second page
        with_patch(direct, [](FileSystem& fs) {
            CHECK(read_error(fs, "file", 0) == Errno{});
            CHECK(read_error(fs, "file", 5 * 1024) == Errno::uclean);
            CHECK(fs.is_read_only());
        });
        for (const u32 slot : {12u, 13u}) {
            Patch indirect = clean;
            indirect.set_block(known.file, slot, bad);
            with_patch(indirect, [&](FileSystem& fs) {
                CHECK(read_error(fs, "file", slot == 12 ? 20'000 : 290'000) == Errno::uclean);
            });
        }
        Patch entry = clean;
        entry.put(u64{clean.block(known.file, 12)} * 1024 + 8, bad);
        with_patch(entry, [](FileSystem& fs) {
            CHECK(read_error(fs, "file", 11 * 1024) == Errno{});
            CHECK(read_error(fs, "file", 14 * 1024) == Errno::uclean);
        });
        Patch folder = clean;
        folder.set_block(known.folder, 0, bad);
        with_patch(folder, [](FileSystem& fs) { CHECK(lookup_error(fs, "folder/one") == Errno::uclean); });
        // Nothing of the system is freed.
        with_patch(direct, [&](FileSystem& fs) {
            CHECK(fs.unlink(*at(fs, ""), "file") == Errno{});
            CHECK(fs.sync() == Errno{});
        });
    }
    // A page that cannot be stored because of damage is given up at last; fsync says so, also later.
    Patch lost = clean;
    lost.set_block(known.file, 5, table);
    with_patch(lost, [](FileSystem& fs) {
        const Ref file = at(fs, "file");
        CHECK(fs.write(*file, 290'000, "new", 3));
        CHECK(file->sync());
        REQUIRE(fs.write(*file, 290'000, "newer", 5));
        CHECK(read_error(fs, "file", 5 * 1024) == Errno::uclean);
        for (u32 i = 0; i < 3; ++i) {
            const Status synced = file->sync();
            REQUIRE(!synced);
            CHECK(synced.error() == Error::corrupt);
        }
    });
    // What the last block has behind the end is not shown.
    const u32 indirect = clean.get(u64{clean.block(known.file, 13)} * 1024);
    Patch tail = clean;
    tail.put(u64{clean.get(u64{indirect} * 1024 + (300'000 / 1024 - 12 - 256) * 4)} * 1024 + 300'000 % 1024, ~0u);
    with_patch(tail, [](FileSystem& fs) {
        const Result<Page*> page = at(fs, "file")->page(300'000 / kPageSize);
        REQUIRE(page);
        u32 word = ~0u;
        memcpy_from_page(&word, *page, 300'000 % kPageSize, 4);
        put_page(*page);
        CHECK(word == 0);
    });
    Patch hole = clean;
    hole.set_block(known.folder, 0, 0);
    with_patch(hole, [](FileSystem& fs) { CHECK(lookup_error(fs, "folder/one") == Errno::uclean); });
}

TEST_CASE("ext2: the target of a link ends before a zero byte", "[ext2][ext2-corrupt][ext2-zero]") {
    WithFiles kernel;
    Mounted ext2{seed_image(1024), kSectors};
    for (const u32 bytes : {20u, 200u}) { // in the record, in a block
        std::string target(bytes, 't');
        target[7] = '\0';
        const std::string name = "link" + std::to_string(bytes);
        const Result<Inode*, Errno> made = ext2.fs().create(*at(ext2.fs(), ""), name, kModeLink | 0777, true, target);
        REQUIRE(made);
        const Ref link{*made};
        char text[256];
        const Result<u32, Errno> length = ext2.fs().read_link(*link, text, sizeof text);
        REQUIRE(length);
        CHECK(*length == 7);
    }
}

TEST_CASE("ext2: entries of directories are checked", "[ext2][ext2-corrupt][ext2-entries]") {
    const Known known;
    const u64 one = known.entry("one");
    const auto gives = [&](u64 place, u32 value, u32 bytes, const char* what, Errno expected) {
        INFO(what << ": " << value);
        Patch patch = known.patch();
        patch.put(place, value, bytes);
        with_patch(patch, [&](FileSystem& fs) {
            CHECK(lookup_error(fs, "folder/one") == expected);
            if (expected != Errno::uclean || fs.is_read_only()) return;
            CHECK(fs.unlink(*at(fs, "folder"), "one") == Errno::uclean);
        });
    };
    for (const u32 bytes : {0u, 4u, 8u, 13u, 14u, 1020u, 0xfffcu})
        gives(one + 4, bytes, 2, "size", Errno::uclean);
    for (const u32 bytes : {0u, 5u, 255u})
        gives(one + 6, bytes, 1, "bytes of the name", Errno::uclean);
    for (const u32 inode : {1u, 3u, 10u, 65u, ~0u, 60u}) // reserved ones, those behind the last, one that is not in use
        gives(one, inode, 4, "inode", Errno::uclean);
    gives(one, 0, 4, "inode", Errno::noent);
    gives(one, known.folder, 4, "itself", Errno{});
}

TEST_CASE("ext2: inodes are checked", "[ext2][ext2-corrupt][ext2-inodes]") {
    const Known known;
    const auto gives = [&](u32 number, u32 field, u32 value, u32 bytes, const std::string& path, Errno expected) {
        INFO(path << ": " << field << " " << value);
        Patch patch = known.patch();
        patch.put(patch.inode(number) + field, value, bytes);
        with_patch(patch, [&](FileSystem& fs) { CHECK(lookup_error(fs, path) == expected); });
    };
    gives(known.file, 26, 0, 2, "file", Errno::uclean);                    // links
    gives(known.file, 0, 0, 2, "file", Errno::uclean);                     // mode
    gives(known.file, 0, 0xf000, 2, "file", Errno::uclean);                //
    gives(known.file, 0, 0x2000, 2, "file", Errno{});                      // a device
    gives(known.file, 108, 0x10, 4, "file", Errno::uclean);                // high half of the size: too large
    gives(known.file, 108, 1, 4, "file", Errno{});                         // 4 GiB
    gives(known.folder, 4, 0, 4, "folder", Errno::uclean);                 // size of a directory
    gives(known.folder, 4, 1025, 4, "folder", Errno::uclean);              //
    gives(known.folder, 4, 1024 * (kKib + 1), 4, "folder", Errno::uclean); // more than there is
    gives(2, 0, 0x81ff, 2, "", Errno::uclean);                             // the root is a file
    gives(2, 26, 0, 2, "", Errno::uclean);
}

TEST_CASE("ext2: the superblock and groups are checked", "[ext2][ext2-corrupt][ext2-super]") {
    const Known known;
    const auto refused = [&](u64 at, u32 value, u32 bytes = 4) {
        INFO(at << " " << value);
        Patch patch = known.patch();
        patch.put(at, value, bytes);
        sim::SimDisk disk{{.sectors = kSectors, .image = patch.image()}};
        REQUIRE(disk.ready());
        const Result<FileSystem*, Errno> fs = ext2_mount(disk, false);
        CHECK(!fs);
        if (fs) CHECK(ext2_unmount(*fs) == Errno{});
    };
    for (const u32 value : {0u, 1u, 63u, 1u << 20, ~0u})
        refused(1024 + 0, value); // inodes
    for (const u32 value : {0u, 7u, kKib + 1, ~0u})
        refused(1024 + 4, value); // blocks
    for (const u32 value : {0u, 2u, ~0u})
        refused(1024 + 20, value); // first block
    for (const u32 value : {3u, 4u, 31u, ~0u})
        refused(1024 + 24, value); // size of a block
    for (const u32 value : {0u, 4u, 8193u, 8200u, ~0u})
        refused(1024 + 32, value); // blocks in a group
    for (const u32 value : {0u, 4u, 8u, 8200u, ~0u})
        refused(1024 + 40, value); // inodes in a group
    refused(1024 + 28, 1);
    refused(1024 + 36, 1);
    refused(1024 + 76, 2); // revision
    for (const u32 value : {0u, 64u, 100u, 192u, 2048u, 0xffffu})
        refused(1024 + 88, value, 2); // size of an inode
    for (const u32 value : {0u, 10u, 65u, ~0u})
        refused(1024 + 84, value); // first inode
    for (const u32 value : {4u, 8u, 0x40u, 0x80u, 0x80000000u})
        refused(1024 + 96, value);  // incompatible features
    refused(1024 + 206, 0xffff, 2); // reserved descriptors
    const Patch clean = known.patch();
    for (const u32 field : {0u, 4u, 8u})
        for (const u32 value : {0u, 1u, 2u, kKib - 1 + (field != 8), ~0u, clean.get(2048 + (field + 4) % 12)})
            refused(2048 + field, value); // bitmaps and table of a group
    refused(2048 + 12, 0xffff, 2);        // free blocks
    refused(2048 + 14, 0xffff, 2);        // free inodes
    // 2^27 groups of 8 blocks: their descriptors have 2^32 bytes, which do not fit into a group.
    Patch small = clean;
    for (const auto& [field, value] : {std::pair{0u, 1u << 30}, {4u, 1u << 30}, {32u, 8u}, {36u, 8u}, {40u, 8u}})
        small.put(1024 + field, value);
    small.put(1024 + 206, 0, 2);
    sim::SimDisk disk{{.sectors = u64{1} << 31, .image = small.image()}};
    REQUIRE(disk.ready());
    CHECK(!ext2_mount(disk, false));
    CHECK(sim::machine().logged("damaged: descriptors in a group"));
}

TEST_CASE("ext2: trees of blocks with circles end", "[ext2][ext2-corrupt][ext2-circles]") {
    const Known known;
    // Each entry of the double indirect block leads to itself: without care a million blocks.
    Patch patch = known.patch();
    const u32 twice = patch.block(known.file, 13);
    for (u32 i = 0; i < 256; ++i)
        patch.put(u64{twice} * 1024 + i * 4, twice);
    patch.set_block(known.file, 14, twice); // and a triple one
    for (const bool whole : {true, false})
        with_patch(patch, [&](FileSystem& fs) {
            if (whole)
                CHECK(fs.unlink(*at(fs, ""), "file") == Errno{});
            else
                CHECK(fs.truncate(*at(fs, "file"), 13 * 1024) == Errno::uclean);
            (void)fs.sync();
            CHECK(fs.is_read_only());
        });
    // A directory that is in itself.
    Patch loop = known.patch();
    loop.put(known.entry("one"), known.folder);
    with_patch(loop, [](FileSystem& fs) {
        CHECK(lookup_error(fs, "folder/one/one/one/two") == Errno{});
        CHECK(fs.rmdir(*at(fs, "folder"), "one") == Errno::busy);
        CHECK(fs.rename(*at(fs, ""), "folder", *at(fs, "folder/one"), "x") == Errno::inval);
    });
    // Two directories, each the parent of the other one.
    Patch up = known.patch();
    up.put(u64{up.block(known.folder, 0)} * 1024 + 12, known.folder); // ".." of the folder
    with_patch(up, [](FileSystem& fs) {
        const Result<Inode*, Errno> made = fs.create(*at(fs, ""), "other", kModeDirectory | 0755);
        REQUIRE(made);
        FileSystem::release(*made);
        CHECK(fs.rename(*at(fs, ""), "other", *at(fs, "folder"), "x") == Errno::uclean);
    });
    // Bitmaps that say nothing is used, or everything.
    for (const u32 word : {0u, ~0u}) {
        Patch bitmaps = known.patch();
        for (u32 i = 0; i < 48 / 4; ++i)
            bitmaps.put(u64{bitmaps.get(2048)} * 1024 + i * 4, word);
        for (u32 i = 0; i < 8 / 4; ++i)
            bitmaps.put(u64{bitmaps.get(2052)} * 1024 + i * 4, word);
        with_patch(bitmaps, [](FileSystem& fs) {
            const Result<Inode*, Errno> made = fs.create(*at(fs, ""), "new", kModeFile);
            CHECK(!made);
            if (!made) CHECK(made.error() == Errno::uclean);
            const Result<u32, Errno> got = fs.write(*at(fs, "file"), 299'000, std::string(9000, 'x').data(), 9000);
            CHECK((!got || *got < 9000));
        });
    }
}
