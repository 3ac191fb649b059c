// The archive of an initramfs. Contract: cpio.hpp.
//
// An entry: a head of 110 characters, the name with its NUL, zeros up to a multiple of 4, the data, zeros up to a
// multiple of 4. Of files with several names, the last one has the data (the others may have it, too); they have one
// number.
#include "kernel/tree/cpio.hpp"

#include "mm/frames/page_alloc.hpp"
#include "mm/windows/highmem.hpp"

#include <algorithm>
#include <cstring>

namespace loft {
namespace {

constexpr u32 kHeadBytes = 110, kFields = 13;
constexpr std::string_view kMagics[2]{"070701", "070702"}; // the second one has a checksum, which nobody checks
constexpr std::string_view kTrailer = "TRAILER!!!";

struct Head {
    u32 inode, mode, uid, gid, links, mtime, bytes, major, minor, device_major, device_minor, name_bytes, check;
};

bool parse(const char (&text)[kHeadBytes], Head& head) {
    const std::string_view magic{text, 6};
    if (magic != kMagics[0] && magic != kMagics[1]) return false;
    u32 fields[kFields];
    for (u32 i = 0; i < kFields; ++i) {
        u32 value = 0;
        for (u32 j = 0; j < 8; ++j) {
            const char c = text[6 + i * 8 + j];
            const bool digit = c >= '0' && c <= '9', lower = c >= 'a' && c <= 'f', upper = c >= 'A' && c <= 'F';
            if (!digit && !lower && !upper) return false;
            value = value << 4 | static_cast<u32>(digit ? c - '0' : lower ? c - 'a' + 10 : c - 'A' + 10);
        }
        fields[i] = value;
    }
    static_assert(sizeof head == sizeof fields);
    std::memcpy(&head, fields, sizeof fields);
    return true;
}

// A file with several names, from its first one on.
struct Linked {
    Linked* next = nullptr;
    u32 inode = 0, major = 0, minor = 0;
    Inode* file = nullptr;
};
Cache<Linked> linked_cache{"cpio_linked", Gfp::kernel};

class Unpacking : NotCopyable<Unpacking> {
  public:
    Unpacking(MemoryObject& archive, FileSystem& into, Unpacked& result, char* path, char* data)
        : archive_{archive}, into_{into}, result_{result}, path_{path}, data_{data}, size_{archive.bytes()} {}
    ~Unpacking() {
        while (Linked* const one = linked_.pop_front()) {
            FileSystem::release(one->file);
            linked_cache.destroy(one);
        }
    }

    Errno run() {
        bool any = false;
        for (;;) {
            if (const Errno error = skip_zeros(); is_error(error)) return error;
            if (result_.bytes == size_) return any ? Errno{} : Errno::inval;
            bool end = false;
            while (!end)
                if (const Errno error = entry(end); is_error(error)) return error;
            any = true;
        }
    }

  private:
    Errno get(u64 at, void* to, u32 bytes) {
        if (at > size_ || bytes > size_ - at) return Errno::inval;
        return errno_of(archive_.read(at, to, bytes));
    }
    Errno skip_zeros() {
        char some[64];
        while (result_.bytes < size_) {
            const u32 count = static_cast<u32>(std::min<u64>(sizeof some, size_ - result_.bytes));
            if (const Errno error = get(result_.bytes, some, count); is_error(error)) return error;
            const u32 zeros = static_cast<u32>(std::find_if(some, some + count, [](char c) { return c != 0; }) - some);
            result_.bytes += zeros;
            if (zeros != count) break;
        }
        return Errno{};
    }
    static u64 aligned(u64 at) { return (at + 3) & ~u64{3}; }

    Errno entry(bool& end) {
        const u64 begin = result_.bytes;
        char text[kHeadBytes];
        if (const Errno error = get(begin, text, sizeof text); is_error(error)) return error;
        Head head;
        if (!parse(text, head) || head.name_bytes == 0 || head.name_bytes > kMostPath) return Errno::inval;
        if (const Errno error = get(begin + kHeadBytes, path_, head.name_bytes); is_error(error)) return error;
        if (path_[head.name_bytes - 1] != '\0') return Errno::inval;
        const u64 data = aligned(begin + kHeadBytes + head.name_bytes);
        if (data > size_ || head.bytes > size_ - data) return Errno::inval;
        const std::string_view path{path_};
        if (path == kTrailer)
            end = true;
        else if (const Errno error = make(head, path, data); is_error(error))
            return error;
        result_.bytes = std::min(size_, aligned(data + head.bytes));
        return Errno{};
    }

