// File systems under every schedule: the last user of an inode goes while its last name is removed.
#include "kernel/tree/tmpfs.hpp"
#include "tests/host/explorer/rig.hpp"

using namespace loft;
using namespace loft::test;

TEST_CASE("explorer: the last user of a file goes while its name is removed", "[.explorer][explorer-files]") {
    Scene s{2};
    tmpfs_init();
    const Result<FileSystem*, Errno> made = tmpfs_make(16);
    REQUIRE(made);
    FileSystem& fs = **made;
    const Result<Inode*, Errno> root = fs.root();
    REQUIRE(root);
    const Result<Inode*, Errno> file = fs.create(**root, "file", kModeFile);
    REQUIRE(file);
    s.thread(0, [&] { FileSystem::release(*file); });
    s.thread(1, [&] { sim::expect(fs.unlink(**root, "file") == Errno{}, "it is removed"); });
    s.explored.check = [&] {
        const FileSystemStat stat = fs.stat();
        sim::expect(stat.inodes - stat.free_inodes == 1, "only the root is left");
    };
    s.explore(sim::reduced(schedules(20'000), 3));
    s.explore(sim::random(schedules(1'000)));
}
