// Processes: what they consist of, how they start, fork, and end.
//
// A process is an address space, a file table, and threads. The last thread that leaves frees the memory; the process
// is then a zombie, of which only the status is left, until it is reaped: by its parent in waitpid, by the kernel if
// the kernel started it, or by the reaper thread if the parent ended first. Reaping waits until the last thread has
// left its stack: afterwards every frame that only the process had is free.
#pragma once

#include "arch/base/chain.hpp"
#include "kernel/files/file.hpp"
#include "kernel/files/working_directory.hpp"
#include "kernel/programs/elf.hpp"
#include "kernel/programs/launch.hpp"
#include "kernel/threads/sync.hpp"
#include "kernel/threads/user_thread.hpp"
#include "kernel/tree/errno.hpp"
#include "mm/spaces/address_space.hpp"

#include <optional>
#include <span>
#include <string_view>

namespace loft {

// Signal numbers. loft never runs a handler of a program: a signal ends the program or is ignored, as signal(7) and the
// program's actions (rt_sigaction) say. Sending a signal that would have to run a handler or stop the program fails.
enum class Signal : u8 { ill = 4, trap = 5, abort = 6, bus = 7, fpe = 8, kill = 9, segv = 11, pipe = 13, child = 17 };

// What a program has set for a signal: the kernel's struct sigaction of i386.
struct SignalAction {
    static constexpr u32 kDefault = 0, kIgnore = 1; // values of `handler`
    u32 handler = kDefault;
    u32 flags = 0;
    u32 restorer = 0;
    u32 mask[2]{};
};
inline constexpr u32 kSignals = 64; // numbered from 1
struct SignalActions {
    SignalAction action[kSignals / 2];
};

// A status in the format of waitpid: exit code in bits 8 to 15, or signal in bits 0 to 6.
class WaitStatus {
  public:
    constexpr WaitStatus() = default;
    static constexpr WaitStatus exited(u32 code) { return WaitStatus{(code & 0xff) << 8}; }
    static constexpr WaitStatus killed(Signal signal) { return WaitStatus{static_cast<u32>(signal)}; }
    constexpr u32 value() const { return value_; }
    constexpr bool operator==(const WaitStatus&) const = default;

  private:
    explicit constexpr WaitStatus(u32 value) : value_{value} {}
    u32 value_ = 0;
};

// Console output of a process that is not yet a whole line. Each line goes to the log: "[    1.234567] hello[3]: text".
class ProgramOutput {
  public:
    void write(std::string_view text); // preemptible context
    void finish();                     // logs an incomplete line
    void name(const Process& process, Sink* copy) { process_ = &process, copy_ = copy; }

  private:
    void print();
    Mutex mutex_{"of a program's output"};
    BufferSink<160> line_;
    const Process* process_ = nullptr;
    Sink* copy_ = nullptr;
};

struct Process {
    static constexpr u32 kNameBytes = 24;

    u32 pid = 0;
    char name[kNameBytes]{};
    AddressSpace* space = nullptr; // null after its last thread has left: set with `family` held
    bool read_exec = false;        // ElfPlan::read_exec
    FileTable files;
    WorkingDirectory directory;
    hal::Atomic<u32> umask{022}; // umask(2)
    ProgramOutput output;
    ProcessWatch watch;

    // --- Relations and state.
    Process* parent LOFT_GUARDED_BY(family) = nullptr;
    Process* next LOFT_GUARDED_BY(family) = nullptr; // in the list of `parent`'s children, or of the reaper
    Chain<Process, &Process::next> children LOFT_GUARDED_BY(family);
    Chain<UserThread, &UserThread::next> threads LOFT_GUARDED_BY(family); // those that have not begun to leave
    UserThread* left LOFT_GUARDED_BY(family) = nullptr;                   // the last one that did
    Process* newer LOFT_GUARDED_BY(family) = nullptr;                     // in the list of all processes
    Process* older LOFT_GUARDED_BY(family) = nullptr;                     // likewise
    bool orphan LOFT_GUARDED_BY(family) = false;                          // its parent has ended
    bool zombie LOFT_GUARDED_BY(family) = false;
    WaitStatus status{};
    u32 exit_signal = 0;                     // sent to the parent at the end; 0: none
    SignalActions* actions[2]{};             // of signals 1 to 32 and 33 to 64; null: all default
    u64 pending LOFT_GUARDED_BY(family) = 0; // signals to the process that all its threads have blocked