    // The directory of a path, with a reference, and its last name; empty: the root itself.
    FileSystem::Found directory_of(std::string_view path, std::string_view& name) {
        FileSystem::Found here = into_.root();
        name = {};
        while (here && !path.empty()) {
            const std::size_t length = std::min(path.find('/'), path.size());
            const std::string_view part = path.substr(0, length);
            path.remove_prefix(std::min(length + 1, path.size()));
            if (part.empty() || part == ".") continue;
            if (part == "..") {
                FileSystem::release(*here);
                return Errno::inval;
            }
            if (!name.empty()) {
                const FileSystem::Found below = into_.lookup(**here, name);
                FileSystem::release(*here);
                here = below;
            }
            name = part;
        }
        return here;
    }

    Errno make(const Head& head, std::string_view path, u64 data) {
        std::string_view name;
        const FileSystem::Found directory = directory_of(path, name);
        if (!directory) return directory.error();
        const Errno error = name.empty() ? Errno{} : make_in(**directory, name, head, data);
        FileSystem::release(*directory);
        return error;
    }

    Errno make_in(Inode& directory, std::string_view name, const Head& head, u64 data) {
        const InodeKind kind = kind_of_mode(head.mode);
        if (kind == InodeKind::other) {
            ++result_.skipped;
            return Errno{};
        }
        if (kind == InodeKind::file && head.links > 1) return make_linked(directory, name, head, data);
        std::string_view target;
        if (kind == InodeKind::link) {
            if (head.bytes == 0 || head.bytes >= kMostPath) return Errno::inval;
            if (const Errno error = get(data, data_, head.bytes); is_error(error)) return error;
            target = {data_, head.bytes};
        }
        const FileSystem::Found made =
            into_.create(directory, name, head.mode & (kModeKind | kModeRights), kind != InodeKind::directory, target);
        if (!made) return made.error();
        Errno error{};
        if (kind == InodeKind::directory && !(*made)->is_directory()) error = Errno::exist;
        if (kind == InodeKind::file) error = fill(**made, head, data);
        FileSystem::release(*made);
        if (!is_error(error)) ++result_.entries;
        return error;
    }

    Errno make_linked(Inode& directory, std::string_view name, const Head& head, u64 data) {
        Inode* file = nullptr;
        linked_.each([&](const Linked& one) {
            if (one.inode == head.inode && one.major == head.major && one.minor == head.minor) file = one.file;
            return file == nullptr;
        });
        if (file != nullptr) {
            if (const Errno error = into_.link(directory, name, *file); is_error(error)) return error;
        } else {
            Linked* const one = linked_cache.make();
            if (one == nullptr) return Errno::nomem;
            const FileSystem::Found made = into_.create(directory, name, head.mode & (kModeKind | kModeRights));
            if (!made) {
                linked_cache.destroy(one);
                return made.error();
            }
            file = *made;
            *one = {nullptr, head.inode, head.major, head.minor, file};
            linked_.push_back(*one);
        }
        ++result_.entries;
        return head.bytes != 0 ? fill(*file, head, data) : Errno{};
    }

    Errno fill(Inode& file, const Head& head, u64 data) {
        for (u32 done = 0; done < head.bytes;) {
            const u32 step = std::min(head.bytes - done, kPageSize);
            if (const Errno error = get(data + done, data_, step); is_error(error)) return error;
            const Result<u32, Errno> written = into_.write(file, done, data_, step);
            if (!written) return written.error();
            done += *written;
        }
        return Errno{};
    }

    MemoryObject& archive_;
    FileSystem& into_;
    Unpacked& result_;
    char *path_, *data_; // a frame each
    const u64 size_;
    Chain<Linked, &Linked::next> linked_;
};

char* text_of(Page* page) { return hal::lowmem_ptr<char>(direct_addr(page_to_pfn(page))); }

} // namespace

Errno unpack_cpio(MemoryObject& archive, FileSystem& into, Unpacked& result) {
    result = {};
    Page* const path = alloc_page(Gfp::kernel);
    Page* const data = alloc_page(Gfp::kernel);
    Errno error = Errno::nomem;
    if (path != nullptr && data != nullptr)
        error = Unpacking{archive, into, result, text_of(path), text_of(data)}.run();
    if (path != nullptr) put_page(path);
    if (data != nullptr) put_page(data);
    return error;
}

void cpio_init() { linked_cache.reset(); }

} // namespace loft
