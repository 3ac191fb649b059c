// Random changes of a file system, compared with a model.
#pragma once

#include "tests/host/ext2/images.hpp"

namespace loft::test {

// A tree of random changes, on loft and on the model.
class Changes {
  public:
    Changes(FileSystem& fs, u64 seed, u32 most_bytes) : fs_{fs}, random_{static_cast<u32>(seed)}, most_{most_bytes} {}

    NodeTree root = new_node(InodeKind::directory);
    u32 done = 0, refused = 0;

    void step() {
        switch (below(random_, 12)) {
        case 0:
        case 1:
        case 2:
            return create();
        case 3:
        case 4:
        case 5:
            return write();
        case 6:
            return truncate();
        case 7:
            return remove();
        case 8:
            return rename();
        case 9:
            return link();
        case 10:
            return make_directory();
        default:
            return symlink();
        }
    }

    // One of the model's files at random; null: the walk has met none.
    struct Place {
        std::string path;
        NodeTree node;
        std::string name(Random& random) const { // one of its names, or ""
            if (node->names.empty()) return "";
            auto at = node->names.begin();
            std::advance(at, below(random, static_cast<u32>(node->names.size())));
            return at->first;
        }
    };
    Place directory() {
        Place here{"", root};
        while (below(random_, 3) != 0) {
            const std::string name = here.name(random_);
            if (name.empty() || here.node->names[name]->kind != InodeKind::directory) break;
            here = {here.path + "/" + name, here.node->names[name]};
        }
        return here;
    }
    std::string fresh() {
        return std::string(1 + below(random_, below(random_, 4) == 0 ? 240 : 12),
                           static_cast<char>('a' + below(random_, 26))) +
               std::to_string(below(random_, 400));
    }
    // The result must be that of the model; a full disk is one, too.
    bool agrees(Errno got, Errno expected) {
        if (got == Errno::nospc) return ++refused, false;
        INFO("after " << done << " changes: errno " << static_cast<int>(got) << ", expected "
                      << static_cast<int>(expected));
        REQUIRE(got == expected);
        ++done;
        return !is_error(got);
    }
    void add(InodeKind kind, u32 mode, const std::string& target = {}) {
        const Place here = directory();
        const std::string name = fresh();
        const Ref parent = at(fs_, here.path);
        const Result<Inode*, Errno> made = fs_.create(*parent, name, mode, true, target);
        const bool there = here.node->names.contains(name);
        if (agrees(made ? Errno{} : made.error(), there ? Errno::exist : Errno{}))
            here.node->names[name] = new_node(kind, target);
        if (made) FileSystem::release(*made);
    }
    void create() { add(InodeKind::file, kModeFile | 0644); }
    void make_directory() { add(InodeKind::directory, kModeDirectory | 0755); }
    void symlink() { add(InodeKind::link, kModeLink | 0777, std::string(1 + below(random_, 120), 't')); }

    NodeTree file(Place& here, std::string& name) {
        here = directory();
        name = here.name(random_);
        if (name.empty() || here.node->names[name]->kind != InodeKind::file) return nullptr;
        return here.node->names[name];
    }
    void write() {
        Place here;
        std::string name;
        const NodeTree node = file(here, name);
        if (node == nullptr) return;
        const u32 offset = below(random_, most_), bytes = 1 + below(random_, 9000);
        const std::string text = random_bytes(random_, bytes);
        const Result<u32, Errno> got = fs_.write(*at(fs_, here.path + "/" + name), offset, text.data(), bytes);
        if (!agrees(got ? Errno{} : got.error(), Errno{})) return;
        if (*got < bytes) ++refused;
        if (node->bytes.size() < offset + *got) node->bytes.resize(offset + *got);
        node->bytes.replace(offset, *got, text, 0, *got);
    }
    void truncate() {
        Place here;
        std::string name;
        const NodeTree node = file(here, name);
        if (node == nullptr) return;
        const u32 bytes = below(random_, 3) == 0 ? 0 : below(random_, most_);
        if (agrees(fs_.truncate(*at(fs_, here.path + "/" + name), bytes), Errno{})) node->bytes.resize(bytes);
    }
    void remove() {
        const Place here = directory();
        const std::string name = here.name(random_);
        if (name.empty()) return;
        const Ref parent = at(fs_, here.path);
        const NodeTree node = here.node->names[name];
        if (node->kind == InodeKind::directory) {
            if (agrees(fs_.rmdir(*parent, name), node->names.empty() ? Errno{} : Errno::notempty))
                here.node->names.erase(name);
        } else if (agrees(fs_.unlink(*parent, name), Errno{})) {
            here.node->names.erase(name);
        }
    }
    static bool is_below(const NodeTree& node, const NodeTree& above) {
        if (node == above) return true;
        for (const auto& [name, next] : above->names)
            if (is_below(node, next)) return true;
        return false;
    }
    void rename() {
        const Place from = directory(), to = directory();
        const std::string name = from.name(random_);
        if (name.empty()) return;
        const std::string new_name = below(random_, 2) == 0 || to.node->names.empty() ? fresh() : to.name(random_);
        const NodeTree node = from.node->names[name];
        const NodeTree target = to.node->names.contains(new_name) ? to.node->names[new_name] : nullptr;
        const bool is_directory = node->kind == InodeKind::directory;
        Errno expected{};
        if (is_directory && is_below(to.node, node))
            expected = Errno::inval;
        else if (target != nullptr && target->kind == InodeKind::directory && is_below(from.node, target))
            expected = from.node != to.node ? Errno::notempty : !is_directory ? Errno::isdir : Errno::notempty;
        else if (target == node || target == nullptr)
            expected = Errno{};
        else if (target->kind == InodeKind::directory)
            expected = !is_directory ? Errno::isdir : target->names.empty() ? Errno{} : Errno::notempty;
        else if (is_directory)
            expected = Errno::notdir;
        if (!agrees(fs_.rename(*at(fs_, from.path), name, *at(fs_, to.path), new_name), expected)) return;
        if (target == node) return;
        from.node->names.erase(name);
        to.node->names[new_name] = node;
    }
    void link() {
        Place here;
        std::string name;
        const NodeTree node = file(here, name);
        if (node == nullptr) return;
        const Place to = directory();
        const std::string new_name = fresh();
        const bool there = to.node->names.contains(new_name);
        if (agrees(fs_.link(*at(fs_, to.path), new_name, *at(fs_, here.path + "/" + name)),
                   there ? Errno::exist : Errno{}))
            to.node->names[new_name] = node;
    }

  private:
    FileSystem& fs_;
    Random random_;
    u32 most_;
};

} // namespace loft::test
