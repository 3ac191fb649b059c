// Images of ext2 for tests: made by mke2fs, on a simulated disk, judged by e2fsck, read by debugfs.
//
//     Folder folder;                                       // on the host, removed at the end
//     const sim::DiskImage image = make_image(folder, "-b 1024", 4096);     // KiB
//     Mounted ext2{image, sectors};  ext2.fs(), ext2.disk
//     check_clean(ext2.disk.image(), sectors)              // e2fsck -fn finds nothing
#pragma once

#include "kernel/ext2/ext2.hpp"
#include "kernel/tree/cpio.hpp"
#include "kernel/tree/tmpfs.hpp"
#include "tests/host/disk_tools.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace loft::test {

// A machine with file systems.
struct WithFiles : Booted {
    explicit WithFiles(const Setup& setup = small(1)) : Booted{setup} {
        tmpfs_init();
        cpio_init();
        ext2_init();
    }
};

// A folder of the host with files; removed at the end.
class Folder : NotCopyable<Folder> {
  public:
    Folder();
    ~Folder();
    const std::string& path() const { return path_; }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

  private:
    std::string path_;
};

struct Ran {
    int status = 0;
    std::string text;
};
// A command of the host's shell, with /sbin and /usr/sbin in PATH; standard output and errors.
Ran run_tool(const std::string& command);
void save(const std::string& path, const sim::DiskImage& image, u64 sectors);
sim::DiskImage load(const std::string& path);
// An image of this size with the files of a folder ("": none).
sim::DiskImage make_image(const std::string& options, u32 kib, const std::string& from = "");
// The verdict of e2fsck with these options.
Ran fsck(const sim::DiskImage& image, u64 sectors, const std::string& options = "-fn");
void check_clean(const sim::DiskImage& image, u64 sectors);

// A tree of names, as a test expects it. Hard links share a node.
struct Node {
    InodeKind kind = InodeKind::file;
    std::string bytes{}; // contents, or a link's target
    std::map<std::string, std::shared_ptr<Node>> names{};
};
using NodeTree = std::shared_ptr<Node>;
NodeTree new_node(InodeKind kind, std::string bytes = {});
std::string random_bytes(Random& random, u32 bytes);
// The differences to what a file system has, through loft, or through debugfs; "": none.
std::string difference(FileSystem& fs, const Node& expected);
std::string difference(const sim::DiskImage& image, u64 sectors, const Node& expected);

class Mounted : NotCopyable<Mounted> {
  public:
    Mounted(const sim::DiskImage& image, u64 sectors, bool read_only = false);
    ~Mounted();
    FileSystem& fs() { return *fs_; }
    Errno unmount();

    sim::SimDisk disk;

  private:
    FileSystem* fs_ = nullptr;
};

// References to inodes; paths of a mounted file system, without links.
struct Releases {
    void operator()(Inode* inode) const { FileSystem::release(inode); }
};
using Ref = std::unique_ptr<Inode, Releases>;
Ref at(FileSystem& fs, const std::string& path); // fails the test if there is none
Result<Inode*, Errno> try_at(FileSystem& fs, const std::string& path);
std::vector<std::string> names_in(FileSystem& fs, Inode& directory);
std::string contents(Inode& file);

} // namespace loft::test
