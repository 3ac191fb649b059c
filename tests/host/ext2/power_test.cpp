// ext2: power cuts. After each, e2fsck repairs what the disk has, and no file that was synchronised is lost.
//
// The disk's write cache is not written back before a flush: after a cut it has any sectors of what was written later
// (tests/sim/disk.hpp). Cuts come between changes, and inside of them before a transfer starts.
#include "kernel/ext2/inode.hpp"
#include "tests/host/ext2/changes.hpp"
#include "tests/host/slow.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>

using namespace loft;
using namespace loft::test;

namespace {

// A file that was synchronised: one of its names since then must be there, with these contents, unless it was written
// to.
struct Promise {
    NodeTree node;
    std::set<std::string> paths;
    std::optional<std::string> bytes;
};

void paths_of(const NodeTree& tree, const std::string& path, const NodeTree& wanted, std::set<std::string>& out) {
    for (const auto& [name, node] : tree->names) {
        if (node == wanted) out.insert(path + "/" + name);
        paths_of(node, path + "/" + name, wanted, out);
    }
}

// What the model says of the promises after a change.
void follow(std::vector<Promise>& promises, const NodeTree& root) {
    std::erase_if(promises, [&](Promise& promise) {
        std::set<std::string> now;
        paths_of(root, "", promise.node, now);
        promise.paths.insert(now.begin(), now.end());
        if (promise.bytes && *promise.bytes != promise.node->bytes) promise.bytes.reset();
        return now.empty();
    });
}

struct Cut {
    sim::DiskImage image;
    std::string where;
};

// All paths that a tree has.
void add_paths(const NodeTree& tree, const std::string& path, std::set<std::string>& out) {
    for (const auto& [name, node] : tree->names) {
        out.insert(path + "/" + name);
        add_paths(node, path + "/" + name, out);
    }
}

// `ever`: the paths that were there at some time; no other one may come up. `once`: what a file that was removed, but
// maybe not durably, has had: it may be there again, but not with the data of another file.
void check_cut(const Cut& cut, u64 sectors, const std::vector<Promise>& promises, const std::set<std::string>& ever,
               const std::map<std::string, std::string>& once = {}) {
    static u32 calls = 0;
    if (kSlow && ++calls % 5 != 0) return; // the kinds of cuts alternate by twos, threes and fours
    namespace host = std::filesystem;
    const Folder folder;
    const std::string file = folder / "image", files = folder / "files";
    save(file, cut.image, sectors);
    const Ran repaired = run_tool("e2fsck -fy " + file);
    INFO(cut.where << "\n" << repaired.text);
    CHECK(repaired.status <= 1);
    CHECK(repaired.text.find("ultiply-claimed") == std::string::npos); // no block belongs to two files
    CHECK(run_tool("e2fsck -fn " + file).status == 0);
    host::create_directory(files);
    REQUIRE(run_tool("debugfs -R 'rdump / " + files + "' " + file).status == 0);
    const auto contents_of = [&](const std::string& path) -> std::optional<std::string> {
        std::ifstream in{files + path, std::ios::binary};
        if (!in.is_open()) return {};
        return std::string{std::istreambuf_iterator<char>{in}, {}};
    };
    std::string strange;
    for (const auto& one : host::recursive_directory_iterator{files}) {
        const std::string path = one.path().string().substr(files.size());
        if (!path.starts_with("/lost+found") && !ever.contains(path)) strange += path + "\n";
    }
    CHECK(strange == "");
    for (const Promise& promise : promises) {
        bool kept = false;
        std::string all;
        for (const std::string& path : promise.paths) {
            const std::optional<std::string> got = contents_of(path);
            all += path + (got ? " is there\n" : " is not there\n");
            kept = kept || (got && (!promise.bytes || *got == *promise.bytes));
        }
        INFO(all);
        CHECK(kept);
        if (!kept && std::getenv("LOFT_KEEP") != nullptr) save(std::getenv("LOFT_KEEP"), cut.image, sectors);
    }
    for (const auto& [path, bytes] : once)
        if (const std::optional<std::string> got = contents_of(path); got) CHECK((*got == bytes));
}

// One file system from its mount on: changes, synchronised files, cuts.
u32 cut_power(u32 block, u32 seed, u32 steps) {
    constexpr u32 kKib = 2048, kSectors = kKib * 2;
    const sim::DiskImage image =
        make_image("-N 256 -b " + std::to_string(block) + (seed % 2 != 0 ? " -g 512" : ""), kKib);
    WithFiles kernel;
    Mounted ext2{image, kSectors};
    Changes changes{ext2.fs(), seed, 90'000};
    Random random{seed};
    std::vector<Promise> promises;
    std::set<std::string> ever;
    std::optional<Cut> cut;
    u32 cuts = 0, countdown = 0;
    const auto take = [&](const std::string& where) {
        const u64 kind = below(random, 8) < 2 ? below(random, 2) : random();
        cut = Cut{ext2.disk.after_power_cut(kind),
                  sim::text("block {}, seed {}, {}, {}; kind {:x}, {} sectors are not durable", block, seed,
                            changes.done, where, kind, ext2.disk.unsure())};
    };
    const sim::ScopedHook hook{[&](sim::Point point) {
        if (point == sim::Point::io && countdown != 0 && --countdown == 0) take("inside");
    }};
    const auto judge = [&] {
        if (!cut) return;
        const Cut now = *std::exchange(cut, {});
        ++cuts;
        check_cut(now, kSectors, promises, ever);
    };
    for (u32 i = 0; i < steps; ++i) {
        const u32 what = below(random, 10);
        countdown = below(random, 8) == 0 ? 1 + below(random, 12) : 0;
        if (what < 7) {
            changes.step();
            follow(promises, changes.root);
            add_paths(changes.root, "", ever);
            judge();
        } else if (what == 7) { // what the thread of the kernel does: it writes, but does not flush
            (void)write_back_all();
            judge();
            if (below(random, 3) == 0) {
                take("after pages were written");
                judge();
            }
        } else {
            Changes::Place here;
            std::string name;
            const NodeTree node = changes.file(here, name);
            if (node == nullptr) continue;
            REQUIRE(at(ext2.fs(), here.path + "/" + name)->sync());
            judge(); // it was not promised yet
            std::erase_if(promises, [&](const Promise& promise) { return promise.node == node; });
            promises.push_back({node, {}, node->bytes});
            paths_of(changes.root, "", node, promises.back().paths);
            // Synchronised is every name of it, but this one at least.
            if (below(random, 3) == 0) {
                take("after a sync");
                judge();
            }
        }
        countdown = 0;
    }
    return cuts;
}

// The names of a directory's block as e2fsck reads it, empty entries too; nullopt: it would give up a part of the
// block.
std::optional<std::set<std::string>> names_of_block(const u8* block, u32 bytes) {
    std::set<std::string> names;
    for (u32 at = 0; at < bytes;) {
        if (bytes - at < 12) return {};
        u32 inode = 0;
        std::memcpy(&inode, block + at, 4);
        const u32 size = block[at + 4] | u32{block[at + 5]} << 8, name = block[at + 6];
        if (size < 12 || size % 4 != 0 || size > bytes - at || name + 8 > size) return {};
        if (inode != 0 && name == 0) return {};
        if (inode != 0) names.emplace(reinterpret_cast<const char*>(block) + at + 8, name);
        at += size;
    }
    return names;
}

// A small file system, and what is promised of it.
struct Scene {
    static constexpr u32 kKib = 1024, kSectors = kKib * 2;

    explicit Scene(const std::string& options, const std::string& from = "")
        : ext2{make_image(options, kKib, from), kSectors} {}

    Ref make(const std::string& folder, const std::string& name, const std::string& bytes = {}) {
        const Result<Inode*, Errno> made = fs.create(*at(fs, folder), name, kModeFile | 0644);
        REQUIRE(made);
        Ref file{*made};
        if (!bytes.empty()) REQUIRE(fs.write(*file, 0, bytes.data(), static_cast<u32>(bytes.size())));
        ever.insert((folder.empty() ? "" : "/" + folder) + "/" + name);
        return file;
    }
    void make_folder(const std::string& name) {
        const Result<Inode*, Errno> made = fs.create(*at(fs, ""), name, kModeDirectory | 0755);
        REQUIRE(made);
        FileSystem::release(*made);
        ever.insert("/" + name);
    }
    void promise(const Ref& file, const std::string& path, const std::string& bytes) {
        REQUIRE(file->sync());
        promises.push_back({nullptr, {path}, bytes});
    }
    void cut(u32 times) {
        for (u32 seed = 0; seed < times; ++seed)
            check_cut({ext2.disk.after_power_cut(seed), "seed " + std::to_string(seed)}, kSectors, promises, ever,
                      once);
    }

    WithFiles kernel;
    Mounted ext2;
    FileSystem& fs = ext2.fs();
    std::vector<Promise> promises;
    std::set<std::string> ever;
    std::map<std::string, std::string> once;
};

} // namespace

TEST_CASE("ext2: a power cut loses no synchronised file", "[ext2][ext2-power][ext2-power-random]") {
    const u32 block = GENERATE(1024u, 4096u);
    const char* const more = std::getenv("LOFT_POWER_SEEDS"); // for long runs
    const u32 seeds = more != nullptr ? static_cast<u32>(std::atoi(more)) : 3;
    u32 cuts = 0;
    for (u32 seed = 1; seed <= seeds; ++seed)
        cuts += cut_power(block, seed, 200);
    WARN(cuts << " cuts");
    CHECK(cuts > seeds * 10);
}

TEST_CASE("ext2: after a power cut a file has its old name or its new one", "[ext2][ext2-power][ext2-power-rename]") {
    Scene s{"-b 1024"};
    s.make_folder("old");
    s.make_folder("new");
    const std::string bytes(3000, 'r');
    s.promise(s.make("old", "file", bytes), "/old/file", bytes);
    s.make_folder("later"); // not synchronised
    const bool unsure = GENERATE(false, true);
    const std::string folder = unsure ? "later" : "new";
    REQUIRE(s.fs.rename(*at(s.fs, "old"), "file", *at(s.fs, folder), "name") == Errno{});
    s.ever.insert("/" + folder + "/name");
    s.promises[0].paths.insert("/" + folder + "/name");
    s.cut(2);
    REQUIRE(write_back_all()); // both directories, without a flush
    s.cut(10);
}

TEST_CASE("ext2: a file that replaces another one has all of its data after a power cut", "[ext2][ext2-power]") {
    Scene s{"-b 1024"};
    const std::string old_bytes(3000, 'o'), new_bytes(5000, 'n');
    REQUIRE(s.make("", "name", old_bytes)->sync());
    REQUIRE(s.make("", "new", new_bytes)->sync());
    s.promises.push_back({nullptr, {"/name", "/new"}, new_bytes});
    REQUIRE(s.fs.rename(*at(s.fs, ""), "new", *at(s.fs, ""), "name") == Errno{});
    s.cut(2);
    REQUIRE(write_back_all());
    const Ref third = s.make("", "third", std::string(20'000, 't')); // may want the blocks of the old one
    REQUIRE(write_back_all());
    s.cut(10);
}

TEST_CASE("ext2: a file that was never synchronised replaces one that was", "[ext2][ext2-power][ext2-power-replace]") {
    Scene s{"-b 1024"};
    s.promise(s.make("", "name", std::string(3000, 'o')), "/name", "");
    s.promises[0].bytes.reset(); // one of the two files
    (void)s.make("", "new", std::string(3000, 'n'));
    std::vector<sim::DiskImage> cuts;
    {
        const sim::ScopedHook hook{[&](sim::Point point) {
            if (point == sim::Point::io)
                for (u64 kind = 0; kind < 6; ++kind)
                    cuts.push_back(s.ext2.disk.after_power_cut(kind));
        }};
        REQUIRE(s.fs.rename(*at(s.fs, ""), "new", *at(s.fs, ""), "name") == Errno{});
    }
    CHECK(cuts.size() > 30);
    for (const sim::DiskImage& image : cuts)
        check_cut({image, "inside"}, Scene::kSectors, s.promises, s.ever);
    s.cut(2);
}

TEST_CASE("ext2: after a flush that has failed nothing is used again", "[ext2][ext2-power][ext2-power-flush]") {
    Scene s{"-b 1024 -I 1024 -N 32"}; // each inode has its own block
    s.make_folder("folder");
    const std::string bytes(600'000, 'a'), others(600'000, 'b'); // one of them fits
    REQUIRE(s.make("folder", "first", bytes)->sync());
    REQUIRE(s.fs.sync() == Errno{});
    s.once = {{"/folder/first", bytes}};
    REQUIRE(s.fs.unlink(*at(s.fs, "folder"), "first") == Errno{});
    s.ext2.disk.fail_flush(); // the folder has its name again
    CHECK(s.fs.sync() == Errno::io);
    CHECK(is_error(s.fs.sync()));
    CHECK(at(s.fs, "folder")->sync().error() == Error::corrupt);
    if (const Result<Inode*, Errno> made = s.fs.create(*at(s.fs, ""), "second", kModeFile); made) {
        const Ref second{*made};
        s.ever.insert("/second");
        (void)s.fs.write(*second, 0, others.data(), static_cast<u32>(others.size()));
    }
    (void)s.fs.sync();
    CHECK(s.fs.is_read_only());
    s.cut(2);
    (void)s.ext2.unmount();
    CHECK((s.ext2.disk.image().at(2)[58] & 1) == 0); // not clean
}

TEST_CASE("ext2: blocks and inodes of a removed file are not used before that is durable",
          "[ext2][ext2-power][ext2-power-reuse]") {
    const bool truncated = GENERATE(false, true);
    Scene s{"-b 1024 -N 32"};
    const std::string bytes(600'000, 'a'), others(600'000, 'b'); // one of them fits
    Ref file = s.make("", "first", bytes);
    REQUIRE(s.make("", "small", "small")->sync());
    REQUIRE(s.fs.sync() == Errno{}); // now the list of dirty objects has none of them
    s.once = {{"/first", bytes}, {"/small", "small"}};
    if (truncated) {
        REQUIRE(s.fs.truncate(*file, 0) == Errno{});
        s.once.erase("/first"); // it may be empty
    } else {
        file.reset();
        REQUIRE(s.fs.unlink(*at(s.fs, ""), "first") == Errno{});
    }
    REQUIRE(s.fs.unlink(*at(s.fs, ""), "small") == Errno{});
    const Ref second = s.make("", "second", std::string(100'000, 'b'));
    for (u32 i = 0; i < 10; ++i)
        (void)s.make("", "other" + std::to_string(i), "other");
    REQUIRE(second->write_back()); // data first, then everything
    s.cut(6);
    REQUIRE(write_back_all());
    s.cut(8);
    REQUIRE(s.fs.write(*second, 0, others.data(), static_cast<u32>(others.size())));
    REQUIRE(write_back_all());
    s.cut(6);
}

TEST_CASE("ext2: a power cut before any transfer of a day's work", "[ext2][ext2-power][ext2-power-each]") {
    const u32 block = GENERATE(1024u, 4096u);
    Scene s{"-N 64 -b " + std::to_string(block)};
    struct Moment {
        sim::DiskImage image;
        std::vector<Promise> promises;
        std::set<std::string> ever;
        std::string where;
    };
    std::vector<Moment> moments;
    const char* where = "";
    const sim::ScopedHook hook{[&](sim::Point point) {
        if (point != sim::Point::io) return;
        const u64 kind = moments.size() % 3 < 2 ? moments.size() % 3 : moments.size();
        moments.push_back({s.ext2.disk.after_power_cut(kind), s.promises, s.ever,
                           sim::text("{}, transfer {}, kind {}", where, moments.size(), kind)});
    }};
    const std::string first(20'000, 'f'), second(70'000, 's'), third(3000, 't');
    where = "two files";
    s.make_folder("one");
    s.make_folder("two");
    s.promise(s.make("one", "first", first), "/one/first", first);
    s.promise(s.make("two", "second", second), "/two/second", second);
    where = "a file changes its directory";
    s.promises[0].paths.insert("/two/moved");
    s.ever.insert("/two/moved");
    REQUIRE(s.fs.rename(*at(s.fs, "one"), "first", *at(s.fs, "two"), "moved") == Errno{});
    where = "a directory is moved into another one";
    for (const char* const name : {"/one/two", "/one/two/moved", "/one/two/second", "/one/two/third", "/one/two/new"})
        s.ever.insert(name);
    s.promises[0].paths.insert("/one/two/moved");
    s.promises[1].paths.insert("/one/two/second");
    REQUIRE(s.fs.rename(*at(s.fs, ""), "two", *at(s.fs, "one"), "two") == Errno{});
    where = "a file replaces another one";
    s.ever.insert("/two/new"); // that its directory has lost this name may not be durable yet
    s.promise(s.make("one/two", "new", third), "/one/two/new", third);
    s.promises[2].paths.insert("/one/two/moved");
    s.promises.erase(s.promises.begin());
    REQUIRE(s.fs.rename(*at(s.fs, "one/two"), "new", *at(s.fs, "one/two"), "moved") == Errno{});
    REQUIRE(s.fs.sync() == Errno{});
    where = "a file is cut, and grows";
    const Ref file = at(s.fs, "one/two/second");
    s.promises[0].bytes.reset();
    REQUIRE(s.fs.truncate(*file, 5000) == Errno{});
    REQUIRE(file->sync());
    REQUIRE(s.fs.write(*file, 300'000, "end", 3));
    REQUIRE(file->sync());
    where = "an open file is removed";
    s.promises.erase(s.promises.begin());
    REQUIRE(s.fs.unlink(*at(s.fs, "one/two"), "second") == Errno{});
    REQUIRE(s.fs.write(*file, 0, "more", 4));
    REQUIRE(s.fs.sync() == Errno{});
    CHECK(moments.size() > 50);
    for (const Moment& moment : moments)
        check_cut({moment.image, moment.where}, Scene::kSectors, moment.promises, moment.ever);
}

TEST_CASE("ext2: what a block had before is not taken for numbers of blocks or names",
          "[ext2][ext2-power][ext2-power-old]") {
    Scene s{"-b 1024 -N 128"};
    const std::string kept(30'000, 'k');
    s.promise(s.make("", "kept", kept), "/kept", kept);
    // All that is free has had numbers of the file's blocks; then names of files that are elsewhere now.
    std::vector<u32> numbers(600'000 / 4);
    for (u32 i = 0; i < numbers.size(); ++i)
        numbers[i] = 60 + i % 100;
    {
        const Ref numbered = s.make("", "numbers");
        REQUIRE(s.fs.write(*numbered, 0, numbers.data(), 600'000));
        REQUIRE(numbered->sync());
    }
    REQUIRE(s.fs.unlink(*at(s.fs, ""), "numbers") == Errno{});
    REQUIRE(s.fs.sync() == Errno{});
    s.make_folder("before");
    for (u32 i = 0; i < 40; ++i)
        REQUIRE(s.make("before", std::string(200, 'x') + std::to_string(i), "x")->sync());
    for (u32 i = 0; i < 40; ++i)
        REQUIRE(s.fs.rename(*at(s.fs, "before"), std::string(200, 'x') + std::to_string(i), *at(s.fs, ""),
                            "f" + std::to_string(i)) == Errno{});
    for (u32 i = 0; i < 40; ++i)
        s.ever.insert("/f" + std::to_string(i));
    REQUIRE(s.fs.rmdir(*at(s.fs, ""), "before") == Errno{});
    REQUIRE(s.fs.sync() == Errno{});
    for (const std::string& path : std::vector<std::string>{s.ever.begin(), s.ever.end()})
        if (path.starts_with("/before")) s.ever.erase(path);
    // New indirect blocks, and a directory that grows; power cuts also at the moment when it does.
    std::vector<std::pair<sim::DiskImage, std::vector<Promise>>> inside; // what was promised then
    Ref grown{nullptr};
    {
        u32 points = 0;
        const sim::ScopedHook hook{[&](sim::Point point) {
            if (point == sim::Point::io && ++points % 6 == 0)
                inside.emplace_back(s.ext2.disk.after_power_cut(points), s.promises);
        }};
        s.make_folder("after");
        for (u32 i = 0; i < 30; ++i) {
            const Ref file = s.make("after", std::string(200, 'y') + std::to_string(i));
            if (i % 5 == 0) s.promise(file, "/after/" + std::string(200, 'y') + std::to_string(i), "");
        }
        grown = s.make("", "grown", std::string(400'000, 'g'));
    }
    CHECK(inside.size() > 10);
    for (const auto& [image, promises] : inside)
        check_cut({image, "inside"}, Scene::kSectors, promises, s.ever);
    s.cut(4);
    REQUIRE(write_back_all());
    s.cut(16);
}

TEST_CASE("ext2: the block of a directory is valid after each store", "[ext2][ext2-power][ext2-stores]") {
    const bool has_types = GENERATE(true, false);
    WithFiles kernel;
    Mounted ext2{make_image(has_types ? "-b 1024" : "-b 1024 -O ^filetype", Scene::kKib), Scene::kSectors};
    FileSystem& fs = ext2.fs();
    const Result<Inode*, Errno> made = fs.create(*at(fs, ""), "folder", kModeDirectory | 0755);
    REQUIRE(made);
    const Ref folder{*made};
    auto& directory = static_cast<ext2::Ext2Inode&>(*folder);
    const Result<u32> number = directory.block(0);
    REQUIRE(number);
    const ext2::MetaBlock block{static_cast<ext2::Ext2&>(fs).volume().meta(), *number};
    const u8* const bytes = sim::ram_at(u64{page_to_pfn(block.page()).value()} << kPageShift);
    std::set<std::string> kept{".", ".."};
    u32 stores = 0, bad = 0;
    // `changed` is there or not.
    const auto check = [&](const std::string& changed) {
        std::optional<std::set<std::string>> now = names_of_block(bytes, 1024);
        if (now) now->erase(changed);
        ++stores;
        bad += !now || *now != kept;
    };
    Random random{7};
    for (u32 i = 0; i < 400; ++i) {
        const bool removes = kept.size() > 2 && below(random, 2) == 0;
        auto victim = kept.begin();
        std::advance(victim, 2 + (removes ? below(random, static_cast<u32>(kept.size()) - 2) : 0));
        const std::string name =
            removes ? *victim
                    : std::string(1 + below(random, below(random, 2) == 0 ? 6 : 90), 'a' + i % 26) + std::to_string(i);
        if (removes) kept.erase(name);
        const sim::ScopedHook hook{[&](sim::Point) { check(name); }};
        const Result<Inode*, Errno> file =
            removes ? Result<Inode*, Errno>{fs.unlink(*folder, name)} : fs.create(*folder, name, kModeFile | 0644);
        check(name);
        if (!file) continue;
        FileSystem::release(*file);
        if (names_of_block(bytes, 1024)->contains(name)) kept.insert(name); // else it is in another block
    }
    CHECK(bad == 0);
    CHECK(stores > 1000);
    REQUIRE(fs.sync() == Errno{});
    check_clean(ext2.disk.image(), Scene::kSectors);
}

TEST_CASE("ext2: a power cut in a directory of another system keeps its other names",
          "[ext2][ext2-power][ext2-power-names]") {
    const u32 block = GENERATE(1024u, 4096u);
    const Folder folder;
    for (u32 i = 0; i < 60; ++i)
        std::ofstream{folder / (std::string(40 + i % 3 * 50, 'n') + std::to_string(i))} << "n";
    // debugfs joins what it removes with the entry before, over any number of sectors.
    const Folder other;
    const std::string file = other / "image";
    save(file, make_image("-b " + std::to_string(block), Scene::kKib, folder.path()), Scene::kSectors);
    std::string commands;
    for (u32 i = 0; i < 60; ++i)
        if (i % 12 > 4) commands += "rm " + std::string(40 + i % 3 * 50, 'n') + std::to_string(i) + "\n";
    std::ofstream{other / "commands"} << commands;
    REQUIRE(run_tool("debugfs -w -f " + other / "commands" + " " + file).status == 0);
    REQUIRE(run_tool("e2fsck -fn " + file).status == 0);
    WithFiles kernel;
    Mounted ext2{load(file), Scene::kSectors};
    FileSystem& fs = ext2.fs();
    const Ref root = at(fs, "");
    std::vector<Promise> promises;
    std::set<std::string> ever;
    for (const std::string& name : names_in(fs, *root)) {
        if (!name.starts_with("n")) continue;
        promises.push_back({nullptr, {"/" + name}, "n"});
        ever.insert("/" + name);
    }
    CHECK(promises.size() == 25);
    Random random{block};
    std::vector<sim::DiskImage> cuts;
    u32 seed = 0;
    const sim::ScopedHook hook{[&](sim::Point point) { // also between the steps of one entry
        if (point == sim::Point::io && ++seed % 5 == 0) cuts.push_back(ext2.disk.after_power_cut(seed));
    }};
    for (u32 i = 0; i < 20; ++i) {
        const std::string name = std::string(5 + below(random, 200), 'm') + std::to_string(i);
        ever.insert("/" + name);
        const Result<Inode*, Errno> made = fs.create(*root, name, kModeFile);
        REQUIRE(made);
        FileSystem::release(*made);
        REQUIRE(write_back_all());
        cuts.push_back(ext2.disk.after_power_cut(i));
        if (i % 4 == 3) REQUIRE(fs.sync() == Errno{});
    }
    for (u32 i = 0; i < cuts.size(); ++i)
        check_cut({cuts[i], "cut " + std::to_string(i)}, Scene::kSectors, promises, ever);
}
