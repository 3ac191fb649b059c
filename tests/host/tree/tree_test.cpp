// tmpfs, paths through links and mounts, and the archive of an initramfs.
#include "kernel/tree/cpio.hpp"
#include "kernel/tree/path.hpp"
#include "kernel/tree/tmpfs.hpp"
#include "mm/cache/swap_area.hpp"
#include "tests/host/disk_tools.hpp"
#include "tests/host/ext2/changes.hpp"

#include <cstdio>
#include <cstring>

using namespace loft;
using namespace loft::test;

namespace {

class Memory : NotCopyable<Memory> {
  public:
    explicit Memory(u32 pages = 4096) {
        const Result<FileSystem*, Errno> made = tmpfs_make(pages);
        REQUIRE(made);
        fs_ = *made;
    }
    ~Memory() {
        if (std::uncaught_exceptions() == 0) CHECK(tmpfs_destroy(fs_) == Errno{});
    }
    FileSystem& fs() { return *fs_; }

  private:
    FileSystem* fs_ = nullptr;
};

Ref made(const Result<Inode*, Errno>& result) {
    INFO("errno " << static_cast<int>(result ? Errno{} : result.error()));
    REQUIRE(result);
    return Ref{*result};
}
Ref add(FileSystem& fs, const std::string& folder, const std::string& name, u32 mode, const std::string& target = {}) {
    const Ref directory = at(fs, folder);
    return made(fs.create(*directory, name, mode, true, target));
}

// The number of what a path leads to; or its error, negative.
i64 walked(Tree& tree, const std::string& text, Path::Stop stop = Path::Stop::follow, Inode* current = nullptr) {
    Path path{tree, current};
    REQUIRE(path.text() != nullptr);
    std::memcpy(path.text(), text.c_str(), text.size() + 1);
    const Errno error = path.walk(stop);
    if (is_error(error)) return -static_cast<i64>(error);
    const Ref inode{path.take()};
    return inode->number() + (&inode->system() == tree.root() ? 0 : 1000);
}
i64 minus(Errno error) { return -static_cast<i64>(error); }

} // namespace

