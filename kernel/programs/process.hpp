// Programs that run: what one is made of, how it begins, has children, and ends.
//
// A process is an address space, a table of files, and threads. The last thread that leaves gives back the memory;
// then the process is a zombie, which is nothing but a status, until somebody takes it: its parent by waitpid, the
// kernel if that started it, or the reaper if its parent has ended before it. All of them wait until that last thread
// has left its stack: when a process has been taken, nothing of it is left, and every frame is back.
#pragma once

#include "kernel/files/errno.hpp"
#include "kernel/files/file.hpp"
#include "kernel/programs/elf.hpp"
#include "kernel/programs/launch.hpp"
#include "kernel/threads/sync.hpp"
#include "kernel/threads/user_thread.hpp"
#include "mm/spaces/address_space.hpp"

#include <optional>
#include <span>
#include <string_view>

namespace loft {

// The numbers of signals. No handler of a program ever runs: a signal ends the program, or nothing happens, as
// signal(7) and the program's own actions (rt_sigaction) say. One that would have to run a handler, or to stop the
// program, cannot be sent.
enum class Signal : u8 { ill = 4, trap = 5, abort = 6, bus = 7, fpe = 8, kill = 9, segv = 11, pipe = 13, child = 17 };

// What a program has said about a signal: the kernel's struct sigaction of i386.
struct SignalAction {
    static constexpr u32 kDefault = 0, kIgnore = 1; // as handlers
    u32 handler = kDefault;
    u32 flags = 0;
    u32 restorer = 0;
    u32 mask[2]{};
};
inline constexpr u32 kSignals = 64; // numbered from 1
struct SignalActions {
    SignalAction action[kSignals / 2];
};

// A status as waitpid hands it out: the exit code in bits 8 to 15, or the signal in bits 0 to 6.
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

// What a program has written and is no whole line yet. A line goes to the log: "[    1.234567] hello[3]: text".
class ProgramOutput {
  public:
    void write(std::string_view text); // preemptible context
    void finish();                     // what there is counts as a line
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
    AddressSpace* space = nullptr; // until its last thread leaves
    bool read_exec = false;        // ElfPlan::read_exec
    FileTable files;
    ProgramOutput output;
    ProcessWatch watch;

    // --- Where it stands. Under the lock in process.cpp.
    Process* parent = nullptr;
    Process* children = nullptr;
    Process* next = nullptr;       // among the children of `parent`, or in the reaper's list
    UserThread* threads = nullptr; // those that have not begun to leave
    UserThread* left = nullptr;    // the last one that did
    Process* newer = nullptr;      // of all there are
    Process* older = nullptr;      //
    bool orphan = false;           // its parent has ended
    bool zombie = false;
    WaitStatus status{};
    u32 exit_signal = 0;         // sent to its parent when it ends; 0: none
    SignalActions* actions[2]{}; // of signals 1 to 32 and 33 to 64; null: all by default
    u64 pending = 0;             // signals to any of its threads that all of them have blocked

    hal::Atomic<u32> dying;  // its threads leave as soon as they notice
    Completion ended;        // for the kernel
    u32 unknown_calls[16]{}; // a bit for each system call that it has been told about

    std::string_view name_view() const { return name; }
};

// --- Starting and waiting, for the kernel. Preemptible context.

// Loads and starts; `problem` says why not, as the end of a sentence. Every process that is started must be waited for.
struct Started {
    Process* process = nullptr;
    const char* problem = nullptr;
};
[[nodiscard]] Started process_start(const Launch& launch, MemoryObject& file);
// One of the multiboot modules, by its name.
[[nodiscard]] Started process_start(const Launch& launch);

// Waits until it has ended, and takes it.
WaitStatus process_wait(Process* process);
// It ends as soon as its threads notice. Any context but NMI; nobody has waited for it yet.
void process_kill(Process& process, WaitStatus status);

u32 process_count(); // that have not been taken; any context
// Waits until there are none: those whose parents have ended, too.
void process_wait_for_all();

// --- For programs. All of these: a thread of the process, preemptible context.

Process* current_process(); // null: a thread of the kernel
UserThread* current_user_thread();
u32 parent_pid(); // 0: the kernel

struct CloneArguments {
    u32 exit_signal = 0;                // of a process
    u32 stack = 0;                      // 0: the same
    UserAddr parent_tid{}, child_tid{}; // where the new id is written; 0: nowhere
    UserAddr clear_tid{};               // as UserThread::clear_tid
    std::optional<UserAddr> tls{};      // a UserDescriptor; none: the same as before
};
// A new process with a copy of everything; returns its pid. `frame` is that of the system call.
SysResult process_fork(const TrapFrame& frame, const CloneArguments& arguments);
// A new thread of the same process; returns its tid.
SysResult process_clone_thread(const TrapFrame& frame, const CloneArguments& arguments);

// The thread leaves. The status is that of the process if it is the last one, and nobody has ended the process before.
[[noreturn]] void thread_leave(WaitStatus status);
// The process ends; the thread that calls leaves on its way to ring 3.
void process_end(WaitStatus status);

// Takes a child that has ended: the one with that pid, or any (-1). Sleeps until there is one, unless told not to:
// then 0. A child that sends another signal than SIGCHLD when it ends is a clone: wait4(2).
enum class WaitFor : u8 { children, clones, all };
struct WaitResult {
    SysResult pid;
    WaitStatus status{};
};
WaitResult process_wait_child(int pid, WaitFor what, bool may_sleep);

// --- Signals (signal(7)). A set has a bit for each signal, from bit 0 for signal 1 on.

// To a thread of a process (tgkill), or of any (tkill); 0 only asks whether it exists. Errors: srch, inval, nosys: a
// handler would have to run, or the process to stop.
SysResult signal_thread(std::optional<u32> pid, u32 tid, u32 signal);
// To the thread that calls, by the kernel: nothing happens if there is a handler.
void signal_self(Signal signal);
// Signal 1 to kSignals; `next` null: only asks. Errors: inval, nomem.
SysResult signal_set_action(u32 signal, const SignalAction* next, SignalAction& before);
// The signals that the thread that calls has blocked. What is pending and not blocked any more takes effect.
u64 signal_blocked();
void signal_set_blocked(u64 set);

void process_init(); // boot; after scheduler_init

} // namespace loft
