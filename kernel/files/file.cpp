// The console, and the file table. Contract: file.hpp. Pipes are in pipe.cpp.
#include "kernel/files/file.hpp"

#include "mm/cache/memory_object.hpp"
#include "mm/spaces/user_copy.hpp"

#include <algorithm>
#include <array>

namespace loft {
namespace {

class ConsoleFile final : public File {
  public:
    SysResult read(UserAddr, u32) override { return 0u; } // always end of file

    SysResult write(ByteSource& from) override {
        std::array<char, 128> text;
        u32 done = 0;
        while (from.left() != 0 && !must_stop()) {
            const u32 step = std::min<u32>(from.left(), text.size());
            if (!from.copy_to(text.data(), step)) return done != 0 ? SysResult{done} : SysResult{Errno::fault};
            write_output({text.data(), step});
            done += step;
        }
        return done;
    }

    void share() override {}
    void release() override {}
    FileStat stat() override { return {.kind = FileKind::console}; }
    bool may_read() const override { return true; }
    bool may_write() const override { return true; }
};
constinit ConsoleFile console;

} // namespace

Status File::sync_reclaiming() {
    for (ReclaimRounds rounds{Reclaimer::program};;) {
        const Status status = sync();
        if (status || status.error() != Error::no_memory || !rounds.another()) return status;
    }
}

File* console_file() { return &console; }

void FileTable::open_console() {
    const SpinGuard guard{lock_};
    for (u32 i = 0; i < 3; ++i)
        file_[i] = &console;
}

void FileTable::share_all(FileTable& parent) {
    const SpinGuard guard{parent.lock_};
    const SpinGuard mine{lock_};
    for (u32 i = 0; i < kMost; ++i)
        if ((file_[i] = parent.file_[i]) != nullptr) file_[i]->share();
}

void FileTable::close_all() {
    for (u32 i = 0; i < kMost; ++i)
        close(i);
}

File* FileTable::get(u32 number) {
    if (number >= kMost) return nullptr;
    const SpinGuard guard{lock_};
    if (file_[number] != nullptr) file_[number]->share();
    return file_[number];
}

u32 FileTable::reserve() {
    const SpinGuard guard{lock_};
    u32 number = 0;
    while (number < kMost && (file_[number] != nullptr || (reserved_ >> number & 1)))
        ++number;
    if (number < kMost) reserved_ |= 1u << number;
    return number;
}

void FileTable::open(u32 number, File* file) {
    const SpinGuard guard{lock_};
    file_[number] = file;
    reserved_ &= ~(1u << number);
}

void FileTable::cancel(u32 number) {
    const SpinGuard guard{lock_};
    reserved_ &= ~(1u << number);
}

bool FileTable::close(u32 number) {
    if (number >= kMost) return false;
    File* file = nullptr;
    {
        const SpinGuard guard{lock_};
        std::swap(file, file_[number]);
    }
    if (file != nullptr) file->release();
    return file != nullptr;
}

} // namespace loft
