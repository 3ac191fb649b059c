// The tree of files: programs work in the root, and on each disk that is mounted (mount=). The host checks these disks
// afterwards, by e2fsck (scripts/runner/disk.py).
#include "kernel/files/inode_file.hpp"
#include "kernel/files/mounts.hpp"
#include "kernel/files/write_back.hpp"
#include "mm/cache/memory_object.hpp"
#include "tests/guest/programs.hpp"
#include "tests/guest/support.hpp"

#include <cstring>

namespace loft::guest::tree_test {
namespace {

// All that the program has made is gone.
void expect_work_in(std::string_view path, FileSystem& system, std::string_view program = "files") {
    const FileSystemStat before = system.stat();
    const Outcome outcome = run(program, {}, path);
    CHECK(outcome.started);
    CHECK_EQ(outcome.status.value(), 0u);
    process_wait_for_all();
    CHECK(!is_error(file_tree().sync()));
    const FileSystemStat after = system.stat();
    CHECK_EQ(after.free_blocks, before.free_blocks);
    CHECK_EQ(after.free_inodes, before.free_inodes);
}

} // namespace

// scripts/runner/archive.py makes the archive.
SELFTEST(tree, the_archive_is_unpacked) {
    constexpr u32 kWords = 25'000;
    Path path{file_tree(), nullptr};
    REQUIRE(path.text() != nullptr);
    constexpr std::string_view kPath = "/archive/link";
    std::memcpy(path.text(), kPath.data(), kPath.size());
    path.text()[kPath.size()] = '\0';
    const Errno error = path.walk(Path::Stop::follow);
    if (error == Errno::noent) SKIP("this machine has no archive");
    REQUIRE(!is_error(error));
    Inode* const file = path.take();
    CHECK_EQ(file->bytes(), u64{kWords} * 4);
    u32 wrong = 0;
    for (u32 i = 0; i < kWords; ++i) {
        u32 word = 0;
        if (!CHECK(file->read(u64{i} * 4, &word, sizeof word))) break;
        wrong += word != i * 2654435761u + 1;
    }
    CHECK_EQ(wrong, 0u);
    FileSystem::release(file);
}

SELFTEST(tree, a_program_works_in_memory) {
    if (const char* why = needs_program("files")) SKIP(why);
    const NothingIsLeft nothing;
    expect_work_in("/", *file_tree().root());
}

// 200 senders wait for room in pipes: none of them keeps a map, so nobody has to wait for one.
SELFTEST(tree, senders_that_wait_keep_no_map) {
    if (const char* why = needs_program("senders")) SKIP(why);
    const NothingIsLeft nothing;
    const u32 waits = pkmap_stats().waits;
    expect_work_in("/", *file_tree().root(), "senders");
    for (const MountedDisk& one : mounted_disks())
        expect_work_in(one.path, *one.system, "senders");
    CHECK_EQ(pkmap_stats().waits, waits);
}

// Who writes to a file of a disk writes pages back when too many are dirty. A few pages more: what the file system has
// changed meanwhile.
SELFTEST(tree, few_pages_of_files_are_dirty) {
    if (mounted_disks().empty()) SKIP("no disk is mounted (mount=)");
    constexpr u32 kLimit = 64, kPages = 1024, kSlack = 16;
    const u32 limit = dirty_page_limit();
    CHECK_GT(limit, kLimit);
    const Pages<1> page;
    REQUIRE(page.complete());
    CHECK(write_back_all());
    set_dirty_page_limit(kLimit);
    for (const MountedDisk& one : mounted_disks()) {
        FileSystem& system = *one.system;
        const FileSystem::Found root = system.root();
        if (!CHECK(root)) continue;
        const FileSystem::Found made = system.create(**root, "limited", kModeFile | 0644);
        if (CHECK(made)) {
            File* const file = open_inode(**made, {.writes = true});
            u32 most = 0;
            for (u32 number = 0; file != nullptr && number < kPages; ++number) {
                ByteSource source = ByteSource::of_page(page[0], 0, kPageSize);
                CHECK_EQ(file->write(source).value(), int{kPageSize});
                most = std::max(most, page_cache_stats().dirty);
            }
            selftest::note("{}: up to {} pages are dirty", one.path, most);
            CHECK_LE(most, kLimit + kSlack);
            CHECK(!is_error(system.unlink(**root, "limited")));
            if (file != nullptr) file->release();
        }
        FileSystem::release(*root);
    }
    set_dirty_page_limit(limit);
}

SELFTEST(tree, files_are_copied_onto_themselves) {
    if (const char* why = needs_program("selfcopy")) SKIP(why);
    const NothingIsLeft nothing;
    expect_work_in("/", *file_tree().root(), "selfcopy");
    for (const MountedDisk& one : mounted_disks())
        expect_work_in(one.path, *one.system, "selfcopy");
}

// Twice: what the first run has left in memory, the second one finds. Then a file that the host reads.
SELFTEST(tree, programs_work_on_mounted_disks) {
    if (const char* why = needs_program("files")) SKIP(why);
    if (mounted_disks().empty()) SKIP("no disk is mounted (mount=)");
    const NothingIsLeft nothing;
    for (const MountedDisk& one : mounted_disks()) {
        expect_work_in(one.path, *one.system);
        expect_work_in(one.path, *one.system);
        const Outcome outcome = run("files", {}, one.path, std::string_view{"keep"});
        CHECK_EQ(outcome.status.value(), 0u);
        selftest::note("{}: the host finds the file kept", one.path);
    }
}

} // namespace loft::guest::tree_test
