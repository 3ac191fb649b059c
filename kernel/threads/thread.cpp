// Thread descriptors and stacks. Contract: thread.hpp.
#include "kernel/threads/thread.hpp"

#include "arch/base/near_wrap.hpp"
#include "arch/base/panic.hpp"
#include "arch/i386/cpu/image.hpp"
#include "kernel/report/stopped_cpus.hpp"
#include "mm/frames/slab.hpp"
#include "mm/windows/vmap.hpp"

#include <algorithm>
#include <array>

namespace loft {
namespace {

// At most kMaxThreads descriptors, never freed: so those for threads of programs also come from the kernel's memory.
Cache<Thread> thread_cache{"thread", Gfp::kernel};

// A ThreadId is an index into the table and, above it, the number of uses of that place: a later thread has another id.
// After 2^21 uses of the place an old id names a thread again: a wake-up by it is then spurious, and nothing else uses
// the id of a thread that has ended. Bit 31 stays clear, because a mutex stores id + 1.
constexpr u32 kIndexBits = 10, kIndexMask = (1u << kIndexBits) - 1;
static_assert(kMaxThreads == kIndexMask);
constexpr u32 id_of(u32 place, u32 use) { return (place | use << kIndexBits) & ~(1u << 31); }
static_assert(id_of(kMaxThreads, ~0u) + 1 != 0);
constexpr u32 kFirstUse = near_wrap<u32>(2); // few places are used often

struct Table {
    SpinLock lock{LockRank::threads};
    // Written under the lock, read without it: a descriptor is never freed. Place 0 is not used.
    hal::Plain<Thread*> thread[kMaxThreads + 1];
    hal::Plain<u32> last;                              // the last place that has ever been used
    u32 uses[kMaxThreads + 1] LOFT_GUARDED_BY(lock){}; // beyond kFirstUse
};
Table table;
constinit hal::Atomic<u32> leaks{near_wrap<u32>()};

struct DoubleFaultStack {
    u32 begin = 0;
};
LOFT_PERCPU hal::PerCpu<DoubleFaultStack> double_fault_stack;

void set_name(Thread& thread, std::string_view name) {
    const std::size_t size = std::min<std::size_t>(name.size(), Thread::kNameBytes - 1);
    std::copy_n(name.begin(), size, thread.name);
    thread.name[size] = '\0';
}

} // namespace

const char* thread_state_name(ThreadState state) {
    switch (state) {
    case ThreadState::unused:
        return "unused";
    case ThreadState::ready:
        return "ready";
    case ThreadState::running:
        return "running";
    case ThreadState::moving:
        return "moving";
    case ThreadState::parked:
        return "parked";
    case ThreadState::ended:
        return "ended";
    }
    return "?";
}

Thread* take_descriptor(std::string_view name) {
    SpinGuard guard{table.lock};
    u32 place = 0;
    for (u32 i = 1; i <= kMaxThreads && place == 0; ++i)
        if (const Thread* one = table.thread[i].load(); one == nullptr || one->id.load() == 0) place = i;
    if (place == 0) return nullptr;
    Thread* thread = table.thread[place].load();
    if (thread == nullptr) thread = thread_cache.make();
    if (thread == nullptr) return nullptr;
    set_name(*thread, name);
    thread->state = ThreadState::parked;
    thread->affinity = kEveryCpu;
    thread->migrate_disabled = thread->move_to = 0;
    thread->permit.store(Thread::kNoPermit);
    thread->context = Context{};
    thread->local.depth = 0;
    thread->space = nullptr;
    thread->user = nullptr;
    thread->ended.store(0);
    thread->joiner.store(0);
    thread->switches = thread->migrations = near_wrap<u32>();
    thread->id.store(id_of(place, kFirstUse + ++table.uses[place]));
    table.thread[place].store(thread);
    if (place > table.last.load()) table.last.store(place);
    return thread;
}

void give_back_descriptor(Thread& thread) {
    SpinGuard guard{table.lock};
    thread.state = ThreadState::unused;
    thread.id.store(0);
}

std::string_view running_thread_name() {
    const Thread* thread = thread_self();
    return thread != nullptr ? thread->name_view() : "\"boot\"";
}

// Once `ended` is set, the descriptor may belong to another thread: `joiner` is then that thread's, and a surplus
// wake-up is harmless.
void thread_has_ended(Thread& thread) {
    thread.ended.exchange(1);
    if (const u32 joiner = thread.joiner.load(); joiner != 0) hal::unpark(ThreadId{joiner});
}

u32 thread_leaks() { return leaks.load(); }

// Reports what the thread still holds, and unwinds its local maps: the next thread on this CPU must find no held slots.
void report_leaks(std::string_view what, const Thread& thread) {
    const u32 kmaps = Context::kmaps_of(context.load<&Context::minus_kmaps>());
    if (!local_held() && kmaps == 0) [[likely]]
        return;
    leaks.fetch_add(1);
    BufferSink<64> where;
    format(where, "thread {} {}", thread.name_view(), what);
    where.write(std::string_view{"\0", 1});
    if (!local_check_leaks(where.view().data())) local_unwind(0);
    if (kmaps != 0) log(LogLevel::error, "kmap", "thread {} {} with {} pages mapped", thread.name_view(), what, kmaps);
}

void check_return_to_user() {
    Context& mine = context.mine();
    if (!local_held() && mine.minus_kmaps == 0 && mine.preempt_count == 0 && mine.pagefaults_off == 0) [[likely]]
        return;
    const Thread& me = *thread_self();
    report_leaks("returned to its program", me);
    mine.minus_kmaps = 0; // reported once
    if (mine.preempt_count != 0 || mine.pagefaults_off != 0) {
        leaks.fetch_add(1);
        log(LogLevel::error, "thread",
            "thread {} returned to its program with preempt count {}, page faults off {} times", me.name_view(),
            mine.preempt_depth(), mine.pagefaults_off);
        mine.preempt_count = mine.pagefaults_off = 0;
    }
}

void for_each_thread(void (*visit)(const Thread&, void*), void* argument) {
    const u32 last = table.last.load();
    for (u32 place = 1; place <= last; ++place)
        if (const Thread* thread = table.thread[place].load(); thread != nullptr && thread->id.load() != 0)
            visit(*thread, argument);
}

Thread* thread_of(ThreadId id) {
    Thread* thread = table.thread[id.value() & kIndexMask].load();
    return thread != nullptr && thread->id.load() == id.value() ? thread : nullptr;
}

bool in_stack_guard(VirtAddr va) {
    const auto below = [va](VirtAddr begin) { return begin != VirtAddr{} && va.page() == begin - kPageSize; };
    const Thread* me = thread_self();
    return va.page() == image_addr(__boot_stack_guard) || va.page() == image_addr(__df_stack_guard) ||
           (me != nullptr && below(me->stack_begin)) || below(VirtAddr{double_fault_stack.mine().begin});
}

KernelStack make_stack(u32 bytes, Gfp gfp) {
    const Result<VirtAddr> memory = vmalloc(bytes, gfp);
    if (!memory) return {};
    return {*memory, *memory + bytes};
}
void give_back_stack(KernelStack stack) { vfree(stack.begin); }
void set_double_fault_stack(CpuId cpu, KernelStack stack) { double_fault_stack.of(cpu).begin = stack.begin.value(); }

Thread* thread_adopt(std::string_view name, KernelStack stack) {
    Thread* thread = take_descriptor(name);
    if (thread == nullptr) return nullptr;
    thread->stack_begin = stack.begin;
    thread->stack_end = stack.end;
    return thread;
}

} // namespace loft
