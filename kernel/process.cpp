// Programs that run. Contract: process.hpp.
#include "kernel/process.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/features.hpp"
#include "kernel/futex.hpp"
#include "kernel/initial_stack.hpp"
#include "kernel/programs.hpp"
#include "kernel/scheduler.hpp"
#include "mm/slab.hpp"
#include "mm/user_copy.hpp"

#include <algorithm>

namespace loft {
namespace {

Cache<Process> process_cache{"process", Gfp::user_low};
Cache<UserThread> user_thread_cache{"user_thread", Gfp::user_low};

// Who is whose child, and which threads a process has. Short, and never held while anything is allocated.
constinit SpinLock family;

constinit hal::Atomic<u32> last_id{0}; // processes and threads are counted together
constinit hal::Atomic<u32> count{0};   // processes that have not been taken
constinit WaitQueue count_changed;

// Orphans that have ended.
struct Reaper {
    Process* first = nullptr; // under `family`
    hal::Atomic<u32> waiting; // how many
    WaitQueue queue;
};
constinit Reaper reaper;

constexpr u32 kStackBytes = 8 * MiB; // as far as it may grow
constexpr VirtAddr kStackTop{layout::kUserEnd -
                             kPageSize}; // the page above is nobody's: a copy that runs over ends there
static_assert(kStackTop.value() - kStackBytes >= ElfPlan::kHighestEnd);

u32 new_id() { return last_id.fetch_add(1) + 1; }

// --- Making.

Process* make_process(std::string_view name) {
    Process* process = process_cache.make();
    if (process == nullptr) return nullptr;
    process->pid = new_id();
    const std::size_t size = std::min<std::size_t>(name.size(), Process::kNameBytes - 1);
    std::copy_n(name.begin(), size, process->name);
    count.fetch_add(1);
    return process;
}

// Nothing of it runs any more.
void destroy_process(Process& process) {
    LOFT_ASSERT(process.threads == nullptr && process.space == nullptr);
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

void link_thread(UserThread& thread) {
    const SpinGuard guard{family};
    thread.next = thread.process->threads;
    thread.process->threads = &thread;
}

// `family` is held.
void unlink_thread(UserThread& thread) {
    UserThread** at = &thread.process->threads;
    while (*at != &thread)
        at = &(*at)->next;
    *at = thread.next;
}

template <typename T> void unlink(T*& list, T& one) {
    T** at = &list;
    while (*at != &one)
        at = &(*at)->next;
    *at = one.next;
}

// --- A thread of a program, from its first instruction in the kernel on.

void begin_program(void* argument) {
    auto& me = *static_cast<UserThread*>(argument);
    me.thread.store(thread_self());
    use_space(me.process->space);
    {
        const IrqGuard same_cpu;
        thread_self()->user = &me;
        user_registers_load(me);
    }
    Process& process = *me.process;
    if (process.watch.at_start != nullptr && me.tid == process.pid)
        process.watch.at_start(process.watch.argument);
    TrapFrame frame = me.first;
    static_cast<void>(hal::irq_save());
    return_to_user(frame);
    enter_user(&frame);
}

// False: there is no memory for another one. What `thread` is made of stays the caller's then.
bool run_thread(UserThread& thread) {
    link_thread(thread);
    if (thread_create(thread.process->name_view(), begin_program, &thread, kEveryCpu, Gfp::user) != nullptr) return true;
    const SpinGuard guard{family};
    unlink_thread(thread);
    return false;
}

// --- Ending.

// `family` is held.
void wake_threads(const Process& process) {
    for (const UserThread* thread = process.threads; thread != nullptr; thread = thread->next)
        if (const Thread* its = thread->thread.load()) interrupt_thread(*its);
}

// A thread that has left its program, and is about to leave its stack. One that left later takes it away, so that a
// program with many short threads does not collect their stacks.
void take_thread(UserThread& thread) {
    thread_join(thread.thread.load());
    user_thread_cache.destroy(&thread);
}

void take_process(Process& process) {
    take_thread(*process.left);
    destroy_process(process);
}

// `family` is held.
void give_to_reaper(Process& process) {
    process.next = reaper.first;
    reaper.first = &process;
    reaper.waiting.fetch_add(1);
}

void reap_forever(void*) {
    for (;;) {
        reaper.queue.wait([] { return reaper.waiting.load() != 0; });
        Process* process;
        {
            const SpinGuard guard{family};
            process = reaper.first;
            reaper.first = process->next;
        }
        reaper.waiting.fetch_sub(1);
        take_process(*process);
    }
}

// By the last thread. When `family` is free again the process belongs to whoever takes it, but not before this thread
// has left its stack.
void become_zombie(Process& process) {
    bool for_reaper = false;
    {
        const SpinGuard guard{family};
        while (Process* child = process.children) {
            process.children = child->next;
            child->parent = nullptr;
            child->orphan = true;
            if (!child->zombie) continue;
            give_to_reaper(*child);
            for_reaper = true;
        }
        process.zombie = true;
        if (process.parent != nullptr) {
            wake_threads(*process.parent);
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
    process.output.finish();
    AddressSpace* space = process.space;
    process.space = nullptr;
    space->put();
}

// Linux does the same for the words that pthread_join waits for.
void announce_end(UserAddr word) {
    if (word.value() == 0) return;
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

u32 parent_pid() {
    const SpinGuard guard{family};
    const Process* parent = current_process()->parent;
    return parent != nullptr ? parent->pid : 0;
}

u32 process_count() { return count.load(); }

void process_wait_for_all() {
    count_changed.wait([] { return count.load() == 0; });
}

Started process_start(const Launch& launch, const ProgramImage& image) {
    might_sleep("process_start");
    constexpr const char* kNoMemory = "there is not enough memory for it";
    ElfPlan plan;
    if (const char* problem = elf_examine(image, plan)) return {nullptr, problem};
    Process* process = make_process(launch.name);
    if (process == nullptr) return {nullptr, kNoMemory};
    process->space = AddressSpace::create();
    UserThread* thread = process->space != nullptr ? make_thread(*process, process->pid) : nullptr;
    const char* problem = thread != nullptr ? elf_load(image, plan, *process->space) : kNoMemory;
    if (problem == nullptr && !process->space->map(kStackTop - kStackBytes, kStackBytes,
                                                   Prot::read | Prot::write, MapKind::stack, true))
        problem = kNoMemory;
    u32 stack = 0;
    if (problem == nullptr) {
        stack = build_initial_stack(*process->space, kStackTop, launch, plan);
        if (stack == 0) problem = "its arguments do not fit, or there is not enough memory for them";
    }
    if (problem == nullptr) {
        process->watch = launch.watch;
        process->output.name(*process, launch.watch.output);
        process->files.open_console();
        thread->first = first_user_frame(plan.entry.value(), stack);
        if (!run_thread(*thread)) problem = kNoMemory;
    }
    if (problem == nullptr) return {process, nullptr};
    if (thread != nullptr) user_thread_cache.destroy(thread);
    if (process->space != nullptr) process->space->put();
    process->space = nullptr;
    destroy_process(*process);
    return {nullptr, problem};
}

Started process_start(const Launch& launch) {
    const Program* program = find_program(launch.name);
    if (program == nullptr) return {nullptr, "there is no module of that name"};
    return process_start(launch, program->image);
}

WaitStatus process_wait(Process* process) {
    process->ended.wait();
    const WaitStatus status = process->status;
    take_process(*process);
    return status;
}

void process_kill(Process& process, WaitStatus status) {
    const SpinGuard guard{family};
    if (process.dying.load() != 0) return;
    process.status = status;
    process.dying.store(1);
    wake_threads(process);
}

void process_end(WaitStatus status) { process_kill(*current_process(), status); }

void thread_leave(WaitStatus status) {
    UserThread& me = *current_user_thread();
    Process& process = *me.process;
    announce_end(me.clear_tid);
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
        unlink_thread(me);
        last = process.threads == nullptr;
        before = process.left;
        process.left = &me;
        if (last && process.dying.load() == 0) {
            process.status = status;
            process.dying.store(1);
        }
    }
    if (before != nullptr) take_thread(*before);
    if (last) {
        give_back_resources(process);
        become_zombie(process);
    }
    thread_exit();
}

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
        if (thread != nullptr) user_thread_cache.destroy(thread);
        destroy_process(*child);
        return why;
    };
    if (!space) return give_up(Errno::nomem);
    child->space = *space;
    child->watch = parent.watch;
    child->watch.at_start = nullptr; // that is for the first one
    child->output.name(*child, parent.watch.output);

    const u32 pid = child->pid; // the child may be gone when this is returned
    thread->first = frame;
    thread->first.eax = 0;
    if (arguments.stack != 0) thread->first.user_esp = arguments.stack;
    thread->tls = me.tls;
    {
        const IrqGuard same_cpu; // the registers are ours for the moment
        fpu_save(&thread->fpu);
    }
    if (arguments.parent_tid.value() != 0 && !put_user(arguments.parent_tid, pid))
        return give_up(Errno::fault);
    if (arguments.child_tid.value() != 0 &&
        write_space(*child->space, arguments.child_tid, &pid, sizeof pid) != 0)
        return give_up(Errno::fault);
    thread->clear_tid = arguments.clear_tid;
    child->files.share_all(parent.files);
    {
        const SpinGuard guard{family};
        child->parent = &parent;
        child->next = parent.children;
        parent.children = child;
    }
    if (run_thread(*thread)) return pid;
    {
        const SpinGuard guard{family};
        unlink(parent.children, *child);
    }
    child->files.close_all();
    return give_up(Errno::again);
}

SysResult process_clone_thread(const TrapFrame& frame, const CloneArguments& arguments) {
    UserThread& me = *current_user_thread();
    UserThread* thread = make_thread(*me.process, new_id());
    if (thread == nullptr) return Errno::again;
    const u32 tid = thread->tid;
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
        user_thread_cache.destroy(thread);
        return why;
    };
    if (arguments.tls.value() != 0) {
        UserDescriptor wanted{};
        if (copy_from_user(&wanted, arguments.tls, sizeof wanted) != 0) return give_up(Errno::fault);
        const u32 place = wanted.entry - TlsDescriptors::kFirstEntry;
        if (place >= TlsDescriptors::kCount || !thread->tls.set(place, wanted)) return give_up(Errno::inval);
    }
    if (arguments.parent_tid.value() != 0 && !put_user(arguments.parent_tid, tid))
        return give_up(Errno::fault);
    if (arguments.child_tid.value() != 0 && !put_user(arguments.child_tid, tid)) return give_up(Errno::fault);
    if (!run_thread(*thread)) return give_up(Errno::again);
    return tid;
}

WaitResult process_wait_child(int pid, bool may_sleep) {
    Process& me = *current_process();
    for (;;) {
        bool any = false;
        Process* found = nullptr;
        {
            const SpinGuard guard{family};
            for (Process* child = me.children; child != nullptr && found == nullptr; child = child->next) {
                if (pid != -1 && static_cast<u32>(pid) != child->pid) continue;
                any = true;
                if (child->zombie) found = child;
            }
            if (found != nullptr) unlink(me.children, *found);
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

void process_init() {
    if (thread_create("reaper", reap_forever, nullptr) == nullptr)
        refuse("not enough memory for the thread that takes care of ended programs");
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

// What is not printable, a terminal might obey.
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
