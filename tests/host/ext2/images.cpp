// Images of ext2 for tests. Contract: images.hpp.
#include "tests/host/ext2/images.hpp"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sys/wait.h>

namespace loft {

u32 file_time() { return 1'700'000'000; }

} // namespace loft

namespace loft::test {

namespace host = std::filesystem;

Folder::Folder() {
    std::string name = (host::temp_directory_path() / "loft-ext2-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
}
Folder::~Folder() {
    std::error_code ignored;
    host::remove_all(path_, ignored);
}

Ran run_tool(const std::string& command) {
    std::FILE* const pipe = popen(("PATH=$PATH:/usr/sbin:/sbin; { " + command + "; } 2>&1").c_str(), "r");
    REQUIRE(pipe != nullptr);
    Ran ran;
    char text[4096];
    while (const std::size_t got = std::fread(text, 1, sizeof text, pipe))
        ran.text.append(text, got);
    const int status = pclose(pipe);
    ran.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return ran;
}

// Sectors of zeros become holes.
void save(const std::string& path, const sim::DiskImage& image, u64 sectors) {
    std::ofstream file{path, std::ios::binary};
    constexpr sim::Sector kZeros{};
    for (u64 i = 0; i < sectors; ++i) {
        const sim::Sector data = image.at(i);
        if (data == kZeros) continue;
        file.seekp(static_cast<std::streamoff>(i * kSectorBytes));
        file.write(reinterpret_cast<const char*>(data.data()), kSectorBytes);
    }
    file.close();
    host::resize_file(path, sectors * kSectorBytes);
}

sim::DiskImage load(const std::string& path) {
    sim::DiskImage image;
    std::ifstream file{path, std::ios::binary};
    sim::Sector data;
    for (u64 i = 0; file.read(reinterpret_cast<char*>(data.data()), kSectorBytes); ++i)
        image.write(i, data);
    return image;
}

sim::DiskImage make_image(const std::string& options, u32 kib, const std::string& from) {
    const Folder folder;
    const std::string path = folder / "image";
    const Ran ran =
        run_tool(std::string{"mke2fs -q -F"} + (options.find("-t ") == std::string::npos ? " -t ext2" : "") +
                 " -m 0 -E root_owner=0:0 " + options + (from.empty() ? "" : " -d " + from) + " " + path + " " +
                 std::to_string(kib) + "K");
    INFO(ran.text);
    REQUIRE(ran.status == 0);
    return load(path);
}

Ran fsck(const sim::DiskImage& image, u64 sectors, const std::string& options) {
    const Folder folder;
    save(folder / "image", image, sectors);
    return run_tool("e2fsck " + options + " " + folder / "image");
}

void check_clean(const sim::DiskImage& image, u64 sectors) {
    const Ran ran = fsck(image, sectors);
    INFO(ran.text);
    CHECK(ran.status == 0);
}

// --- Trees.

NodeTree new_node(InodeKind kind, std::string bytes) { return std::make_shared<Node>(Node{kind, std::move(bytes)}); }

std::string random_bytes(Random& random, u32 bytes) {
    std::string text(bytes, '\0');
    for (char& c : text)
        c = static_cast<char>(random());
    return text;
}

std::vector<std::string> names_in(FileSystem& fs, Inode& directory) {
    struct Names final : ListVisitor {
        bool entry(const DirectoryEntry& entry) override {
            if (++calls % 100 == 0) return false; // and on with the next call
            names.emplace_back(entry.name);
            return true;
        }
        std::vector<std::string> names;
        u32 calls = 0;
    } all;
    u64 position = 0;
    for (;;) {
        const std::size_t before = all.names.size();
        REQUIRE(fs.list(directory, position, all) == Errno{});
        if (all.names.size() == before) return all.names;
    }
}

std::string contents(Inode& file) {
    std::string bytes(file.bytes(), '\0');
    for (std::size_t done = 0; done < bytes.size();) {
        const u32 step = static_cast<u32>(std::min<std::size_t>(bytes.size() - done, 64 * KiB));
        const Status status = file.read(done, bytes.data() + done, step);
        if (!status) return std::string{"cannot be read: "} + error_name(status.error());
        done += step;
    }
    return bytes;
}

namespace {

std::string difference_at(FileSystem& fs, Inode& inode, const Node& expected, const std::string& path) {
    if (inode.kind() != expected.kind) return path + ": kind\n";
    if (expected.kind == InodeKind::link) {
        char target[kMostPath];
        const Result<u32, Errno> got = fs.read_link(inode, target, sizeof target);
        return got && std::string(target, *got) == expected.bytes ? "" : path + ": target\n";
    }
    if (expected.kind == InodeKind::file) {
        const std::string got = contents(inode);
        if (got == expected.bytes) return "";
        const auto where = std::mismatch(got.begin(), got.end(), expected.bytes.begin(), expected.bytes.end()).first;
        return sim::text("{}: {} bytes instead of {}, different from {} on\n", path, static_cast<u32>(got.size()),
                         static_cast<u32>(expected.bytes.size()), static_cast<u32>(where - got.begin()));
    }
    std::string all;
    std::map<std::string, bool> seen;
    for (const std::string& name : names_in(fs, inode)) {
        if (seen[name]) all += path + "/" + name + ": twice\n";
        seen[name] = true;
        if (name == "." || name == ".." || (name == "lost+found" && path.empty())) continue;
        const auto found = expected.names.find(name);
        if (found == expected.names.end()) {
            all += path + "/" + name + ": unexpected\n";
            continue;
        }
        const Result<Inode*, Errno> below = fs.lookup(inode, name);
        if (!below) {
            all += path + "/" + name + ": not found\n";
            continue;
        }
        const Ref ref{*below};
        all += difference_at(fs, *ref, *found->second, path + "/" + name);
    }
    for (const auto& [name, node] : expected.names)
        if (!seen[name]) all += path + "/" + name + ": missing\n";
    return all;
}

std::string difference_on_host(const host::path& path, const Node& expected, bool is_root) {
    std::error_code error;
    const auto status = host::symlink_status(path, error);
    if (expected.kind == InodeKind::link)
        return host::is_symlink(status) && host::read_symlink(path, error).string() == expected.bytes
                   ? ""
                   : path.string() + ": target\n";
    if (expected.kind == InodeKind::file) {
        std::ifstream file{path, std::ios::binary};
        const std::string got{std::istreambuf_iterator<char>{file}, {}};
        return host::is_regular_file(status) && got == expected.bytes ? "" : path.string() + ": contents\n";
    }
    if (!host::is_directory(status)) return path.string() + ": kind\n";
    std::string all;
    u32 count = 0;
    for (const auto& one : host::directory_iterator{path, error}) {
        const std::string name = one.path().filename().string();
        if (is_root && name == "lost+found") continue;
        ++count;
        if (!expected.names.contains(name)) all += one.path().string() + ": unexpected\n";
    }
    for (const auto& [name, node] : expected.names)
        all += difference_on_host(path / name, *node, false);
    return all;
}

} // namespace

std::string difference(FileSystem& fs, const Node& expected) {
    const Result<Inode*, Errno> root = fs.root();
    if (!root) return "no root";
    const Ref ref{*root};
    return difference_at(fs, *ref, expected, "");
}

std::string difference(const sim::DiskImage& image, u64 sectors, const Node& expected) {
    const Folder folder;
    save(folder / "image", image, sectors);
    host::create_directory(folder / "files");
    const Ran ran = run_tool("debugfs -R 'rdump / " + folder / "files" + "' " + folder / "image");
    if (ran.status != 0) return ran.text;
    return difference_on_host(folder / "files", expected, true);
}

// --- Mounted file systems.

Mounted::Mounted(const sim::DiskImage& image, u64 sectors, bool read_only)
    : disk{{.sectors = sectors, .image = image}} {
    REQUIRE(disk.ready());
    const Result<FileSystem*, Errno> mounted = ext2_mount(disk, read_only);
    INFO("errno " << static_cast<int>(mounted ? Errno{} : mounted.error()));
    REQUIRE(mounted);
    fs_ = *mounted;
}

Errno Mounted::unmount() {
    const Errno error = ext2_unmount(fs_);
    if (error != Errno::busy) fs_ = nullptr;
    return error;
}

Mounted::~Mounted() {
    if (fs_ != nullptr && std::uncaught_exceptions() == 0) (void)ext2_unmount(fs_);
}

Result<Inode*, Errno> try_at(FileSystem& fs, const std::string& path) {
    Result<Inode*, Errno> here = fs.root();
    for (std::size_t begin = 0; here && begin < path.size();) {
        const std::size_t end = std::min(path.find('/', begin), path.size());
        if (end != begin) {
            const Ref directory{*here};
            here = fs.lookup(*directory, path.substr(begin, end - begin));
        }
        begin = end + 1;
    }
    return here;
}

Ref at(FileSystem& fs, const std::string& path) {
    const Result<Inode*, Errno> found = try_at(fs, path);
    INFO(path << ": errno " << static_cast<int>(found ? Errno{} : found.error()));
    REQUIRE(found);
    return Ref{*found};
}

} // namespace loft::test
