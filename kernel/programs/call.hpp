// What the sources of system calls share: the arguments and the caller of a call.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "arch/i386/cpu/trap_frame.hpp"
#include "kernel/programs/process.hpp"

namespace loft {

// The arguments and the caller of a system call.
struct Call {
    TrapFrame& frame;
    UserThread& thread;
    Process& process;

    u32 a() const { return frame.ebx; }
    u32 b() const { return frame.ecx; }
    u32 c() const { return frame.edx; }
    u32 d() const { return frame.esi; }
    u32 e() const { return frame.edi; }
    u32 f() const { return frame.ebp; }
    UserAddr pointer_a() const { return UserAddr{a()}; }
    UserAddr pointer_b() const { return UserAddr{b()}; }
    UserAddr pointer_c() const { return UserAddr{c()}; }
    UserAddr pointer_d() const { return UserAddr{d()}; }
    UserAddr pointer_e() const { return UserAddr{e()}; }
};

constexpr u32 kMostBytes = 0x7fff'f000; // limit of one read or write, so that the result is not negative

// True if the range lies below the end of user addresses. An empty range at the end counts.
constexpr bool in_reach(UserAddr at, u32 bytes) {
    return bytes <= layout::kUserEnd && at.value() <= layout::kUserEnd - bytes;
}
constexpr bool is_negative(u32 number) { return static_cast<int>(number) < 0; }
// The offset of pread64 and pwrite64: two words.
constexpr u64 wide(u32 low, u32 high) { return u64{high} << 32 | low; }

// A reference to a file for the duration of a call.
class OpenFile : NotCopyable<OpenFile> {
  public:
    OpenFile(Process& process, u32 number) : file_{process.files.get(number)} {}
    ~OpenFile() {
        if (file_ != nullptr) file_->release();
    }
    explicit operator bool() const { return file_ != nullptr; }
    File* operator->() const { return file_; }
    File* get() const { return file_; }

  private:
    File* file_;
};

} // namespace loft
