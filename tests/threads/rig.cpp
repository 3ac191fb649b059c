// The kernel's threads under the explorer. Contract: rig.hpp.
#include "tests/threads/rig.hpp"

#include "arch/base/near_wrap.hpp"
#include "arch/i386/irq/smp.hpp"
#include "arch/i386/irq/user_mode.hpp"
#include "arch/i386/isa/control.hpp"
#include "arch/i386/isa/selectors.hpp"
#include "kernel/programs/faults.hpp"
#include "kernel/report/nmi.hpp"
#include "mm/frames/slab.hpp"
#include "mm/spaces/user_copy.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/vmap.hpp"
#include "tests/sim/agents.hpp"
#include "tests/sim/kernel/arch.hpp"
#include "tests/sim/kernel/start.hpp"
#include "tests/sim/stacks.hpp"
#include "tests/sim/statics.hpp"

#include <array>
#include <cstdio>
#include <new>

namespace loft {
namespace {

// Of the running scene; its counts begin anew with each schedule.
alignas(BytesFile) constinit u8 file_room[sizeof(BytesFile)]{};
BytesFile& file() { return *reinterpret_cast<BytesFile*>(file_room); }

} // namespace
} // namespace loft

namespace loft::test {
namespace {

Setup tiny(u32 cpus, u32 off) {
    Setup setup;
    setup.machine.cpus = cpus;
    setup.machine.off = off;
    setup.machine.ram = 24 * MiB;
    if (config::kHighMem) setup.highmem = 4 * MiB;
    return setup;
}

TrapFrame kernel_frame() {
    TrapFrame frame{};
    frame.cs = selector::kernel_code;
    frame.eflags = eflags::interrupt;
    return frame;
}

// The handler of the interrupt that has just entered the kernel, of each CPU.
std::array<const std::function<void()>*, sim::kMaxExploredCpus> entered;
const std::function<void()>*& entered_here() { return entered.at(sim::machine().current().value()); }

// The free frames when nothing is kept for later.
u32 free_frames() {
    vmap_flush();
    ObjectCache::give_back_empty_slabs();
    u32 sum = 0;
    for (u32 i = 0; i < kZones; ++i)
        sum += zone_info(static_cast<ZoneId>(i)).free;
    return sum;
}

// The lists of futexes (kernel/programs/futex.cpp), of which no function tells whether they are empty.
std::vector<u8> futex_lists() {
    std::vector<u8> bytes;
    for (const sim::StaticObject& object : sim::kernel_statics())
        if (object.name == "lists") bytes.insert(bytes.end(), object.at, object.at + object.size);
    if (bytes.empty()) throw sim::BadAccess{"there are no lists of futexes"};
    return bytes;
}

// Descriptors are never freed: those that a schedule needs are made before.
void make_descriptors() {
    constexpr u32 kEnough = 12;
    std::vector<Thread*> made;
    for (u32 i = 0; i < kEnough; ++i)
        made.push_back(take_descriptor("unused"));
    for (Thread* thread : made) {
        REQUIRE(thread != nullptr);
        give_back_descriptor(*thread);
    }
}

// The kernel thread of a program's thread that has not run yet.
Thread& kernel_thread_of(const UserThread& user) {
    struct Search {
        const UserThread& user;
        Thread* found;
    } search{user, nullptr};
    for_each_thread(
        [](const Thread& thread, void* argument) {
            auto& search = *static_cast<Search*>(argument);
            if (thread.argument == &search.user) search.found = const_cast<Thread*>(&thread);
        },
        &search);
    REQUIRE(search.found != nullptr);
    return *search.found;
}

UserThread& newest_thread(Process& process) {
    const SpinGuard guard{family};
    return *process.threads.first();
}

} // namespace

void ThreadKernel::interrupt(const std::function<void()>& handler) {
    const bool from_ring3 = std::exchange(in_ring3(), false);
    TrapFrame frame = from_ring3 ? first_user_frame(entry_point(0), 0) : kernel_frame();
    frame.vector = vector::ipi_call;
    const std::function<void()> all = [&] {
        in_interrupt();
        handler();
    };
    entered_here() = &all;
    trap_dispatch(&frame);
    in_ring3() = from_ring3; // maybe on another CPU
}
void ThreadKernel::nmi() {
    TrapFrame frame = in_ring3() ? first_user_frame(entry_point(0), 0) : kernel_frame();
    frame.vector = vector::nmi;
    trap_dispatch(&frame);
}
void ThreadKernel::tick() {
    TrapFrame frame = kernel_frame();
    sim::call_tick_handler(frame);
}

std::string ThreadKernel::threads() {
    std::string all;
    for_each_thread(
        [](const Thread& thread, void* to) {
            std::string& text = *static_cast<std::string*>(to);
            text += sim::text("{}{} is {} on CPU {}", text.empty() ? "" : ", ", thread.name_view(),
                              thread_state_name(thread.state), thread.cpu);
        },
        &all);
    return all;
}

// The kernel initialises its static objects once; every scene boots it again.
Scene::Pristine::Pristine() {
    static const std::vector<u8> first = [] {
        std::vector<u8> bytes;
        for (const sim::StaticObject& object : sim::kernel_statics())
            bytes.insert(bytes.end(), object.at, object.at + object.size);
        return bytes;
    }();
    const u8* from = first.data();
    for (const sim::StaticObject& object : sim::kernel_statics()) {
        std::copy_n(from, object.size, object.at);
        from += object.size;
    }
    sim::forget_stacks();
}

Scene::Scene(u32 cpus, u32 off) : kernel{tiny(cpus, off)} {
    nmi_init();
    faults_init();
    trap_set_handler(vector::ipi_call, [](TrapFrame&) { (*entered_here())(); });
    scheduler_init();
    make_descriptors();
    process_init();
    run_programs_by(&find_);
    new (file_room) BytesFile{program_file()};
    u32 magic = 0; // from here on it has its page
    REQUIRE(file().read(0, &magic, sizeof magic));
    main_thread = thread_self();
    main_id = ThreadId{main_thread->id.load()};
    explored.kernel = &thread_kernel;
    explored.cpus.push_back({0, [this] {
                                 main_();
                                 reap_all();
                                 thread_kernel.one_is_done();
                                 for (;;)
                                     hal::park();
                             }});
    for (u32 cpu = 1; cpu < cpus - off; ++cpu) {
        const KernelStack stack = scheduler_prepare_cpu(CpuId{cpu});
        REQUIRE(stack.exists());
        explored.cpus.push_back({stack.end.value(), [cpu] { scheduler_run(CpuId{cpu}); }});
    }
    for (u32 i = 0; i < off; ++i)
        explored.cpus.push_back({.body = sim::start_up_code, .off = true});
    if (off != 0) sim::kernel_starts_cpus();
    thread_kernel.bodies = 1;
}
void Scene::cpus_come_and_go() {
    sim::kernel_starts_cpus();
    explored.start_up_code = sim::start_up_code;
    explored.patience_ms = kCpuStartMs;
}
Scene::~Scene() {
    sim::kernel_starts_no_cpus();
    sim::forget_stacks();
}

Thread* Scene::thread(u32 cpu, std::function<void()> body, CpuSet where) {
    bodies_.emplace_back([this, body = std::move(body)] {
        body();
        thread_kernel.one_is_done();
    });
    ++thread_kernel.bodies;
    const std::string name = sim::text("t{}", threads_.size() + 1);
    Thread* made = thread_create(name, bodies_.back(), CpuSet::only(CpuId{cpu}));
    REQUIRE(made != nullptr);
    made->affinity = where;
    threads_.push_back(made);
    return made;
}

u32 Scene::function(ProgramFunction body) {
    functions_.push_back(std::move(body));
    return static_cast<u32>(functions_.size() - 1);
}

Process* Scene::program(u32 function, CpuSet where) {
    const u32 before = free_frames();
    const auto [process, problem] = process_start({.name = sim::text("p{}", programs_.size() + 1)}, file());
    INFO((problem != nullptr ? problem : ""));
    REQUIRE(process != nullptr);
    UserThread& first = newest_thread(*process);
    first.first.eip = entry_point(function);
    kernel_thread_of(first).affinity = where;
    // No function here uses a stack, and the end of a space takes a step for each page that its tables could have.
    REQUIRE(process->space->unmap(VirtAddr{layout::kUserEnd - 16 * MiB}, 16 * MiB));
    // The program's page is in memory.
    set_word(*process, user_word(0), 0);
    frames_of_programs_ += before - free_frames();
    programs_.push_back(process);
    explored.table_points = false;
    return process;
}

void Scene::sibling(Process& process, u32 function, CpuSet where) {
    const u32 before = free_frames();
    // The caller of the system call is the newest thread.
    UserThread& caller = newest_thread(process);
    main_thread->user = &caller;
    TrapFrame frame = caller.first;
    frame.eip = entry_point(function);
    const SysResult tid = process_clone_thread(frame, {});
    main_thread->user = nullptr;
    REQUIRE(!tid.failed());
    kernel_thread_of(newest_thread(process)).affinity = where;
    frames_of_programs_ += before - free_frames();
}

void Scene::set_word(Process& process, u32 address, u32 value) {
    REQUIRE(write_space(*process.space, UserAddr{address}, &value, sizeof value) == 0);
}

void Scene::of_programs(const std::function<void()>& make) {
    const u32 before = free_frames();
    make();
    frames_of_programs_ += before - free_frames();
}

void Scene::share_page(std::initializer_list<Process*> processes) {
    const u32 before = free_frames();
    auto* const object = ZeroObject::create(1);
    REQUIRE(object != nullptr);
    for (Process* process : processes) {
        REQUIRE(process->space->map(VirtAddr{kSharedPage}, kPageSize, Prot::read | Prot::write, MapKind::shared, true,
                                    true, {object, 0}));
        set_word(*process, kSharedPage, 0);
    }
    object->put();
    frames_of_programs_ += before - free_frames();
}

void Scene::more_pages(Process& process, u32 pages) {
    constexpr VirtAddr kBegin{0x2000'0000u};
    const u32 before = free_frames();
    REQUIRE(process.space->map(kBegin, pages * kPageSize, Prot::read | Prot::write, MapKind::anonymous, true));
    for (u32 page = 0; page < pages; ++page)
        REQUIRE(process.space->handle_fault(kBegin + page * kPageSize, FaultAccess::write) == FaultResult::resolved);
    frames_of_programs_ += before - free_frames();
}

Thread* Scene::thread_of_program(Process& process) { return &kernel_thread_of(newest_thread(process)); }

void Scene::reap(u32 program) { statuses_.at(program) = process_wait(programs_.at(program)); }

// Processes that others have started are reaped by these, or by the reaper.
void Scene::reap_all() {
    for (u32 i = 0; i < programs_.size(); ++i)
        if (!statuses_[i]) reap(i);
    process_wait_for_all();
}

sim::Report Scene::attempt(const sim::Plan& plan) {
    // No debt of boot is left: every TLB is flushed, and every clock is set.
    kernel.machine.online().for_each([](CpuId cpu) {
        sim::on_cpu(cpu, [] {
            tlb_flush_local_non_global();
            hal::flush_all();
        });
    });
    const u32 free_without_programs = free_frames() + frames_of_programs_;
    explored.reset = [this] {
        thread_kernel.forget();
        statuses_.assign(programs_.size(), std::nullopt);
        for (u32 i = 0; i < kWords; ++i) {
            word[i].store(0);
            count[i].store(0);
        }
        reset();
    };
    explored.check = [this, free_without_programs, empty = futex_lists()] {
        for (const Thread* thread : threads_)
            sim::expect(thread->ended.load() != 0 || thread->state == ThreadState::unused,
                        "every thread has ended, and has left its stack");
        kernel.machine.online().for_each(
            [](CpuId cpu) { sim::expect(ready_threads(cpu) == 0, "no thread waits in a queue at the end"); });
        sim::expect(since_start(thread_leaks()) == leaks, "no thread leaves anything behind but on purpose");
        sim::expect(idle_cpus() == hal::online_cpus(), "every CPU is idle, and known to be");
        sim::expect(futex_lists() == empty, "nobody waits in a list of futexes at the end");
        if (const u32 free = programs_.empty() ? free_without_programs : free_frames(); free != free_without_programs)
            throw sim::NotAllowed{sim::text("{} frames are free at the end, not {}", free, free_without_programs)};
        check();
    };
    const sim::Report report = sim::explore(explored, plan);
    sim::count_in_total(report);
    return report;
}

sim::Report Scene::explore(sim::Plan plan) {
    plan = sim::as_wished(plan);
    const sim::Report report = attempt(plan);
    const std::string name = Catch::getResultCapture().getCurrentTestName();
    std::printf("%s: %llu schedules, %s; %llu more given up half-way, %llu steps, up to %llu\n", name.c_str(),
                static_cast<unsigned long long>(report.schedules), sim::extent(plan, report).c_str(),
                static_cast<unsigned long long>(report.pruned), static_cast<unsigned long long>(report.steps),
                static_cast<unsigned long long>(report.longest));
    INFO(report.trace);
    INFO("LOFT_SCHEDULE='" << report.schedule << "'");
    INFO(report.failure);
    CHECK(report.failure.empty());
    return report;
}

void wait_for(hal::Plain<u32>& word) {
    while (word.load() == 0)
        hal::park();
}

void expect_allowed() {
    const Thread& me = *thread_self();
    sim::expect(me.affinity.has(hal::this_cpu()), "a thread runs only where it may");
}

} // namespace loft::test
