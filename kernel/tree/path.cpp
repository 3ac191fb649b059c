// Paths and mounts. Contract: path.hpp.
#include "kernel/tree/path.hpp"

#include "mm/frames/page_alloc.hpp"
#include "mm/windows/highmem.hpp"

#include <algorithm>
#include <cstring>

namespace loft {

// --- Mounts.

Errno Tree::mount(Inode& directory, FileSystem& system) {
    if (!directory.is_directory()) return Errno::notdir;
    const FileSystem::Found top = directory.system().root();
    if (!top) return top.error();
    FileSystem::release(*top);
    if (*top == &directory || &system == root_) return Errno::busy;
    MutexGuard guard{mutex_};
    Mount* free = nullptr;
    for (Mount& one : mounts_) {
        if (one.directory == nullptr) {
            free = &one;
        } else if (one.system == &system || one.directory == &directory) {
            return Errno::busy;
        }
    }
    if (free == nullptr) return Errno::nomem;
    directory.get();
    directory.system().set_covered(directory, true);
    *free = {&directory, &system};
    return Errno{};
}

Errno Tree::unmount(FileSystem& system) {
    Inode* directory = nullptr;
    {
        MutexGuard guard{mutex_};
        for (Mount& one : mounts_)
            if (one.system == &system) {
                directory = one.directory;
                one = {};
            }
    }
    if (directory == nullptr) return Errno::inval;
    directory->system().set_covered(*directory, false);
    FileSystem::release(directory);
    return Errno{};
}

FileSystem::Found Tree::down(Inode* directory) {
    FileSystem* system = nullptr;
    {
        MutexGuard guard{mutex_};
        for (const Mount& one : mounts_)
            if (one.directory == directory) system = one.system;
    }
    if (system == nullptr) return directory;
    FileSystem::release(directory);
    return system->root();
}

FileSystem::Found Tree::up(Inode* root) {
    Inode* directory = nullptr;
    {
        MutexGuard guard{mutex_};
        for (const Mount& one : mounts_)
            if (one.directory != nullptr && one.system == &root->system()) directory = one.directory;
        if (directory != nullptr) directory->get();
    }
    FileSystem::release(root);
    return directory != nullptr ? FileSystem::Found{directory} : root_->root();
}

Errno Tree::sync() {
    FileSystem* systems[kMostMounts + 1]{root_};
    {
        MutexGuard guard{mutex_};
        for (u32 i = 0; i < kMostMounts; ++i)
            systems[i + 1] = mounts_[i].system;
    }
    Errno first{};
    for (FileSystem* const system : systems)
        if (system != nullptr)
            if (const Errno error = system->sync(); is_error(error) && !is_error(first)) first = error;
    return first;
}

namespace {

// Writes the name of the entry with this number before `at`.
struct NameBefore final : ListVisitor {
    NameBefore(u32 wanted, std::span<char> text, u32 at) : wanted{wanted}, text{text}, at{at} {}
    bool entry(const DirectoryEntry& entry) override {
        if (entry.number != wanted || entry.name == "." || entry.name == "..") return true;
        found = true;
        fits = entry.name.size() < at;
        if (!fits) return false;
        at -= static_cast<u32>(entry.name.size());
        std::memcpy(text.data() + at, entry.name.data(), entry.name.size());
        text[--at] = '/';
        return false;
    }
    const u32 wanted;
    const std::span<char> text;
    u32 at;
    bool found = false, fits = true;
};

} // namespace

Result<u32, Errno> Tree::path_of(Inode& directory, std::span<char> text) {
    const u32 end = static_cast<u32>(text.size()) - 1;
    u32 at = end;
    text[at] = '\0';
    Inode* here = &directory;
    here->get();
    for (;;) {
        FileSystem& system = here->system();
        const FileSystem::Found up = system.parent(*here);
        Errno error = up ? Errno{} : up.error();
        if (up && *up == here) { // the root of a file system: as if it were the directory that it covers
            FileSystem::release(*up);
            if (&system == root_) break;
            const FileSystem::Found covered = this->up(here);
            if (!covered) return covered.error();
            here = *covered;
            continue;
        }
        if (up) {
            NameBefore name{here->number(), text, at};
            u64 position = 0;
            error = system.list(**up, position, name);
            if (!is_error(error) && !name.found) error = Errno::noent;
            if (!is_error(error) && !name.fits) error = Errno::range;
            at = name.at;
        }
        FileSystem::release(here);
        if (is_error(error)) {
            if (up) FileSystem::release(*up);
            return error;
        }
        here = *up;
    }
    FileSystem::release(here);
    if (at == end) {
        if (at == 0) return Errno::range;
        text[--at] = '/';
    }
    return at;
}

// --- Paths.

Path::Path(Tree& tree, Inode* current) : tree_{tree}, frame_{alloc_page(Gfp::user_low)}, here_{current} {
    if (here_ != nullptr) here_->get();
    if (frame_ == nullptr) return;
    text_ = hal::lowmem_ptr<char>(direct_addr(page_to_pfn(frame_)));
    text_[0] = '\0';
}

Path::~Path() {
    if (here_ != nullptr) FileSystem::release(here_);
    if (frame_ != nullptr) put_page(frame_);
}

void Path::begin_at(Inode& directory) {
    directory.get();
    if (Inode* const before = std::exchange(here_, &directory)) FileSystem::release(before);
}

// The next component, and at_ behind it and its slashes. Empty: the end.
std::string_view Path::next_name() {
    const u32 begin = at_;
    while (text_[at_] != '\0' && text_[at_] != '/')
        ++at_;
    const std::string_view name{text_ + begin, at_ - begin};
    wants_directory_ = text_[at_] == '/';
    while (text_[at_] == '/')
        ++at_;
    return name;
}

// The target takes the place of the link's name, in front of what is left of the path.
Errno Path::enter_link(Inode& link) {
    if (++links_ > kMostLinks) return Errno::loop;
    const u32 rest = static_cast<u32>(std::strlen(text_ + at_));
    const bool slash = wants_directory_ || rest != 0;
    // At the end of the frame first: the target may be longer than what it replaces.
    char* const kept = text_ + kMostPath - 1 - rest;
    std::memmove(kept, text_ + at_, rest + 1);
    const Result<u32, Errno> length =
        link.system().read_link(link, text_, kMostPath - 1 - rest); // the byte before `kept` is the slash's
    if (!length) return length.error();
    if (*length + slash + rest >= kMostPath) return Errno::nametoolong;
    if (*length == 0) return Errno::noent;
    if (slash) text_[*length] = '/';
    std::memmove(text_ + *length + slash, kept, rest + 1);
    at_ = 0;
    return Errno{};
}

// Goes on from a directory to what one name in it names, without following a link.
Errno Path::step(std::string_view name) {
    if (name == ".") return Errno{};
    if (name == "..") {
        for (;;) {
            FileSystem& system = here_->system();
            const FileSystem::Found up = system.parent(*here_);
            if (!up) return up.error();
            if (*up != here_) {
                FileSystem::release(std::exchange(here_, *up));
                return Errno{};
            }
            // The root of a file system: from the directory that it covers.
            FileSystem::release(*up);
            if (&system == tree_.root()) return Errno{};
            const FileSystem::Found covered = tree_.up(std::exchange(here_, nullptr));
            if (!covered) return covered.error();
            here_ = *covered;
        }
    }
    const FileSystem::Found found = here_->system().lookup(*here_, name);
    if (!found) return found.error();
    const FileSystem::Found below = tree_.down(*found);
    if (!below) return below.error();
    FileSystem::release(std::exchange(here_, *below));
    return Errno{};
}

// To the directory of the last name; links on the way are followed.
Errno Path::to_parent() {
    for (;;) {
        if (text_[at_] == '/') { // of the text, or of a link's target
            const FileSystem::Found root = tree_.root()->root();
            if (!root) return root.error();
            if (here_ != nullptr) FileSystem::release(here_);
            here_ = *root;
            while (text_[at_] == '/')
                ++at_;
        }
        const std::string_view name = next_name();
        const bool last = text_[at_] == '\0';
        last_dot_ = name == "." ? LastDot::dot : name == ".." ? LastDot::dots : LastDot::none;
        if (last && last_dot_ == LastDot::none) {
            name_ = name;
            return here_->is_directory() ? Errno{} : Errno::notdir;
        }
        Inode* const directory = here_;
        directory->get();
        Errno error = here_->is_directory() ? step(name) : Errno::notdir;
        if (!is_error(error) && here_->kind() == InodeKind::link) {
            error = enter_link(*here_);
            if (!is_error(error)) {
                FileSystem::release(std::exchange(here_, directory));
                continue;
            }
        }
        FileSystem::release(directory);
        if (is_error(error)) return error;
        if (last) {
            name_ = {};
            return here_->is_directory() ? Errno{} : Errno::notdir;
        }
    }
}

Errno Path::walk(Stop stop) {
    if (text_ == nullptr) return Errno::nomem;
    if (text_[0] == '\0' || tree_.root() == nullptr) return Errno::noent;
    if (here_ == nullptr) {
        const FileSystem::Found root = tree_.root()->root();
        if (!root) return root.error();
        here_ = *root;
    }
    const Errno error = to_parent();
    return is_error(error) || stop == Stop::parent ? error : go_on(stop);
}

Errno Path::go_on(Stop stop) {
    while (!name_.empty()) {
        Inode* const directory = here_;
        directory->get();
        Errno error = step(name_);
        const bool is_link = !is_error(error) && here_->kind() == InodeKind::link;
        if (is_link && (stop == Stop::follow || wants_directory_)) {
            error = enter_link(*here_);
            FileSystem::release(std::exchange(here_, directory));
            if (!is_error(error)) error = to_parent();
            if (!is_error(error)) continue;
            name_ = {}; // it was in the text, which has changed
            return error;
        }
        FileSystem::release(directory);
        if (is_error(error)) return error;
        break;
    }
    return wants_directory_ && !here_->is_directory() ? Errno::notdir : Errno{};
}

} // namespace loft
