// Programs under the explorer: what runs in ring 3 is a function of the test, which enters the kernel by traps.
#pragma once

#include "arch/i386/cpu/trap_frame.hpp"
#include "kernel/programs/process.hpp"
#include "kernel/tree/errno.hpp"
#include "tests/sim/schedule.hpp"

#include <functional>

// The common code of all entries (arch/i386/irq/trap_entry.asm) calls it.
extern "C" void trap_dispatch(loft::TrapFrame* frame);

namespace loft::test {

// Numbers of system calls on i386, and values of their arguments, as the man pages name them.
namespace nr {
inline constexpr u32 exit = 1, fork = 2, read = 3, write = 4, close = 6, waitpid = 7, getpid = 20, getppid = 64,
                     munmap = 91, clone = 120, sched_yield = 158, futex = 240, exit_group = 252, set_tid_address = 258,
                     tgkill = 270, rt_sigaction = 174, pipe2 = 331;
}

// A program that is the same page in each process: it is readable, writable and executable, and begins here. The
// functions of a scene are its entry points.
inline constexpr u32 kProgramPage = 0x0804'8000;
constexpr u32 entry_point(u32 function) { return kProgramPage + 0x80 + function; }
// Words of this page, for the use of tests.
constexpr u32 user_word(u32 number) { return kProgramPage + 0x100 + number * 4; }

// A thread in ring 3. Each of its accesses to memory is a step, before which interrupts may come. It also checks that
// it keeps its registers.
class Ring3 {
  public:
    explicit Ring3(const TrapFrame& registers);

    // A system call: the result, or a negative error number. The call may end the thread.
    int call(u32 number, u32 a = 0, u32 b = 0, u32 c = 0, u32 d = 0, u32 e = 0, u32 f = 0);
    // fork; the child begins with this function of the scene. And clone, for a thread.
    int fork(u32 function);
    int clone_thread(u32 function, u32 clear_tid = 0);

    u32 load(u32 address);
    void store(u32 address, u32 value);
    u32 exchange(u32 address, u32 value); // locked: it drains the store buffer

    // In the kernel: what the test does with the kernel's threads.
    void in_kernel(const std::function<void()>& what);
    // Stores to the word, and gives the thread a permit; waits until somebody has done so.
    void tell(hal::Plain<u32>& word, ThreadId thread);
    void wait_for(hal::Plain<u32>& word);

  private:
    void enter_kernel();
    void leave_kernel();
    template <typename F> void access(u32 address, bool write, sim::Point step, F&& one);
    int trap(u32 vector, u32 error);
    void check_registers() const;

    TrapFrame frame_; // the registers
    u32 thread_;
};

// True if this CPU runs in ring 3. A trap sets it to false at its entry, and again to true when it returns there.
bool& in_ring3();

// The file of the program, and who runs its entry points.
std::span<const u8> program_file();
using ProgramFunction = std::function<void(Ring3&)>;
void run_programs_by(const std::function<const ProgramFunction&(u32)>* find);

constexpr int failed(Errno error) { return -static_cast<int>(error); }

} // namespace loft::test
