// Two writers of one file, write(2) with O_APPEND: one write at a time sees one size, so nothing is lost.
#include "kernel/files/inode_file.hpp"
#include "kernel/tree/tmpfs.hpp"
#include "mm/windows/highmem.hpp"
#include "tests/threads/rig.hpp"

using namespace loft;
using namespace loft::test;

TEST_CASE("threads: two writers append to one file, and both are there", "[.threads][threads-append]") {
    Scene s{2};
    tmpfs_init();
    inode_file_init();
    const Result<FileSystem*, Errno> system = tmpfs_make(16);
    REQUIRE(system);
    const FileSystem::Found root = (*system)->root();
    REQUIRE(root);
    const FileSystem::Found inode = (*system)->create(**root, "file", kModeFile | 0644);
    REQUIRE(inode);
    struct Writer {
        File* file;
        Page* page; // its word is what it writes
    } writer[2];
    for (u32 i = 0; i < 2; ++i) {
        (*inode)->get();
        const u32 word = i + 1;
        writer[i] = {open_inode(**inode, {.writes = true, .appends = true}), alloc_page(Gfp::user)};
        REQUIRE(writer[i].file != nullptr);
        REQUIRE(writer[i].page != nullptr);
        memcpy_to_page(writer[i].page, 0, &word, sizeof word);
        s.thread(i, [&one = writer[i]] {
            ByteSource source = ByteSource::of_page(one.page, 0, sizeof(u32));
            sim::expect(one.file->write(source).value() == sizeof(u32), "all of it is written");
        });
    }
    {
        // The file has its page before; so no schedule needs a new one.
        ByteSource source = ByteSource::of_page(writer[0].page, 0, sizeof(u32));
        REQUIRE(writer[0].file->write(source).value() == sizeof(u32));
    }
    s.check = [&] {
        u32 words[3]{};
        sim::expect((*inode)->bytes() == sizeof words, "the size is that of all writes");
        sim::expect(static_cast<bool>((*inode)->read(0, words, sizeof words)), "it can be read");
        sim::expect(words[0] == 1 && words[1] + words[2] == 3 && words[1] * words[2] == 2, "each is there once");
    };
    s.explore(sim::reduced(schedules(2'000), 1, 0));
    s.explore(sim::random(schedules(1'000)));
}