TEST_CASE("tmpfs: random changes are those of a model", "[tree][tmpfs]") {
    WithFiles kernel;
    { Memory warm; }
    ObjectCache::give_back_empty_slabs();
    const Books before = books();
    for (u32 seed = 1; seed <= 3; ++seed) {
        Memory memory;
        Changes changes{memory.fs(), seed, 300'000};
        for (u32 i = 0; i < 600; ++i)
            changes.step();
        CHECK(changes.refused == 0);
        CHECK(difference(memory.fs(), *changes.root) == "");
        CHECK(memory.fs().sync() == Errno{});
    }
    ObjectCache::give_back_empty_slabs();
    CHECK(books() == before);
}

TEST_CASE("tmpfs: its pages have a limit, and come back", "[tree][tmpfs]") {
    WithFiles kernel;
    Memory memory{10};
    FileSystem& fs = memory.fs();
    const std::string bytes(12 * kPageSize, 't');
    {
        const Ref file = add(fs, "", "file", kModeFile | 0600);
        const Result<u32, Errno> got = fs.write(*file, 0, bytes.data(), static_cast<u32>(bytes.size()));
        REQUIRE(got);
        CHECK(*got == 10 * kPageSize);
        CHECK(fs.write(*file, *got, bytes.data(), 1).error() == Errno::nospc);
        CHECK(file->bytes() == 10 * kPageSize);
        CHECK(fs.stat().free_blocks == 0);
        CHECK(fs.stat(*file).sectors == 80);
        REQUIRE(fs.truncate(*file, 5) == Errno{});
        CHECK(fs.stat().free_blocks == 9);
        REQUIRE(fs.truncate(*file, u64{1} << 40) == Errno{}); // a hole
        CHECK(fs.stat().free_blocks == 9);
        REQUIRE(fs.unlink(*at(fs, ""), "file") == Errno{});
        CHECK(fs.stat().free_blocks == 9); // it is in use
    }
    CHECK(fs.stat().free_blocks == 10);
    CHECK(fs.stat().inodes - fs.stat().free_inodes == 1);
}

// A page is charged once, wherever it is.
TEST_CASE("tmpfs: pages that are swapped out count for its limit", "[tree][tmpfs][swap-object]") {
    WithFiles kernel;
    sim::SimDisk disk{swap_disk(64)};
    REQUIRE(disk.ready());
    SwapArea* const area = *SwapArea::open(disk);
    const u32 slots = area->free_slots();
    const auto swap_out = [] {
        for (u32 call = 0; call < 20; ++call) {
            static_cast<void>(drop_pages(~0u));
            REQUIRE(write_back_all());
        }
    };
    {
        Memory memory{10};
        FileSystem& fs = memory.fs();
        const Ref file = add(fs, "", "file", kModeFile | 0600);
        const std::string bytes(12 * kPageSize, 't');
        for (const u64 size : {u64{5}, u64{3 * kPageSize}, u64{0}}) {
            const Result<u32, Errno> got = fs.write(*file, 0, bytes.data(), static_cast<u32>(bytes.size()));
            REQUIRE(got);
            CHECK(*got == 10 * kPageSize);
            swap_out();
            CHECK(slots - area->free_slots() == 10);
            CHECK(page_cache_stats().pages == 0);
            CHECK(fs.stat().free_blocks == 0);
            CHECK(fs.stat(*file).sectors == 80);
            u8 byte = 0;
            REQUIRE(file->read(7 * kPageSize, &byte, 1)); // one comes in: it has its charge
            CHECK(byte == 't');
            CHECK(slots - area->free_slots() == 9);
            CHECK(fs.stat().free_blocks == 0);
            REQUIRE(fs.truncate(*file, size) == Errno{});
            CHECK(fs.stat().free_blocks == 10 - (size + kPageSize - 1) / kPageSize);
            CHECK(page_cache_stats().pages == (size == 5 ? 1 : 0)); // that with the new end in it
        }
        const Result<u32, Errno> got = fs.write(*file, 0, bytes.data(), 2 * kPageSize);
        REQUIRE(got);
        swap_out();
        // A frame for a whole page: the page is there.
        MutexGuard guard{fs.writer_of(*file)};
        Page* const whole = alloc_page(Gfp::user);
        REQUIRE(whole != nullptr);
        memset_page(whole, 0, 7, kPageSize);
        const Result<FileSystem::Part, Errno> part = fs.begin_page(*file, kPageSize, kPageSize, whole);
        put_page(whole);
        REQUIRE(part);
        CHECK(part->page != whole);
        REQUIRE(fs.end_page(*file, *part, kPageSize, kPageSize) == Errno{});
        CHECK(fs.stat().free_blocks == 8);
        CHECK(slots - area->free_slots() == 1);
        // A frame that was something else before becomes a page, and goes out like all others.
        Page* const used = alloc_page(Gfp::user);
        REQUIRE(used != nullptr);
        memset_page(used, 0, 8, kPageSize);
        used->set_payload(7);
        const Result<FileSystem::Part, Errno> next = fs.begin_page(*file, 2 * kPageSize, kPageSize, used);
        put_page(used);
        REQUIRE(next);
        CHECK(next->page == used);
        REQUIRE(fs.end_page(*file, *next, 2 * kPageSize, kPageSize) == Errno{});
        swap_out();
        CHECK(slots - area->free_slots() == 3);
    }
    CHECK(area->free_slots() == slots); // with three pages out
    area->remove();
}

TEST_CASE("tmpfs: a frame that replaces a whole page becomes the page", "[tree][tmpfs]") {
    WithFiles kernel;
    Memory memory{2};
    FileSystem& fs = memory.fs();
    const Ref file = add(fs, "", "file", kModeFile);
    // Writes a page as open files do. True: the frame is the page now.
    const auto put = [&](u32 number) -> Result<bool, Errno> {
        MutexGuard guard{fs.writer_of(*file)};
        const u64 offset = u64{number} << kPageShift;
        Page* const whole = alloc_page(Gfp::user);
        REQUIRE(whole != nullptr);
        memset_page(whole, 0, 7, kPageSize);
        const Result<FileSystem::Part, Errno> part = fs.begin_page(*file, offset, kPageSize, whole);
        put_page(whole);
        if (!part) return part.error();
        const bool same = part->page == whole;
        REQUIRE(fs.end_page(*file, *part, offset, kPageSize) == Errno{});
        return same;
    };
    CHECK(put(0).value_or(false));
    CHECK(fs.stat().free_blocks == 1);
    CHECK(file->bytes() == kPageSize);
    u8 byte = 0;
    REQUIRE(file->read(kPageSize - 1, &byte, 1));
    CHECK(byte == 7);
    CHECK_FALSE(put(0).value_or(true)); // it is in memory
    CHECK(fs.stat().free_blocks == 1);
    CHECK(put(1).value_or(false));
    CHECK(fs.stat().free_blocks == 0);
    const Result<bool, Errno> full = put(2);
    REQUIRE_FALSE(full);
    CHECK(full.error() == Errno::nospc);
    CHECK(file->bytes() == 2 * kPageSize);
    REQUIRE(fs.truncate(*file, 0) == Errno{});
    CHECK(fs.stat().free_blocks == 2);
}

TEST_CASE("tmpfs: a list goes on where it was, whatever is removed", "[tree][tmpfs]") {
    WithFiles kernel;
    Memory memory;
    FileSystem& fs = memory.fs();
    for (u32 i = 0; i < 250; ++i)
        (void)add(fs, "", "n" + std::to_string(i), kModeFile);
    struct Remover final : ListVisitor {
        bool entry(const DirectoryEntry& entry) override {
            if (names.size() == limit) return false;
            names.emplace_back(entry.name);
            return true;
        }
        std::vector<std::string> names;
        u32 limit = 0;
    } all;
    const Ref root = at(fs, "");
    u64 position = 0;
    do {
        all.limit += 10;
        REQUIRE(fs.list(*root, position, all) == Errno{});
        for (std::size_t i = all.limit - 10; i < all.names.size(); ++i)
            if (all.names[i][0] == 'n') REQUIRE(fs.unlink(*root, all.names[i]) == Errno{});
    } while (all.names.size() == all.limit);
    CHECK(all.names.size() == 252);
    CHECK(names_in(fs, *root).size() == 2);
}

TEST_CASE("path: names, dots, slashes and links", "[tree][path]") {
    WithFiles kernel;
    Memory memory;
    FileSystem& fs = memory.fs();
    Tree tree;
    tree.set_root(fs);
    const Ref a = add(fs, "", "a", kModeDirectory), b = add(fs, "a", "b", kModeDirectory),
              file = add(fs, "a/b", "file", kModeFile);
    (void)add(fs, "", "to b", kModeLink, "a/b");
    (void)add(fs, "a", "up", kModeLink, "../a/b/file");
    (void)add(fs, "a/b", "absolute", kModeLink, "/a/b");
    (void)add(fs, "", "loop", kModeLink, "loop");
    (void)add(fs, "", "nowhere", kModeLink, "a/missing");
    (void)add(fs, "", "slash", kModeLink, "a/b/");
    CHECK(walked(tree, "/") == 1);
    CHECK(walked(tree, "") == minus(Errno::noent));
    CHECK(walked(tree, "a/b/file") == file->number());
    CHECK(walked(tree, "//a///b//.//file") == file->number());
    CHECK(walked(tree, "/a/b/../../a/./b") == b->number());
    CHECK(walked(tree, "/../../a") == a->number());
    CHECK(walked(tree, "a/b/") == b->number());
    CHECK(walked(tree, "a/b/file/") == minus(Errno::notdir));
    CHECK(walked(tree, "a/b/file/..") == minus(Errno::notdir));
    CHECK(walked(tree, "a/b/file/x") == minus(Errno::notdir));
    CHECK(walked(tree, "a/missing/x") == minus(Errno::noent));
    CHECK(walked(tree, "to b/file") == file->number());
    CHECK(walked(tree, "to b") == b->number());
    CHECK(walked(tree, "to b/..") == a->number());
    CHECK(walked(tree, "to b/") == b->number());
    CHECK(walked(tree, "slash") == b->number());
    CHECK(walked(tree, "slash/file") == file->number());
    CHECK(walked(tree, "a/up") == file->number());
    CHECK(walked(tree, "a/b/absolute/absolute/absolute/file") == file->number());
    CHECK(walked(tree, "loop") == minus(Errno::loop));
    CHECK(walked(tree, "loop/x") == minus(Errno::loop));
    CHECK(walked(tree, "nowhere") == minus(Errno::noent));
    CHECK(walked(tree, "nowhere", Path::Stop::node) > 0);
    CHECK(walked(tree, "to b", Path::Stop::node) != b->number());
    CHECK(walked(tree, "to b/", Path::Stop::node) == b->number());
    CHECK(walked(tree, "file", Path::Stop::follow, b.get()) == file->number());
    CHECK(walked(tree, "..", Path::Stop::follow, b.get()) == a->number());
    CHECK(walked(tree, "/a", Path::Stop::follow, b.get()) == a->number());
    CHECK(walked(tree, "x", Path::Stop::follow, file.get()) == minus(Errno::notdir));
    CHECK(walked(tree, std::string(256, 'x')) == minus(Errno::nametoolong));
    // A target with a zero byte, as an archive or a damaged disk may have, ends there.
    const Ref zero = add(fs, "", "zero", kModeLink, std::string{"a/b\0/file", 9});
    (void)add(fs, "", "none", kModeLink, std::string{"\0a/b", 4});
    CHECK(walked(tree, "zero") == b->number());
    CHECK(walked(tree, "zero/") == b->number());
    CHECK(walked(tree, "zero/file") == file->number());
    CHECK(walked(tree, "none") == minus(Errno::noent));
    CHECK(walked(tree, "none/file") == minus(Errno::noent));
    char target[16];
    const Result<u32, Errno> length = fs.read_link(*zero, target, sizeof target);
    REQUIRE(length);
    CHECK(*length == 3);
    // A long chain of links, and one that is too long.
    for (u32 i = 0; i < 50; ++i)
        (void)add(fs, "", "chain" + std::to_string(i), kModeLink, i == 0 ? "a" : "chain" + std::to_string(i - 1));
    CHECK(walked(tree, "chain39") == a->number());
    CHECK(walked(tree, "chain40") == minus(Errno::loop));
    // A target and what follows it need not fit.
    (void)add(fs, "", "long", kModeLink, std::string(2000, '/') + "a/" + std::string(2000, '/'));
    CHECK(walked(tree, "long") == a->number());
    CHECK(walked(tree, "long/b") == b->number());
    CHECK(walked(tree, "long/" + std::string(120, '/') + "b/" + std::string(100, '.')) == minus(Errno::nametoolong));
}

TEST_CASE("path: the last name is left for those who create and remove", "[tree][path]") {
    WithFiles kernel;
    Memory memory;
    FileSystem& fs = memory.fs();
    Tree tree;
    tree.set_root(fs);
    const Ref a = add(fs, "", "a", kModeDirectory);
    (void)add(fs, "", "new", kModeLink, "a/made");
    const auto parent = [&](const std::string& text, std::string& name,
                            Path::LastDot dot = Path::LastDot::none) -> i64 {
        Path path{tree, nullptr};
        std::memcpy(path.text(), text.c_str(), text.size() + 1);
        const Errno error = path.walk(Path::Stop::parent);
        if (is_error(error)) return minus(error);
        name = std::string{path.name()};
        CHECK(path.last_dot() == dot);
        return path.directory().number();
    };
    std::string name;
    CHECK(parent("a/x", name) == a->number());
    CHECK(name == "x");
    CHECK(parent("a/x//", name) == a->number());
    CHECK(name == "x");
    CHECK(parent("a/.", name, Path::LastDot::dot) == a->number());
    CHECK(name == "");
    CHECK(parent("a/..", name, Path::LastDot::dots) == 1);
    CHECK(parent("/", name) == 1);
    CHECK(name == "");
    CHECK(parent("b/x", name) == minus(Errno::noent));
    // O_CREAT through a link to nothing.
    Path path{tree, nullptr};
    std::strcpy(path.text(), "new");
    REQUIRE(path.walk(Path::Stop::parent) == Errno{});
    REQUIRE(path.go_on(Path::Stop::follow) == Errno::noent);
    CHECK(path.directory().number() == a->number());
    CHECK(path.name() == "made");
    // Through one whose directory is missing, too: no name is left.
    (void)add(fs, "", "far", kModeLink, "missing/made");
    Path far{tree, nullptr};
    std::strcpy(far.text(), "far");
    REQUIRE(far.walk(Path::Stop::parent) == Errno{});
    REQUIRE(far.go_on(Path::Stop::follow) == Errno::noent);
    CHECK(far.name().empty());
}

TEST_CASE("path: the path of a directory", "[tree][path]") {
    WithFiles kernel;
    Memory below, above;
    Tree tree;
    tree.set_root(below.fs());
    const auto path_of = [&](Inode& directory, u32 room = kMostPath) -> std::string {
        std::vector<char> text(room);
        const Result<u32, Errno> begin = tree.path_of(directory, text);
        if (!begin) return "errno " + std::to_string(static_cast<int>(begin.error()));
        return text.data() + *begin;
    };
    const Ref a = add(below.fs(), "", "a", kModeDirectory), b = add(below.fs(), "a", "bcd", kModeDirectory);
    const Ref top = at(above.fs(), ""), sub = add(above.fs(), "", "sub", kModeDirectory),
              gone = add(above.fs(), "sub", "gone", kModeDirectory);
    REQUIRE(tree.mount(*b, above.fs()) == Errno{});
    CHECK(path_of(*at(below.fs(), "")) == "/");
    CHECK(path_of(*a) == "/a");
    CHECK(path_of(*b) == "/a/bcd");
    CHECK(path_of(*top) == "/a/bcd");
    CHECK(path_of(*sub) == "/a/bcd/sub");
    CHECK(path_of(*sub, 11) == "/a/bcd/sub");
    CHECK(path_of(*sub, 10) == "errno 34");
    CHECK(path_of(*at(below.fs(), ""), 2) == "/");
    CHECK(path_of(*at(below.fs(), ""), 1) == "errno 34");
    REQUIRE(above.fs().rename(*sub, "gone", *top, "new") == Errno{});
    CHECK(path_of(*gone) == "/a/bcd/new");
    REQUIRE(above.fs().rmdir(*top, "new") == Errno{});
    CHECK(path_of(*gone) == "errno 2");
    REQUIRE(tree.unmount(above.fs()) == Errno{});
}

TEST_CASE("path: the way back from a directory that was removed", "[tree][path][path-removed]") {
    WithFiles kernel;
    Mounted disk{make_image("-b 1024", 1024), 2048};
    Memory memory;
    for (FileSystem* const fs : {&memory.fs(), &disk.fs()}) {
        Tree tree;
        tree.set_root(*fs);
        const u32 before = fs->stat().free_inodes;
        {
            const Ref root = at(*fs, ""), a = add(*fs, "", "a", kModeDirectory),
                      other = add(*fs, "", "other", kModeDirectory);
            Ref b = add(*fs, "a", "b", kModeDirectory), c = add(*fs, "a/b", "c", kModeDirectory);
            const Ref file = add(*fs, "a", "file", kModeFile);
            const u32 number = b->number();
            REQUIRE(fs->rmdir(*b, "c") == Errno{});
            CHECK(walked(tree, "../../file", Path::Stop::follow, c.get()) == file->number());
            REQUIRE(fs->rmdir(*a, "b") == Errno{});
            b.reset();
            CHECK(walked(tree, "..", Path::Stop::follow, c.get()) == number);
            CHECK(walked(tree, "../../file", Path::Stop::follow, c.get()) == file->number());
            CHECK(walked(tree, "../c", Path::Stop::follow, c.get()) == minus(Errno::noent));
            char text[100];
            CHECK(tree.path_of(*c, text).error() == Errno::noent);
            // One that is replaced keeps its parent, too.
            (void)add(*fs, "a", "new", kModeDirectory);
            REQUIRE(fs->rename(*a, "new", *root, "other") == Errno{});
            CHECK(walked(tree, "..", Path::Stop::follow, other.get()) == root->number());
            REQUIRE(fs->rmdir(*root, "other") == Errno{});
            REQUIRE(fs->unlink(*a, "file") == Errno{});
            REQUIRE(fs->rmdir(*root, "a") == Errno{});
            const u32 now = fs->stat().free_inodes;
            c.reset();
            if (fs == &memory.fs()) CHECK(fs->stat().free_inodes == now + 2); // with b; ext2 frees them later
        }
        REQUIRE(fs->sync() == Errno{});
        CHECK(fs->stat().free_inodes == before);
    }
    REQUIRE(disk.unmount() == Errno{});
    check_clean(disk.disk.image(), 2048);
}

TEST_CASE("path: a tree without a root, and a path that begins elsewhere", "[tree][path]") {
    WithFiles kernel;
    Memory memory;
    Tree tree;
    CHECK(walked(tree, "/") == minus(Errno::noent));
    tree.set_root(memory.fs());
    const Ref a = add(memory.fs(), "", "a", kModeDirectory), file = add(memory.fs(), "a", "file", kModeFile);
    for (const char* const text : {"file", "/a/file"}) {
        Path path{tree, nullptr};
        std::strcpy(path.text(), text);
        path.begin_at(*a);
        REQUIRE(path.walk(Path::Stop::node) == Errno{});
        const Ref found{path.take()};
        CHECK(found.get() == file.get());
    }
}

TEST_CASE("path: mounts", "[tree][path]") {
    WithFiles kernel;
    Memory below, above;
    Tree tree;
    tree.set_root(below.fs());
    const Ref mnt = add(below.fs(), "", "mnt", kModeDirectory), inner = add(below.fs(), "mnt", "covered", kModeFile);
    const Ref file = add(above.fs(), "", "file", kModeFile), sub = add(above.fs(), "", "sub", kModeDirectory);
    CHECK(walked(tree, "mnt/covered") == inner->number());
    CHECK(tree.mount(*inner, above.fs()) == Errno::notdir);
    CHECK(tree.mount(*at(below.fs(), ""), above.fs()) == Errno::busy);
    REQUIRE(tree.mount(*mnt, above.fs()) == Errno{});
    CHECK(tree.mount(*sub, below.fs()) == Errno::busy);
    CHECK(tree.mount(*mnt, above.fs()) == Errno::busy);
    Memory third;
    CHECK(tree.mount(*mnt, third.fs()) == Errno::busy);
    const Ref second = add(below.fs(), "", "second", kModeDirectory);
    REQUIRE(tree.mount(*second, third.fs()) == Errno{}); // beside the first one
    CHECK(walked(tree, "mnt/sub/../../second/..") == 1);
    CHECK(below.fs().rmdir(*at(below.fs(), ""), "second") == Errno::busy);
    CHECK(below.fs().rmdir(*at(below.fs(), ""), "mnt") == Errno::busy);
    REQUIRE(tree.unmount(third.fs()) == Errno{});
    CHECK(walked(tree, "mnt") == 1001);
    CHECK(walked(tree, "mnt/file") == 1000 + file->number());
    CHECK(walked(tree, "mnt/covered") == minus(Errno::noent));
    CHECK(walked(tree, "mnt/sub/..") == 1001);
    CHECK(walked(tree, "mnt/sub/../..") == 1);
    CHECK(walked(tree, "mnt/sub/../../mnt/file") == 1000 + file->number());
    CHECK(walked(tree, "..", Path::Stop::follow, sub.get()) == 1001);
    CHECK(below.fs().rename(*at(below.fs(), ""), "mnt", *at(below.fs(), ""), "other") == Errno::busy);
    REQUIRE(below.fs().unlink(*mnt, "covered") == Errno{});
    CHECK(below.fs().rmdir(*at(below.fs(), ""), "mnt") == Errno::busy);
    CHECK(below.fs().rename(*at(below.fs(), ""), "mnt", *at(above.fs(), ""), "x") == Errno::xdev);
    CHECK(tree.sync() == Errno{});
    REQUIRE(tree.unmount(above.fs()) == Errno{});
    CHECK(tree.unmount(above.fs()) == Errno::inval);
    CHECK(walked(tree, "mnt") == mnt->number());
    REQUIRE(below.fs().rmdir(*at(below.fs(), ""), "mnt") == Errno{});
}

namespace {

// An archive in the kernel's memory.
class Archive final : public MemoryObject {
  public:
    explicit Archive(std::string bytes) : MemoryObject{bytes.size()}, bytes_{std::move(bytes)} {}
    ~Archive() { put(); }

  private:
    Status fill(u32 first, std::span<Page* const> frames) override {
        for (u32 i = 0; i < frames.size(); ++i) {
            std::string page = bytes_.substr((first + i) * kPageSize, kPageSize);
            page.resize(kPageSize);
            memcpy_to_page(frames[i], 0, page.data(), kPageSize);
        }
        return {};
    }
    void destroy() override {}
    std::string bytes_;
};

struct Cpio {
    std::string bytes;
    void add(const std::string& name, u32 mode, const std::string& data = {}, u32 inode = 1, u32 links = 1) {
        char head[111];
        std::snprintf(head, sizeof head, "070701%08X%08X%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x", inode, mode,
                      0u, 0u, links, 5u, data.size(), 3u, 4u, 0u, 0u, name.size() + 1, 0u);
        bytes += head + name + '\0';
        pad();
        bytes += data;
        pad();
    }
    void end() { add("TRAILER!!!", 0); }
    void pad() { bytes.resize((bytes.size() + 3) & ~std::size_t{3}); }
};

Errno unpacked(const std::string& bytes, FileSystem& into, Unpacked& result) {
    Archive archive{bytes};
    return unpack_cpio(archive, into, result);
}

} // namespace

TEST_CASE("cpio: an archive is unpacked", "[tree][cpio]") {
    WithFiles kernel;
    Memory memory;
    const std::string large(30'001, 'l');
    Cpio cpio;
    cpio.add(".", kModeDirectory | 0755);
    cpio.add("bin", kModeDirectory | 0755);
    cpio.add("bin/large", kModeFile | 0755, large);
    cpio.add("./bin/empty", kModeFile | 0644);
    cpio.add("/etc", kModeDirectory);
    cpio.add("etc/link", kModeLink | 0777, "../bin/large");
    cpio.add("etc/null", 0020666);
    cpio.add("etc/one", kModeFile, "", 77, 2);
    cpio.add("etc/two", kModeFile, "both", 77, 2);
    cpio.end();
    cpio.bytes.resize(cpio.bytes.size() + 1000);
    const std::size_t first = cpio.bytes.size();
    cpio.add("bin", kModeDirectory | 0755); // a second archive, with a directory that is there
    cpio.add("bin/more", kModeFile, "more");
    cpio.end();
    cpio.bytes.resize(cpio.bytes.size() + 512);
    Unpacked result;
    CHECK(unpacked(cpio.bytes, memory.fs(), result) == Errno{});
    CHECK(result.bytes == cpio.bytes.size());
    CHECK(result.bytes > first);
    CHECK(result.entries == 9);
    CHECK(result.skipped == 1);
    const NodeTree expected = new_node(InodeKind::directory), bin = new_node(InodeKind::directory),
                   etc = new_node(InodeKind::directory);
    expected->names = {{"bin", bin}, {"etc", etc}};
    bin->names = {{"large", new_node(InodeKind::file, large)},
                  {"empty", new_node(InodeKind::file)},
                  {"more", new_node(InodeKind::file, "more")}};
    const NodeTree both = new_node(InodeKind::file, "both");
    etc->names = {{"link", new_node(InodeKind::link, "../bin/large")}, {"one", both}, {"two", both}};
    CHECK(difference(memory.fs(), *expected) == "");
    CHECK(at(memory.fs(), "etc/one").get() == at(memory.fs(), "etc/two").get());
    CHECK(memory.fs().stat(*at(memory.fs(), "bin/large")).mode == (kModeFile | 0755));
}

TEST_CASE("cpio: what is no archive is refused", "[tree][cpio]") {
    WithFiles kernel;
    const auto error_of = [](const std::string& bytes) {
        Memory memory;
        Unpacked result;
        return unpacked(bytes, memory.fs(), result);
    };
    Cpio cpio;
    CHECK(error_of(std::string(500, '\0')) == Errno::inval);
    CHECK(error_of("070701") == Errno::inval);
    cpio.add("a", kModeFile, "data");
    CHECK(error_of(cpio.bytes) == Errno::inval); // no end
    cpio.add("../b", kModeFile);
    CHECK(error_of(cpio.bytes) == Errno::inval);
    Cpio missing;
    missing.add("no/such", kModeFile);
    CHECK(error_of(missing.bytes) == Errno::noent);
    Cpio twice;
    twice.add("a", kModeFile);
    twice.add("a", kModeFile);
    CHECK(error_of(twice.bytes) == Errno::exist);
    twice = {};
    twice.add("a", kModeFile);
    twice.add("a", kModeDirectory);
    CHECK(error_of(twice.bytes) == Errno::exist);
    Cpio empty_link;
    empty_link.add("l", kModeLink);
    CHECK(error_of(empty_link.bytes) == Errno::inval);
}

TEST_CASE("cpio: damaged archives give errors", "[tree][cpio]") {
    WithFiles kernel;
    Cpio cpio;
    cpio.add("bin", kModeDirectory | 0755);
    cpio.add("bin/file", kModeFile | 0755, std::string(5000, 'f'));
    cpio.add("link", kModeLink | 0777, "bin/file");
    cpio.add("one", kModeFile, "", 77, 2);
    cpio.add("two", kModeFile, "both", 77, 2);
    cpio.end();
    { Memory warm; }
    ObjectCache::give_back_empty_slabs();
    Books before{};
    u32 failed = 0;
    Random random{3};
    for (u32 i = 0; i < 2000; ++i) {
        std::string bytes = cpio.bytes;
        if (below(random, 3) == 0) bytes.resize(below(random, static_cast<u32>(bytes.size())));
        for (u32 changes = 1 + below(random, 3); changes != 0 && !bytes.empty(); --changes) {
            const u32 where = below(random, static_cast<u32>(bytes.size()));
            bytes[where] =
                static_cast<char>(below(random, 2) != 0 ? "0123456789abcdefF/.x"[below(random, 20)] : random());
        }
        {
            Memory memory;
            Unpacked result;
            failed += is_error(unpacked(bytes, memory.fs(), result));
            CHECK(result.bytes <= bytes.size());
        }
        ObjectCache::give_back_empty_slabs();
        if (i < 20)
            before = books();
        else
            REQUIRE(books() == before);
    }
    CHECK(failed > 500);
    CHECK(failed < 1990);
}