    hal::Atomic<u32> dying;  // set: its threads leave when they next check it
    Completion ended;        // for process_wait
    u32 unknown_calls[16]{}; // one bit per unknown system call that was logged

    std::string_view name_view() const { return name; }
};

// --- Starting and waiting, for the kernel. Preemptible context.

// Loads and starts a program; `problem` says why it failed, as the end of a sentence. Each started process must be
// waited for (process_wait).
struct Started {
    Process* process = nullptr;
    const char* problem = nullptr;
};
[[nodiscard]] Started process_start(const Launch& launch, MemoryObject& file);
// One of the multiboot modules, by its name.
[[nodiscard]] Started process_start(const Launch& launch);

// Waits until the process has ended, and reaps it.
WaitStatus process_wait(Process* process);
// Its threads leave when they next check. Any context but NMI; the process has not been waited for.
void process_kill(Process& process, WaitStatus status);

u32 process_count(); // not yet reaped; any context
// Waits until all processes are reaped, orphans included.
void process_wait_for_all();

// --- For programs. The caller is a thread of the process, in preemptible context.

Process* current_process(); // null: a kernel thread
UserThread* current_user_thread();
u32 parent_pid(); // 0: started by the kernel, or the parent has ended

struct CloneArguments {
    u32 exit_signal = 0;                // of a new process
    u32 stack = 0;                      // 0: the caller's
    UserAddr parent_tid{}, child_tid{}; // where the new id is written; 0: not at all
    UserAddr clear_tid{};               // as UserThread::clear_tid
    std::optional<UserAddr> tls{};      // a UserDescriptor; none: the caller's
};
// Makes a process with a copy of the caller's; returns its pid. `frame` is that of the system call.
SysResult process_fork(const TrapFrame& frame, const CloneArguments& arguments);
// Makes a thread in the caller's process; returns its tid.
SysResult process_clone_thread(const TrapFrame& frame, const CloneArguments& arguments);

// The calling thread leaves. If it is the last one and the process was not ended before, `status` is that of the
// process.
[[noreturn]] void thread_leave(WaitStatus status);
// Ends the process; the calling thread leaves on its way to ring 3.
void process_end(WaitStatus status);

// Reaps a child that has ended: the one with that pid, or any (-1). Sleeps until there is one; with `may_sleep` false,
// returns 0 instead. A child with another exit signal than SIGCHLD is a clone: wait4(2). Errors: child, intr.
enum class WaitFor : u8 { children, clones, all };
struct WaitResult {
    SysResult pid;
    WaitStatus status{};
};
WaitResult process_wait_child(int pid, WaitFor what, bool may_sleep);

// --- Signals (signal(7)). A set has a bit for each signal, from bit 0 for signal 1 on.

// Signals a thread of a process (tgkill), or of any (tkill); signal 0 only checks that it exists. Errors: srch, inval,
// nosys (a handler would have to run, or the process to stop).
SysResult signal_thread(std::optional<u32> pid, u32 tid, u32 signal);
// The kernel signals the calling thread; no effect if the program has set a handler.
void signal_self(Signal signal);
// Signal 1 to kSignals; `next` null: only returns the current action. Errors: inval, nomem.
SysResult signal_set_action(u32 signal, const SignalAction* next, SignalAction& before);
// The calling thread's blocked signals. Setting them delivers pending signals that are no longer blocked.
u64 signal_blocked();
void signal_set_blocked(u64 set);

void process_init(); // boot; after scheduler_init

} // namespace loft
