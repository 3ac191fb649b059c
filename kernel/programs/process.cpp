// Processes. Contract: process.hpp.
#include "kernel/programs/process.hpp"

#include "arch/base/near_wrap.hpp"
#include "arch/base/panic.hpp"
#include "arch/i386/cpu/features.hpp"
#include "kernel/programs/futex.hpp"
#include "kernel/programs/ids.hpp"
#include "kernel/programs/initial_stack.hpp"
#include "kernel/programs/programs.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/frames/slab.hpp"
#include "mm/reclaim/last_resort.hpp"
#include "mm/spaces/user_copy.hpp"

#include <algorithm>

namespace loft {

constinit SpinLock family;

namespace {

Cache<Process> process_cache{"process", Gfp::user_low};
Cache<UserThread> user_thread_cache{"user_thread", Gfp::user_low};
Cache<SignalActions> actions_cache{"signal_actions", Gfp::user_low};

constinit Process* newest LOFT_GUARDED_BY(family) = nullptr; // of all processes

// Shared by processes and threads.
constinit IdPool ids{near_wrap<u32>(200, IdPool::kEnd)};
constinit hal::Atomic<u32> count{0}; // processes that have not been reaped
constinit WaitQueue count_changed;

// Orphans that have ended.
struct Reaper {
    Chain<Process, &Process::next> ended LOFT_GUARDED_BY(family);
    hal::Atomic<u32> waiting; // number of orphans in the list
    WaitQueue queue;
};
constinit Reaper reaper;

// No program can bring the count of a page to its limit, where the page is never freed again: a process maps a page of
// its file at most once for each segment and any other page once, and each of its threads pins at most one page. One
// more reference is that of the object or of the swap area that has it.
static_assert((ElfPlan::kMaxSegments + 1) * kMaxThreads + 3 < Page::kMaxRefs);

constexpr u32 kStackBytes = 8 * MiB; // limit of its growth
// The page above the stack is a guard: an access beyond the stack's end faults, also in a user copy.
constexpr VirtAddr kStackTop{layout::kUserEnd - kPageSize};
static_assert(kStackTop.value() - kStackBytes >= ElfPlan::kHighestEnd);

// --- Creation.

Process* make_process(std::string_view name) {
    Process* process = process_cache.make();
    if (process == nullptr) return nullptr;
    process->pid = ids.take();
    if (process->pid == 0) {
        process_cache.destroy(process);
        return nullptr;
    }
    const std::size_t size = std::min<std::size_t>(name.size(), Process::kNameBytes - 1);
    std::copy_n(name.begin(), size, process->name);
    count.fetch_add(1);
    const SpinGuard guard{family};
    process->older = newest;
    if (newest != nullptr) newest->newer = process;
    newest = process;
    return process;
}

// None of its threads runs any more.
void destroy_process(Process& process) {
    LOFT_ASSERT(process.space == nullptr);
    {
        const SpinGuard guard{family};
        LOFT_ASSERT(process.threads.empty());
        if (process.older != nullptr) process.older->newer = process.newer;
        (process.newer != nullptr ? process.newer->older : newest) = process.older;
    }
    for (SignalActions* actions : process.actions)
        if (actions != nullptr) actions_cache.destroy(actions);
    ids.give_back(process.pid);
    process_cache.destroy(&process);
    count.fetch_sub(1);
    count_changed.wake_all();
}

UserThread* make_thread(Process& process, u32 tid) {
    UserThread* thread = user_thread_cache.make();
    if (thread == nullptr) return nullptr;
    thread->process = &process;
    thread->tid = tid;
    fpu_reset(thread->fpu);
    return thread;
}

// The thread has left, or never ran. The first thread's id is the pid and is released with the process.
void destroy_thread(UserThread& thread) {
    if (thread.tid != thread.process->pid) ids.give_back(thread.tid);
    user_thread_cache.destroy(&thread);
}

void link_thread(UserThread& thread) {
    const SpinGuard guard{family};
    Process& process = *thread.process;
    process.threads.push_front(thread);
    if (process.dying.load() == 0) process.space->set_use(SpaceUse::program);
}

// --- A thread of a program: its first code in the kernel.

void begin_program(void* argument) {
    auto& me = *static_cast<UserThread*>(argument);
    // Two locked instructions (here and in end_process): either this thread sees `dying`, or the other one sees
    // `thread`.
    me.thread.exchange(thread_self());
    use_space(me.process->space);
    {
        const IrqGuard same_cpu;
        thread_self()->user = &me;
        user_registers_load(me);
    }
    Process& process = *me.process;
    if (process.watch.at_start != nullptr && me.tid == process.pid) process.watch.at_start(process.watch.argument);
    TrapFrame frame = me.first;
    static_cast<void>(hal::irq_save());
    return_to_user(frame);
    enter_user(&frame);
}

// False: no memory for a kernel thread. The caller then still owns `thread`.
bool run_thread(UserThread& thread) {
    link_thread(thread);
    if (thread_create(thread.process->name_view(), begin_program, &thread, kEveryCpu, Gfp::user) != nullptr)
        return true;
    const SpinGuard guard{family};
    Process& process = *thread.process;
    process.threads.remove(thread);
    if (process.threads.empty()) process.space->set_use(SpaceUse::none);
    return false;
}

// --- Ending.

void wake_threads(const Process& process) LOFT_REQUIRES(family) {
    for (const UserThread* thread = process.threads.first(); thread != nullptr; thread = thread->next)
        if (const Thread* its = thread->thread.load()) interrupt_thread(*its);
}

void end_process(Process& process, WaitStatus status) LOFT_REQUIRES(family) {
    if (process.dying.load() != 0) return;
    process.status = status;
    process.dying.exchange(1);
    process.space->set_use(SpaceUse::ends);
    wake_threads(process);
}

constexpr u64 bit_of(u32 signal) { return u64{1} << (signal - 1); }
constexpr u64 bits_of(std::initializer_list<u32> signals) {
    u64 set = 0;
    for (const u32 signal : signals)
        set |= bit_of(signal);
    return set;
}
constexpr u32 kSigKill = 9, kSigStop = 19;
// signal(7): these are ignored by default (SIGCHLD, SIGCONT, SIGURG, SIGWINCH), and these stop the process (SIGSTOP,
// SIGTSTP, SIGTTIN, SIGTTOU). All others end it.
constexpr u64 kIgnored = bits_of({17, 18, 23, 28}), kStopping = bits_of({kSigStop, 20, 21, 22});
constexpr u64 kNeverBlocked = bits_of({kSigKill, kSigStop});

SignalAction action_of(const Process& process, u32 signal) {
    const SignalActions* const actions = process.actions[(signal - 1) / 32];
    return actions != nullptr ? actions->action[(signal - 1) % 32] : SignalAction{};
}

enum class Effect : u8 { none, ends, unknown };
Effect effect_of(const Process& process, u32 signal) {
    const u32 handler = action_of(process, signal).handler;
    if (handler == SignalAction::kIgnore) return Effect::none;
    if (handler != SignalAction::kDefault) return Effect::unknown;
    if (kIgnored & bit_of(signal)) return Effect::none;
    return kStopping & bit_of(signal) ? Effect::unknown : Effect::ends;
}

// Sends to one thread, or to any thread of the process (null). A signal with an unsupported effect is dropped.
void send(Process& process, UserThread* thread, u32 signal) LOFT_REQUIRES(family) {
    if (effect_of(process, signal) != Effect::ends) return;
    bool blocked = true;
    for (const UserThread* one = process.threads.first(); one != nullptr; one = one->next)
        if (thread == nullptr || one == thread) blocked = blocked && (one->blocked & bit_of(signal)) != 0;
    if (!blocked)
        end_process(process, WaitStatus::killed(static_cast<Signal>(signal)));
    else
        (thread != nullptr ? thread->pending : process.pending) |= bit_of(signal);
}

// wait(2), notes: a parent that ignores SIGCHLD gets no zombies.
bool takes_no_children(const Process& parent) LOFT_REQUIRES(family) {
    constexpr u32 kNoChildWait = 2; // SA_NOCLDWAIT
    const SignalAction action = action_of(parent, static_cast<u32>(Signal::child));
    return action.handler == SignalAction::kIgnore || (action.flags & kNoChildWait) != 0;
}

// Frees a thread that has left its process, after it has left its kernel stack. The next thread that leaves calls this,
// so that the stacks of many short threads do not accumulate.
void take_thread(UserThread& thread) {
    thread_join(thread.thread.load());
    destroy_thread(thread);
}

// It is a zombie that only the caller knows.
void take_process(Process& process) LOFT_UNCHECKED {
    take_thread(*process.left);
    destroy_process(process);
}

void give_to_reaper(Process& process) LOFT_REQUIRES(family) {
    reaper.ended.push_front(process);
    reaper.waiting.fetch_add(1);
}

void reap_forever(void*) {
    for (;;) {
        reaper.queue.wait([] { return reaper.waiting.load() != 0; });
        Process* process;
        {
            const SpinGuard guard{family};
            process = reaper.ended.pop_front();
        }
        reaper.waiting.fetch_sub(1);
        take_process(*process);
    }
}

// Called by the last thread. When `family` is released the process may be reaped; the reaper waits until this thread
// has left its stack.
void become_zombie(Process& process) {
    bool for_reaper = false;
    {
        const SpinGuard guard{family};
        while (Process* child = process.children.pop_front()) {
            child->parent = nullptr;
            child->orphan = true;
            if (!child->zombie) continue;
            give_to_reaper(*child);
            for_reaper = true;
        }
        process.zombie = true;
        if (Process* const parent = process.parent) {
            const bool child = process.exit_signal == static_cast<u32>(Signal::child);
            if (process.exit_signal - 1 < kSignals) send(*parent, nullptr, process.exit_signal);
            if (child && takes_no_children(*parent)) {
                parent->children.remove(process);
                process.parent = nullptr;
                give_to_reaper(process);
                for_reaper = true;
            }
            wake_threads(*parent);
        } else if (process.orphan) {
            give_to_reaper(process);
            for_reaper = true;
        }
    }
    process.ended.complete_all();
    if (for_reaper) reaper.queue.wake_all();
}

void give_back_resources(Process& process) {
    process.files.close_all();
    process.directory.set(nullptr);
    process.output.finish();
    AddressSpace* const space = process.space;
    space->clear(); // now, although write-back may have a reference for a moment
    {
        const SpinGuard guard{family};
        process.space = nullptr;
    }
    space->put();
}

// Clears the word that pthread_join in another thread waits for. The last thread skips this, as on Linux: only other
// programs could see it.
void announce_end(const UserThread& me) {
    const UserAddr word = me.clear_tid;
    if (word.value() == 0) return;
    {
        const SpinGuard guard{family};
        if (me.process->threads.first() == &me && me.next == nullptr) return;
    }
    if (put_user<u32>(word, 0)) static_cast<void>(futex_wake(word, 1, true));
}

} // namespace

Process* current_process() {
    const UserThread* thread = current_user_thread();
    return thread != nullptr ? thread->process : nullptr;
}

UserThread* current_user_thread() {
    const Thread* thread = thread_self();
    return thread != nullptr ? thread->user : nullptr;
}

bool must_stop() {
    const Process* process = current_process();
    return process != nullptr && process->dying.load() != 0;
}

void signal_broken_pipe() { signal_self(Signal::pipe); }
void write_output(std::string_view text) { current_process()->output.write(text); }

u32 parent_pid() {
    const SpinGuard guard{family};
    const Process* parent = current_process()->parent;
    return parent != nullptr ? parent->pid : 0;
}

u32 process_count() { return count.load(); }

void process_wait_for_all() {
    count_changed.wait([] { return count.load() == 0; });
}

namespace {

bool map_stack(AddressSpace& space, const ElfPlan& plan) {
    const Prot prot = plan.stack_exec ? Prot::read | Prot::write | Prot::exec : Prot::read | Prot::write;
    return space.map(kStackTop, kPageSize, Prot::none, MapKind::guard, true) &&
           space.map(kStackTop - kStackBytes, kStackBytes, prot, MapKind::stack, true);
}

} // namespace

Started process_start(const Launch& launch, MemoryObject& file) {
    might_sleep("process_start");
    constexpr const char* kNoMemory = "there is not enough memory for it";
    ElfPlan plan;
    if (const char* problem = elf_examine(file, plan)) return {nullptr, problem};
    Process* process = make_process(launch.name);
    if (process == nullptr) return {nullptr, kNoMemory};
    process->space = AddressSpace::create();
    UserThread* thread = process->space != nullptr ? make_thread(*process, process->pid) : nullptr;
    const char* problem = thread != nullptr ? elf_load(file, plan, *process->space) : kNoMemory;
    if (problem == nullptr && !map_stack(*process->space, plan)) problem = kNoMemory;
    u32 stack = 0;
    if (problem == nullptr) {
        stack = build_initial_stack(*process->space, kStackTop, launch, plan);
        if (stack == 0) problem = "its arguments do not fit, or there is not enough memory for them";
    }
    if (problem == nullptr) {
        process->watch = launch.watch;
        process->read_exec = plan.read_exec;
        process->output.name(*process, launch.watch.output);
        process->files.open_console();
        thread->first = first_user_frame(plan.entry.value(), stack);
        if (!run_thread(*thread)) problem = kNoMemory;
    }
    if (problem == nullptr) return {process, nullptr};
    if (thread != nullptr) destroy_thread(*thread);
    if (process->space != nullptr) process->space->put();
    process->space = nullptr;
    destroy_process(*process);
    return {nullptr, problem};
}

Started process_start(const Launch& launch) {
    const Program* program = find_program(launch.name);
    if (program == nullptr) return {nullptr, "there is no module of that name"};
    MemoryObject* const file = open_program(*program);
    if (file == nullptr) return {nullptr, "there is not enough memory for it"};
    const Started started = process_start(launch, *file);
    file->put();
    return started;
}

WaitStatus process_wait(Process* process) {
    process->ended.wait();
    const WaitStatus status = process->status;
    take_process(*process);
    return status;
}

void process_kill(Process& process, WaitStatus status) {
    const SpinGuard guard{family};
    end_process(process, status);
}

ProgramEnd program_end(AddressSpace& space, const SpaceStats& has) {
    constexpr u32 kKiBPerFrame = kPageSize / KiB;
    if (must_stop()) return ProgramEnd::own;
    BufferSink<48> who;
    bool own = false;
    {
        const SpinGuard guard{family};
        Process* process = newest;
        while (process != nullptr && process->space != &space)
            process = process->older;
        if (process == nullptr) return ProgramEnd::none;
        if (process->dying.load() != 0) return ProgramEnd::other;
        own = process == current_process();
        format(who, "{}[{}]", process->name_view(), process->pid);
        end_process(*process, WaitStatus::killed(Signal::kill));
    }
    log(LogLevel::notice, "mm",
        "out of memory: {} has the most, and is killed: {} KiB in memory, {} KiB in swap, {} KiB of page tables",
        who.view(), has.resident * kKiBPerFrame, has.swapped * kKiBPerFrame, has.tables * kKiBPerFrame);
    return own ? ProgramEnd::own : ProgramEnd::other;
}

void process_end(WaitStatus status) { process_kill(*current_process(), status); }

void thread_leave(WaitStatus status) {
    UserThread& me = *current_user_thread();
    Process& process = *me.process;
    announce_end(me);
    {
        const IrqGuard same_cpu;
        thread_self()->user = nullptr;
        fpu_off();
    }
    use_space(nullptr);

    bool last;
    UserThread* before;
    {
        const SpinGuard guard{family};
        process.threads.remove(me);
        last = process.threads.empty();
        before = process.left;
        process.left = &me;
        if (last && process.dying.load() == 0) {
            process.status = status;
            process.dying.store(1);
            process.space->set_use(SpaceUse::ends);
        }
    }
    if (before != nullptr) take_thread(*before);
    if (last) {
        give_back_resources(process);
        become_zombie(process);
    }
    thread_exit();
}

namespace {

// Sets a TLS descriptor of the new thread from clone's argument. 0: success.
SysResult set_tls(UserThread& thread, UserAddr from) {
    UserDescriptor wanted{};
    if (copy_from_user(&wanted, from, sizeof wanted) != 0) return Errno::fault;
    const u32 place = wanted.entry - TlsDescriptors::kFirstEntry;
    if (place >= TlsDescriptors::kCount || !thread.tls.set(place, wanted)) return Errno::inval;
    return 0u;
}

bool copy_actions(const Process& from, Process& to) {
    for (u32 i = 0; i < std::size(from.actions); ++i) {
        if (from.actions[i] == nullptr) continue; // never removed; only threads of this process add one
        to.actions[i] = actions_cache.make();
        if (to.actions[i] == nullptr) return false;
        const SpinGuard guard{family};
        *to.actions[i] = *from.actions[i];
    }
    return true;
}

} // namespace

SysResult process_fork(const TrapFrame& frame, const CloneArguments& arguments) {
    UserThread& me = *current_user_thread();
    Process& parent = *me.process;
    Process* child = make_process(parent.name_view());
    if (child == nullptr) return Errno::again;
    UserThread* thread = make_thread(*child, child->pid);
    const Result<AddressSpace*> space =
        thread != nullptr ? parent.space->fork() : Result<AddressSpace*>{Error::no_memory};
    const auto give_up = [&](Errno why) -> SysResult {
        if (child->space != nullptr) child->space->put();
        child->space = nullptr;
        if (thread != nullptr) destroy_thread(*thread);
        destroy_process(*child);
        return why;
    };
    if (!space) return give_up(Errno::nomem);
    child->space = *space;
    if (!copy_actions(parent, *child)) return give_up(Errno::nomem);
    child->exit_signal = arguments.exit_signal;
    child->read_exec = parent.read_exec;
    child->watch = parent.watch;
    child->watch.at_start = nullptr; // only for the first process
    child->output.name(*child, parent.watch.output);

    const u32 pid = child->pid; // the child may be gone before this function returns
    thread->first = frame;
    thread->first.eax = 0;
    if (arguments.stack != 0) thread->first.user_esp = arguments.stack;
    thread->tls = me.tls;
    {
        const IrqGuard same_cpu; // the FPU holds this thread's state
        fpu_save(&thread->fpu);
    }
    if (arguments.tls) {
        const SysResult result = set_tls(*thread, *arguments.tls);
        if (result.failed()) return give_up(static_cast<Errno>(-result.value()));
    }
    // As on Linux, an unmapped address is no error.
    if (arguments.parent_tid.value() != 0) static_cast<void>(put_user(arguments.parent_tid, pid));
    if (arguments.child_tid.value() != 0)
        static_cast<void>(write_space(*child->space, arguments.child_tid, &pid, sizeof pid));
    thread->clear_tid = arguments.clear_tid;
    child->files.share_all(parent.files);
    child->directory.set(parent.directory.get());
    child->umask.store(parent.umask.load());
    {
        const SpinGuard guard{family};
        thread->blocked = me.blocked;
        child->parent = &parent;
        parent.children.push_front(*child);
    }
    if (run_thread(*thread)) return pid;
    {
        const SpinGuard guard{family};
        parent.children.remove(*child);
        wake_threads(parent); // a thread may already wait for this child
    }
    child->files.close_all();
    child->directory.set(nullptr);
    return give_up(Errno::again);
}

SysResult process_clone_thread(const TrapFrame& frame, const CloneArguments& arguments) {
    UserThread& me = *current_user_thread();
    const u32 tid = ids.take();
    if (tid == 0) return Errno::again;
    UserThread* thread = make_thread(*me.process, tid);
    if (thread == nullptr) {
        ids.give_back(tid);
        return Errno::again;
    }
    thread->first = frame;
    thread->first.eax = 0;
    if (arguments.stack != 0) thread->first.user_esp = arguments.stack;
    thread->tls = me.tls;
    thread->clear_tid = arguments.clear_tid;
    {
        const IrqGuard same_cpu;
        fpu_save(&thread->fpu);
    }
    const auto give_up = [&](Errno why) -> SysResult {
        destroy_thread(*thread);
        return why;
    };
    if (arguments.tls) {
        const SysResult result = set_tls(*thread, *arguments.tls);
        if (result.failed()) return give_up(static_cast<Errno>(-result.value()));
    }
    // As on Linux, an unmapped address is no error.
    if (arguments.parent_tid.value() != 0) static_cast<void>(put_user(arguments.parent_tid, tid));
    if (arguments.child_tid.value() != 0) static_cast<void>(put_user(arguments.child_tid, tid));
    {
        const SpinGuard guard{family};
        thread->blocked = me.blocked;
    }
    if (!run_thread(*thread)) return give_up(Errno::again);
    return tid;
}

WaitResult process_wait_child(int pid, WaitFor what, bool may_sleep) {
    Process& me = *current_process();
    for (;;) {
        bool any = false;
        Process* found = nullptr;
        {
            const SpinGuard guard{family};
            for (Process* child = me.children.first(); child != nullptr && found == nullptr; child = child->next) {
                if (pid != -1 && static_cast<u32>(pid) != child->pid) continue;
                const bool clone = child->exit_signal != static_cast<u32>(Signal::child);
                if (what != WaitFor::all && clone != (what == WaitFor::clones)) continue;
                any = true;
                if (child->zombie) found = child;
            }
            if (found != nullptr) me.children.remove(*found);
        }
        if (found != nullptr) {
            const WaitResult result{found->pid, found->status};
            take_process(*found);
            return result;
        }
        if (!any) return {Errno::child};
        if (!may_sleep) return {0u};
        if (must_stop()) return {Errno::intr};
        hal::park(); // a child that ends wakes all our threads
    }
}

// --- Signals.

namespace {

// The id of the first thread stays valid as long as the process, also after that thread has left; a signal to it then
// has no effect.
bool has_thread(const Process& process, u32 tid, UserThread*& thread) LOFT_REQUIRES(family) {
    thread = process.threads.first();
    while (thread != nullptr && thread->tid != tid)
        thread = thread->next;
    return thread != nullptr || (process.left != nullptr && tid == process.pid);
}

} // namespace

SysResult signal_thread(std::optional<u32> pid, u32 tid, u32 signal) {
    const SpinGuard guard{family};
    Process* process = newest;
    UserThread* thread = nullptr;
    while (process != nullptr && !((!pid || process->pid == *pid) && has_thread(*process, tid, thread)))
        process = process->older;
    if (process == nullptr) return Errno::srch;
    if (signal > kSignals) return Errno::inval;
    if (signal == 0 || thread == nullptr) return 0u;
    if (effect_of(*process, signal) == Effect::unknown) return Errno::nosys;
    send(*process, thread, signal);
    return 0u;
}

void signal_self(Signal signal) {
    UserThread& me = *current_user_thread();
    const SpinGuard guard{family};
    send(*me.process, &me, static_cast<u32>(signal));
}

SysResult signal_set_action(u32 signal, const SignalAction* next, SignalAction& before) {
    Process& me = *current_process();
    if (signal - 1 >= kSignals || (next != nullptr && (kNeverBlocked & bit_of(signal)))) return Errno::inval;
    SignalActions*& place = me.actions[(signal - 1) / 32];
    SignalActions* fresh = nullptr;
    if (next != nullptr && (fresh = actions_cache.make()) == nullptr) return Errno::nomem;
    {
        const SpinGuard guard{family};
        before = action_of(me, signal);
        if (next != nullptr) {
            if (place == nullptr) std::swap(place, fresh);
            place->action[(signal - 1) % 32] = *next;
            if (effect_of(me, signal) == Effect::none) { // sigaction(2): pending signals are discarded
                me.pending &= ~bit_of(signal);
                for (UserThread* thread = me.threads.first(); thread != nullptr; thread = thread->next)
                    thread->pending &= ~bit_of(signal);
            }
        }
    }
    if (fresh != nullptr) actions_cache.destroy(fresh);
    return 0u;
}

u64 signal_blocked() {
    const SpinGuard guard{family};
    return current_user_thread()->blocked;
}

void signal_set_blocked(u64 set) {
    UserThread& me = *current_user_thread();
    const SpinGuard guard{family};
    me.blocked = set & ~kNeverBlocked;
    for (u32 signal = 1; signal <= kSignals; ++signal) {
        const u64 bit = bit_of(signal);
        if (!((me.pending | me.process->pending) & bit & ~me.blocked)) continue;
        me.pending &= ~bit;
        me.process->pending &= ~bit;
        send(*me.process, &me, signal);
    }
}

void process_init() {
    if (thread_create("reaper", reap_forever, nullptr) == nullptr) refuse("not enough memory for the reaper thread");
}

// --- Output.

void ProgramOutput::write(std::string_view text) {
    const MutexGuard guard{mutex_};
    for (const char c : text) {
        if (c == '\n' || line_.view().size() == 160) print();
        if (c != '\n') line_.write({&c, 1});
    }
    if (copy_ != nullptr) copy_->write(text);
}

void ProgramOutput::finish() {
    const MutexGuard guard{mutex_};
    if (!line_.view().empty()) print();
}

// Replaces unprintable characters: a terminal could interpret them.
void ProgramOutput::print() {
    BufferSink<160> clean;
    for (const char c : line_.view()) {
        const char shown = c == '\t' ? ' ' : c < ' ' || c > '~' ? '?' : c;
        clean.write({&shown, 1});
    }
    BufferSink<48> room;
    format(room, "{}[{}]", process_->name_view(), process_->pid);
    log(LogLevel::info, room.view(), "{}", clean.view());
    line_.clear();
}

} // namespace loft
