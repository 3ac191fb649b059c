// The paths of programs. Contract: user_path.hpp.
#include "kernel/programs/user_path.hpp"

#include "kernel/devices/disks.hpp"
#include "mm/spaces/user_copy.hpp"

#include <cstring>

namespace loft {

Errno UserPath::read(Call& call, u32 directory, UserAddr from, bool may_be_empty) {
    if (path_.text() == nullptr) return Errno::nomem;
    const Result<u32> length = strncpy_from_user(path_.text(), from, kMostPath);
    if (!length) return Errno::fault;
    if (*length == kMostPath) return Errno::nametoolong;
    empty_ = *length == 0;
    if (empty_ && !may_be_empty) return Errno::noent;
    const std::string_view text{path_.text(), *length};
    constexpr std::string_view kFolder = "/dev/";
    if (text.starts_with(kFolder)) disk_ = find_disk(text.substr(kFolder.size()));
    if (text.starts_with('/')) return Errno{};
    if (directory == kHere) {
        const Node current{call.process.directory.get()};
        if (current) path_.begin_at(*current);
        return Errno{};
    }
    const OpenFile file{call.process, directory};
    if (!file) return Errno::badf;
    if (empty_) return Errno{};
    Inode* const inode = file->inode();
    if (inode == nullptr || !inode->is_directory()) return Errno::notdir;
    path_.begin_at(*inode);
    return Errno{};
}

Errno UserPath::find(bool follow, Node& found) {
    if (is_error(error_)) return error_;
    if (empty_) std::memcpy(path_.text(), ".", 2);
    const Errno error = path_.walk(follow ? Path::Stop::follow : Path::Stop::node);
    if (!is_error(error)) found.set(path_.take());
    return error;
}

} // namespace loft
