// Running one schedule. Contract: world.hpp.
#include "tests/sim/world.hpp"

#include "tests/sim/races.hpp"
#include <hal/cpu.hpp>

#include <bit>
#include <cstring>
#include <utility>

namespace loft::sim {
namespace {

World* the_world; // not null while an exploration runs

constexpr u32 kLateTicks = 8; // of each CPU, when nothing else can take a step

// The vectors of interrupts between CPUs have a higher priority than the timer's (arch/i386/isa/vectors.hpp).
constexpr u64 line_of(u32 cpu, Interrupt what) {
    return what == Interrupt::call         ? place::interrupt_line(cpu)
           : what == Interrupt::reschedule ? place::reschedule_line(cpu)
           : what == Interrupt::tick       ? place::tick_line(cpu)
                                           : place::device_line(cpu);
}

// Its steps are no code of mm.
bool acts_alone(u32 agent) { return role_of(agent) != Role::program && role_of(agent) != Role::interrupt; }

} // namespace

World& world() { return *the_world; }

// --- the places that a waiting loop has read

void World::Watch::read(u64 place) {
    for (u32 i = 0; i < kPlaces; ++i)
        if (place_[i] == place) fresh_[i] = false, place_[i] = 0; // moves to the youngest places
    place_[next_] = place;
    fresh_[next_] = true;
    next_ = (next_ + 1) % kPlaces;
}

bool World::Watch::written(u64 place) {
    for (u32 i = 0; i < kPlaces; ++i) {
        if (place_[i] != place || !fresh_[i]) continue;
        fresh_[i] = false;
        const bool news = !woken_;
        woken_ = true;
        return news;
    }
    return false;
}

// --- construction, start and end of a schedule

World::World(const Case& c) : case_{c}, cores_(machine().options().cpus), idle_body_{[this] { idle_loop(); }} {
    if (machine().devices().size() > kMaxDevices) throw BadAccess{"too many devices to explore"};
    if (cores_.size() > kMaxExploredCpus) throw BadAccess{"too many CPUs to explore"};
    if (!c.cpus.empty() && c.cpus.size() != cores_.size()) throw BadAccess{"every CPU needs its first function"};
    if (kernel_has_threads() && races::kOn) throw BadAccess{"no races are looked for in a kernel that has threads"};
    if (kernel_has_threads()) stacks().save();
    for (u32 i = 0; i < c.threads.size(); ++i) {
        threads_.push_back(std::make_unique<Thread>());
        threads_.back()->main = [this, i] { thread_main(i); };
    }
    the_world = this;
}

World::~World() {
    the_world = nullptr;
    detail::exploring = false;
    snapshot_.restore(); // the state before the exploration
    if (kernel_has_threads()) stacks().restore();
}

void World::begin() {
    snapshot_.restore();
    case_.reset();
    steps_ = 0;
    failed_ = in_a_step_ = false;
    ticks_ = 0;
    failure_.clear();
    preemptions_left_ = case_.preemptions;
    deadlines_left_ = case_.deadlines;
    for (Core& core : cores_) {
        core.program = core.interrupt = Context{};
        core.thread = kNobody;
        core.queue.clear();
        core.in_handler = core.in_timer = core.halted = core.interrupted = core.hlt_follows = false;
        core.requested = 0;
        core.ticks_left = core.late_ticks_left = core.nmis_left = 0;
        core.power = Power::runs;
        core.listens = true;
        core.apic = static_cast<u32>(&core - cores_.data());
        core.idle.start(&idle_body_);
        core.fiber = &core.idle;
    }
    if (kernel_has_threads()) {
        stacks().restore();
        for (u32 cpu = 0; cpu < cores_.size(); ++cpu)
            begin_cpu(cpu);
        return;
    }
    for (u32 i = 0; i < threads_.size(); ++i) {
        Thread& t = *threads_[i];
        t.ended = t.parked = t.permit = t.leaving = false;
        t.fiber.start(&t.main);
        Core& core = cores_[case_.threads[i].cpu];
        if (core.thread == kNobody) {
            core.thread = i;
            core.fiber = &t.fiber;
        } else {
            core.queue.push_back(i);
        }
    }
    if constexpr (races::kOn) {
        std::vector<races::Stack> stacks;
        for (const auto& thread : threads_)
            stacks.push_back({thread->fiber.stack(), Fiber::kStack});
        for (const Core& core : cores_)
            stacks.push_back({core.idle.stack(), Fiber::kStack});
        races::begin(stacks, case_.plain_points);
    }
}

// --- who runs, and what orders the programs and the interrupts, for races.hpp

void World::tell_who_runs() {
    if constexpr (races::kOn) {
        const Core& core = here();
        const Role role = core.in_handler || core.in_timer ? Role::interrupt : Role::program;
        races::run(agent(machine().current().value(), role), core.thread + 1, {core.fiber->stack(), Fiber::kStack});
    }
}

// A program turns the interrupts of its CPU off, or on. So it excludes the handlers: the flag is a lock of the CPU.
void World::order_program(bool off) {
    if constexpr (races::kOn) {
        const u64 flag = place::interrupt_flag(machine().current().value());
        off ? races::acquire(flag) : races::release(flag);
    }
}

void World::give_ticks(Core& core) {
    core.ticks_left = case_.ticks;
    core.late_ticks_left = case_.ticks != 0 ? kLateTicks : 0;
}

void World::begin_cpu(u32 cpu) {
    Core& core = cores_[cpu];
    const bool off = case_.cpus[cpu].off;
    if (off) {
        core.power = Power::off;
        core.listens = false;
        core.program.next = Point::atomic;
    } else {
        give_ticks(core);
    }
    core.nmis_left = (case_.nmi_cpus >> cpu & 1) != 0 ? case_.nmis : 0;
    core.stack = &core.own;
    if (const u32 end = case_.cpus[cpu].stack_end; end != 0) {
        core.stack = stacks().ending_at(end);
        if (core.stack == nullptr) throw BadAccess{text("CPU {}: prepare_stack has made no such stack", cpu)};
    }
    core.own.pointer = core.stack->pointer = 0;
    core.stack->body = [this, cpu] {
        while (deliver_) { // an interrupt before the first line
            deliver();
            running().leave();
        }
        try {
            case_.cpus[cpu].body();
        } catch (const std::exception& error) {
            stop(error.what());
        }
        stop("the first function of a CPU has returned");
    };
    core.stack->fiber.start(&core.stack->body);
    core.fiber = &core.stack->fiber;
    machine().cpu(CpuId{cpu}).interrupts = cpu == 0;
}

// --- the agents that can take the next step

bool World::somebody_waits(const Core& core) const {
    for (const u32 thread : core.queue)
        if (!threads_[thread]->leaving) return true;
    return false;
}

bool World::ready(u32 cpu, const Context& context) const {
    if (context.waits && !context.watch.woken()) return false;
    return !drains(context.next) || machine().cpu(CpuId{cpu}).buffer.empty();
}

// An interrupt is pending, and can be delivered. It drains the store buffer before its first instruction.
bool World::can_interrupt(u32 cpu) const {
    const Cpu& state = machine().cpu(CpuId{cpu});
    return cores_[cpu].requested != 0 && state.interrupts && state.buffer.empty();
}

AgentSet World::enabled() {
    AgentSet set = 0;
    for (u32 cpu = 0; cpu < cores_.size(); ++cpu) {
        const Core& core = cores_[cpu];
        const Cpu& state = machine().cpu(CpuId{cpu});
        if (core.in_handler) {
            if (ready(cpu, core.interrupt) || can_interrupt(cpu)) set |= only(agent(cpu, Role::interrupt));
        } else {
            const bool sleeps = (core.halted && !core.interrupted && !somebody_waits(core)) || !can_run(core);
            if (!sleeps && ready(cpu, core.program)) set |= only(agent(cpu, Role::program));
            if (can_interrupt(cpu)) set |= only(agent(cpu, Role::interrupt));
        }
        if (!state.buffer.empty()) set |= only(agent(cpu, Role::buffer));
    }
    for (u32 i = 0; i < machine().devices().size(); ++i)
        if (machine().devices()[i]->can_step()) set |= only(device_agent(i));
    if (!kernel_has_threads()) return set;
    // The last step of yield() is a cpu_relax, which may be that of a waiting loop or not.
    for (u32 cpu = 0; set == 0 && cpu < cores_.size(); ++cpu)
        if (const Context& context = cores_[cpu].program; !cores_[cpu].in_handler && context.waits && !context.returned)
            set |= only(agent(cpu, Role::program));
    // Also when the test is done: the reduction tries earlier what it has seen later.
    set |= timers(&Core::ticks_left);
    for (u32 cpu = 0; cpu < cores_.size(); ++cpu) // the entry drains the store buffer
        if (cores_[cpu].nmis_left != 0 && machine().cpu(CpuId{cpu}).buffer.empty()) set |= only(agent(cpu, Role::nmi));
    if (set == 0 && !case_.kernel->done()) set |= timers(&Core::late_ticks_left);
    return set;
}

AgentSet World::timers(u32 Core::*left) const {
    AgentSet set = 0;
    for (u32 cpu = 0; cpu < cores_.size(); ++cpu)
        if (cores_[cpu].*left != 0 && (cores_[cpu].requested & bit(Interrupt::tick)) == 0)
            set |= only(agent(cpu, Role::timer));
    return set;
}

World::End World::run(Strategy& strategy) {
    strategy_ = &strategy;
    begin();
    detail::exploring = true;
    End end = End::good;
    try {
        for (;;) {
            const AgentSet able = enabled();
            if (able == 0) break;
            if (steps_ == case_.longest) {
                failed_ = true;
                failure_ = text("livelock: not over after {} steps", steps_);
                break;
            }
            const u32 next = strategy.pick(able);
            if (next == kNobody) {
                end = End::pruned;
                break;
            }
            in_a_step_ = true;
            step(next);
            if (failed_) break;
            in_a_step_ = false;
            strategy.done(steps_, event());
            ++steps_;
        }
        detail::exploring = false;
        if (end == End::good && !failed_) {
            judge_end();
            if (!failed_) case_.check();
        }
    } catch (const std::exception& error) { // from a check, or from a store that is drained
        detail::exploring = false;
        on_fiber_ = false;
        failed_ = true;
        failure_ = error.what();
    }
    if (failed_) {
        end = End::bad;
        // Abandoned stacks are kept, so that a leak checker still finds the objects that they own.
        static auto& graveyard = *new std::vector<std::unique_ptr<Thread>>;
        for (auto& thread : threads_) {
            auto fresh = std::make_unique<Thread>();
            fresh->main = thread->main;
            graveyard.push_back(std::exchange(thread, std::move(fresh)));
        }
    }
    return end;
}

// No agent can take a step.
void World::judge_end() {
    for (u32 i = 0; i < threads_.size(); ++i) {
        if (threads_[i]->ended) continue;
        failed_ = true;
        failure_ += text("{}thread {} {}", failure_.empty() ? "deadlock: " : ", ", i + 1,
                         threads_[i]->parked ? "sleeps and no thread wakes it" : "waits for ever");
    }
    if (kernel_has_threads() && !case_.kernel->done()) {
        failed_ = true;
        failure_ = "deadlock: " + case_.kernel->threads();
    }
}

// A CPU that runs on a stack that has been freed.
void World::check_stack(u32 cpu) {
    const Stack* const stack = cores_[cpu].stack;
    if (stack == nullptr || stack->end == 0 || machine().translate(VirtAddr{stack->end - 4})) return;
    failed_ = true;
    failure_ = text("CPU {} runs on stack {}, which is not mapped", cpu, stack->number);
}

// The next step of the interrupt's agent is the entry of one: always if none is handled, else the machine chooses where
// the handler has turned interrupts on.
bool World::enters_interrupt(u32 cpu) {
    Core& core = cores_[cpu];
    if (!core.in_handler) return true;
    if (!machine().cpu(CpuId{cpu}).interrupts) return false;
    for (const Interrupt what : {Interrupt::device, Interrupt::tick, Interrupt::reschedule, Interrupt::call})
        event().footprint.add(line_of(cpu, what), false);
    return can_interrupt(cpu) && (!ready(cpu, core.interrupt) || choice(2) != 0);
}

void World::step(u32 who) {
    if (events_.size() <= steps_) events_.resize(steps_ + 64);
    Event& e = event();
    e.agent = who;
    e.footprint.clear();
    e.chosen.clear();
    e.woke = 0;
    e.stored = 0;
    e.block = steps_;
    e.delivery = false;
    e.drained = false;
    if (role_of(who) == Role::device) {
        e.point = Point::io;
        e.thread = 0;
        const u32 device = who - kFirstDevice;
        touched(place::device(device), true);
        machine().devices()[device]->step();
        return;
    }
    const u32 cpu = cpu_of(who);
    Core& core = cores_[cpu];
    machine().switch_to(CpuId{cpu});
    e.thread = kernel_has_threads() ? core.stack->number : core.thread + 1;

    if (role_of(who) == Role::buffer) {
        e.point = Point::store;
        if constexpr (races::kOn) races::drained(cpu);
        machine().drain(CpuId{cpu});
        return;
    }
    if (role_of(who) == Role::timer) {
        e.point = Point::irq;
        --(core.ticks_left != 0 ? core.ticks_left : core.late_ticks_left);
        ++ticks_;
        touched(place::time, true);
        send(cpu, Interrupt::tick);
        return;
    }
    if (role_of(who) == Role::nmi) return nmi(cpu);
    if (case_.nmis != 0) e.footprint.add(place::nmi_line(cpu), false); // one can come before this step, or after it
    check_stack(cpu);
    if (failed_) return;
    if (role_of(who) == Role::interrupt && enters_interrupt(cpu)) {
        e.point = Point::irq;
        e.delivery = e.drained = true;
        core.delivered = static_cast<Interrupt>(std::bit_width(core.requested) - 1);
        core.requested &= ~bit(core.delivered);
        e.cause = core.sender[static_cast<u32>(core.delivered)];
        core.delivery = steps_;
        deliver_ = true;
    } else {
        Context& context = role_of(who) == Role::interrupt ? core.interrupt : core.program;
        e.point = context.next;
        e.drained = drains(context.next);
        if (context.waits) {
            context.returned = !context.watch.woken();
            context.waits = false;
            context.watch.clear();
        }
        if (role_of(who) == Role::interrupt)
            e.block = core.delivery;
        else if (!machine().cpu(CpuId{cpu}).interrupts)
            e.block = core.irqs_off_since;
    }
    on_fiber_ = true;
    unseen_ = false;
    tell_who_runs();
    core.fiber->resume();
    on_fiber_ = false;
    if constexpr (races::kOn) races::run(kNobody, 0, {});
}

// An NMI with its handler, at once: it runs beside the code that it interrupts, waits for nobody, and leaves everything
// as it was.
void World::nmi(u32 cpu) {
    Core& core = cores_[cpu];
    Cpu& state = machine().cpu(CpuId{cpu});
    event().point = Point::irq;
    // Its entry needs an empty store buffer, but it need not follow the stores: it could have come before them.
    --core.nmis_left;
    touched(place::nmi_line(cpu), true);
    std::vector<u8> before;
    for (const StaticObject& object : kernel_statics())
        before.insert(before.end(), object.at, object.at + object.size);
    const bool interrupts = std::exchange(state.interrupts, false);
    const u32 cr2 = state.cr2;
    case_.kernel->nmi();
    if (state.interrupts) throw BadAccess{"an NMI has turned interrupts on"};
    state.interrupts = interrupts;
    if (state.cr2 != cr2) throw BadAccess{"an NMI has changed CR2"};
    if (!state.buffer.empty()) machine().drain(CpuId{cpu}); // its IRET serialises
    const u8* was = before.data();
    for (const StaticObject& object : kernel_statics()) {
        if (std::memcmp(was, object.at, object.size) != 0 && object.name != case_.kernel->changed_by_nmi())
            throw BadAccess{text("an NMI has changed {}", object.name)};
        was += object.size;
    }
    if (!core.halted || core.interrupted || core.in_handler) return;
    // It ends the hlt, or came before the hlt: then a pending interrupt does, too, because the NMI has ended the shadow
    // of the sti (SDM vol. 2, "STI").
    if (core.requested != 0 && choice(2) != 0) {
        core.hlt_follows = true;
        return;
    }
    core.interrupted = true;
    event().woke |= only(agent(cpu, Role::program));
}

// --- called by fibers

void World::point(Point next) {
    if (!on_fiber_) return; // called by reset or check
    if (next == Point::percpu && !case_.percpu_points) return;
    unseen_ = next == Point::pte_load && !case_.table_points;
    if (unseen_) return;
    // An operation that does not change the interrupt flag is no step.
    if (next == Point::irq && !machine().here().interrupts) return;
    {
        Core& core = here();
        Context& context = core.in_handler ? core.interrupt : core.program;
        context.next = next;
        if (next == Point::relax) context.waits = true;
    }
    for (;;) {
        running().leave();
        if (!deliver_) break;
        deliver();
        // If it was preempted, it may be on another CPU: its operation has not taken effect yet.
        if (kernel_has_threads() && !here().in_handler) here().program.next = next;
    }
    maybe_preempt();
}

void World::deliver() {
    deliver_ = false;
    Core& core = here();
    const bool nested = core.in_handler;
    const Context outer = core.interrupt;
    core.in_handler = true;
    core.interrupt = Context{};
    machine().here().interrupts = false;
    const Interrupt what = core.delivered;
    const u64 line = line_of(machine().current().value(), what);
    touched(line, true);
    tell_who_runs();
    if constexpr (races::kOn) races::acquire(line);
    order_program(true);    // interrupts are off
    const auto over = [&] { // the handler has ended
        core.in_handler = nested;
        core.interrupt = outer;
        tell_who_runs();
        if (core.halted && !core.interrupted) {
            core.interrupted = true; // also if the hlt follows: the CPU may switch to a thread before
            event().woke |= only(agent(machine().current().value(), Role::program));
        }
        if (!kernel_has_threads()) return;
        if (!nested && core.program.waits) { // the loop looks again
            core.program = Context{};
            event().woke |= only(agent(machine().current().value(), Role::program));
        }
        core.irqs_off_since = core.delivery;
    };
    case_.kernel->interrupt([&] {
        handle(what);
        if (kernel_has_threads()) over(); // what follows may switch threads, and is of the program
    });
    order_program(false);
    if (!kernel_has_threads()) over();
    if (core.halted && std::exchange(core.hlt_follows, false)) core.interrupted = false; // an idle thread stays here
    machine().here().interrupts = true;
}

void World::handle(Interrupt what) {
    switch (what) {
    case Interrupt::call:
        return remote_answer();
    case Interrupt::reschedule:
        return case_.kernel->reschedule_asked();
    case Interrupt::tick:
        return case_.kernel->tick();
    case Interrupt::device:
        for (Device* const device : machine().devices())
            device->interrupt();
        return;
    }
}

// The timer may interrupt a thread if interrupts are on and another thread is ready.
void World::maybe_preempt() {
    if (preemptions_left_ == 0) return;
    Core& core = here();
    if (core.in_handler || core.thread == kNobody || !machine().here().interrupts) return;
    if (!somebody_waits(core) && !case_.roaming) return;
    const Point next = core.program.next;
    const bool fires = strategy_->timer();
    event().chosen.push_back(fires ? 1 : 0);
    if (!fires) return;
    const u32 left = std::exchange(preemptions_left_, 0) - 1; // no nested preemption
    point(Point::assist);                                     // an interrupt drains the store buffer
    machine().here().interrupts = false;
    core.irqs_off_since = steps_;
    core.in_timer = true;
    tell_who_runs();
    order_program(true);
    case_.kernel->interrupt([] {});
    order_program(false);
    core.in_timer = false;
    tell_who_runs();
    const bool now = case_.kernel->may_preempt();
    preemptions_left_ = left;
    order_program(true);
    if (now)
        leave_cpu(true);
    else
        case_.kernel->ask_to_reschedule();
    interrupts_on();
    // The thread continues, maybe on another CPU; its operation has not taken effect yet.
    point(next);
}

void World::touched(u64 place, bool write) {
    const u32 me = event().agent;
    if (!on_fiber_ && !acts_alone(me)) return;
    if (unseen_ && on_fiber_ && !write) return;
    event().footprint.add(place, write);
    if (!write) {
        if (acts_alone(me) || place >= place::kHardware) return;
        Core& core = cores_[cpu_of(me)];
        (core.in_handler ? core.interrupt : core.program).watch.read(place);
        return;
    }
    for (u32 cpu = 0; cpu < cores_.size(); ++cpu) {
        Core& core = cores_[cpu];
        const bool own_buffer = role_of(me) == Role::buffer && cpu_of(me) == cpu;
        if (own_buffer) continue;
        const u32 program = agent(cpu, Role::program), interrupt = agent(cpu, Role::interrupt);
        if (me != program && core.program.watch.written(place) && core.program.waits) event().woke |= only(program);
        if (me != interrupt && core.in_handler && core.interrupt.watch.written(place) && core.interrupt.waits)
            event().woke |= only(interrupt);
    }
}

void World::stored() {
    ++event().stored;
    if constexpr (races::kOn)
        if (on_fiber_) races::buffered();
}

u32 World::choice(u32 possibilities) {
    const u32 answer = strategy_->choose(possibilities);
    event().chosen.push_back(answer);
    return answer;
}

void World::interrupts(bool on) {
    if (!on_fiber_) return;
    if (on && here().in_handler && kernel_has_threads() && !case_.handlers_nest)
        throw BadAccess{"the handler of an interrupt turns interrupts on"};
    if (!on) here().irqs_off_since = steps_;
    order_program(!on);
}

void World::send(u32 cpu, Interrupt what) {
    if (!on_fiber_ && !acts_alone(event().agent)) return;
    Core& core = cores_[cpu];
    if (!core.listens) throw BadAccess{text("CPU {} is interrupted before its local APIC is on", cpu)};
    touched(line_of(cpu, what), true);
    if ((core.requested & bit(what)) == 0) { // a second request before the delivery adds nothing
        core.sender[static_cast<u32>(what)] = steps_;
        if constexpr (races::kOn) races::release(line_of(cpu, what));
    }
    core.requested |= bit(what);
}

void World::stop(const std::string& what) {
    if (!on_fiber_) return;
    failed_ = true;
    failure_ = what;
    running().leave();
    std::abort();
}

// --- threads

// The first line of a fiber: an interrupt may come before it.
void World::arrive() {
    while (deliver_) {
        deliver();
        running().leave();
    }
    interrupts_on();
}

void World::thread_main(u32 thread) {
    arrive();
    try {
        case_.threads[thread].body();
    } catch (const std::exception& error) {
        stop(error.what());
    }
    point(Point::thread);
    threads_[thread]->ended = true;
    interrupts_off();
    touched(place::run_queue(machine().current().value()), true);
    switch_to_next();
    std::abort();
}

void World::idle_loop() {
    arrive();
    for (;;) {
        point(Point::thread);
        interrupts_off();
        touched(place::run_queue(machine().current().value()), true);
        if (somebody_waits(here())) {
            switch_to_next();
            interrupts_on();
            continue;
        }
        case_.kernel->enter_idle();
        Core& core = here(); // sti and hlt: no interrupt comes in between
        core.halted = true;
        core.interrupted = false;
        core.program.next = Point::irq;
        interrupts_on();
        for (;;) {
            core.idle.leave();
            if (!deliver_) break;
            deliver();
        }
        core.halted = false;
        if (core.interrupted) continue;
        // A thread is ready on this CPU: the reschedule interrupt.
        touched(place::run_queue(machine().current().value()), true);
        interrupts_off();
        case_.kernel->interrupt([] {});
        interrupts_on();
    }
}

void World::interrupts_off() {
    machine().here().interrupts = false;
    here().irqs_off_since = steps_;
    order_program(true);
}

void World::interrupts_on() {
    order_program(false);
    machine().here().interrupts = true;
}

void World::park() {
    point(Point::thread);
    const u32 me = here().thread;
    touched(place::permit(me), true);
    Thread& t = *threads_[me];
    if (t.permit) {
        t.permit = false;
        if constexpr (races::kOn) races::acquire(place::permit(me));
        return;
    }
    t.parked = true;
    interrupts_off();
    leave_cpu(false);
    interrupts_on();
}

void World::unpark(u32 thread) {
    point(Point::thread);
    touched(place::permit(thread), true);
    Thread& t = *threads_[thread];
    if (!t.parked) {
        t.permit = true;
        if constexpr (races::kOn) races::release(place::permit(thread));
        return;
    }
    t.parked = false;
    if constexpr (races::kOn) races::release(place::thread(thread));
    make_ready(thread, t.cpu);
}

void World::yield() {
    point(Point::thread);
    if (here().queue.empty()) return;
    interrupts_off();
    leave_cpu(true);
    interrupts_on();
}

void World::make_ready(u32 thread, u32 home) {
    u32 cpu = home;
    if (case_.roaming && case_.kernel->may_migrate(thread))
        cpu = (home + choice(static_cast<u32>(cores_.size()))) % cores_.size();
    Core& core = cores_[cpu];
    core.queue.push_back(thread);
    touched(place::run_queue(cpu), true);
    if (core.halted) event().woke |= only(agent(cpu, Role::program));
}

// The current thread leaves the CPU, interrupts off; the function returns when it runs again.
void World::leave_cpu(bool stays_ready) {
    const u32 me = here().thread;
    threads_[me]->leaving = true;
    threads_[me]->cpu = machine().current().value();
    touched(place::run_queue(machine().current().value()), true);
    case_.kernel->switch_out(me);
    if (stays_ready) make_ready(me, machine().current().value());
    switch_to_next();
}

// Switches away from the calling stack, for ever or until its thread is picked again.
void World::switch_to_next() {
    Core& core = here();
    Fiber& mine = *core.fiber;
    const u32 me = core.thread;
    u32 next = kNobody;
    for (auto it = core.queue.begin(); it != core.queue.end(); ++it) {
        if (threads_[*it]->leaving && *it != me) continue;
        next = *it;
        core.queue.erase(it);
        break;
    }
    core.thread = next;
    if constexpr (races::kOn)
        if (next != kNobody) races::acquire(place::thread(next));
    if (next != kNobody) case_.kernel->switch_in(next);
    Fiber& other = next != kNobody ? threads_[next]->fiber : core.idle;
    core.program = Context{};
    // From here on the thread's stack is not in use: another CPU may run the thread.
    if (me != kNobody) {
        threads_[me]->leaving = false;
        if constexpr (races::kOn) races::release(place::thread(me));
    }
    if (&other == &mine) return;
    core.fiber = &other;
    mine.leave();
}

// --- a kernel that has threads itself

u32 World::ticks() {
    touched(place::time, false);
    return ticks_;
}

void World::switch_stack(u32* from, u32 to) {
    if (!on_fiber_) throw BadAccess{"an NMI switches stacks"};
    point(Point::stack);
    const u32 cpu = machine().current().value();
    Core& core = here();
    Stack& mine = *core.stack;
    Stack* next = stacks().waiting_at(to);
    for (Core& one : cores_)
        if (to != 0 && one.own.pointer == to) next = &one.own;
    if (machine().here().interrupts) throw BadAccess{text("CPU {} switches stacks with interrupts on", cpu)};
    if (next == nullptr)
        throw BadAccess{text("CPU {} switches to a stack that is in use, or has been left elsewhere since", cpu)};
    if (next->end != 0 && next->end != core.kernel_stack)
        throw BadAccess{text("CPU {} switches to stack {}, and would enter the kernel on another", cpu, next->number)};
    touched(place::stack(mine.number), true);
    touched(place::stack(next->number), true);
    *from = stacks().leave(mine);
    next->pointer = 0;
    core.stack = next;
    core.fiber = &next->fiber;
    core.program = Context{};
    mine.fiber.leave();
}

void World::halt() {
    Core& core = here(); // an idle thread stays on its CPU
    core.halted = true;
    core.interrupted = false;
    core.program.next = Point::irq;
    machine().here().interrupts = true;
    for (;;) {
        running().leave();
        if (!deliver_) break;
        deliver();
    }
    core.halted = false;
}

// A wait that has returned although nobody has written what it waits for: nothing else could take a step.
bool World::deadline_passes(u32 milliseconds) {
    if (!on_fiber_ || !kernel_has_threads() || milliseconds > case_.patience_ms) return false;
    if (!here().in_handler && std::exchange(here().program.returned, false)) return true;
    if (deadlines_left_ == 0) return false;
    AgentSet mine = 0;
    for (const Role role : {Role::program, Role::interrupt, Role::buffer})
        mine |= only(agent(machine().current().value(), role));
    if ((enabled() & ~mine & ~all_from_outside()) == 0) return false;
    const bool passes = strategy_->deadline();
    event().chosen.push_back(passes ? 1 : 0);
    deadlines_left_ -= passes ? 1 : 0;
    return passes;
}

// --- CPUs that start

u32 World::cpu_with_apic(u32 apic) const {
    for (u32 cpu = 0; cpu < cores_.size(); ++cpu)
        if (cores_[cpu].apic == apic) return cpu;
    throw BadAccess{text("no CPU has APIC {}", apic)};
}

void World::change_power(Core& core, Power power) {
    const u32 cpu = static_cast<u32>(&core - cores_.data());
    touched(place::power(cpu), true);
    core.power = power;
    if (can_run(core)) event().woke |= only(agent(cpu, Role::program));
}

void World::reset(u32 apic) {
    Core& core = with_apic(apic);
    if ((core.power == Power::stopped || core.power == Power::called) && case_.start_up_code)
        lose_state(core);
    else if (core.power != Power::off && core.power != Power::reset)
        throw BadAccess{text("CPU {} is reset again", apic)};
    change_power(core, Power::reset);
}

// INIT of a CPU that halts with interrupts off, or has not begun yet: it leaves its stack, and begins anew when it is
// called. Its TLB may keep what it has (SDM vol. 3, table 9-1).
void World::lose_state(Core& core) {
    if (core.in_handler) throw BadAccess{"a CPU is reset in the handler of an interrupt"};
    const u32 cpu = static_cast<u32>(&core - cores_.data());
    for (const Interrupt what : {Interrupt::device, Interrupt::tick, Interrupt::reschedule, Interrupt::call})
        touched(line_of(cpu, what), true);
    touched(place::stack(core.stack->number), true);
    stacks().leave(*core.stack);
    core.program = core.interrupt = Context{};
    core.program.next = Point::atomic;
    core.requested = core.ticks_left = core.late_ticks_left = 0;
    core.listens = false;
    core.own.body = [this] {
        try {
            case_.start_up_code();
        } catch (const std::exception& error) {
            stop(error.what());
        }
        stop("the first function of a CPU has returned");
    };
    core.own.pointer = 0;
    core.own.fiber.start(&core.own.body);
    core.stack = &core.own;
    core.fiber = &core.own.fiber;
}

void World::call(u32 apic) {
    Core& core = with_apic(apic);
    change_power(core, core.power == Power::reset ? Power::called : core.power);
}

void World::become(u32 cpu) {
    Core& mine = here();
    Core& other = cores_[cpu];
    if (mine.power != Power::called || other.power == Power::runs || other.power == Power::stopped)
        throw BadAccess{text("CPU {} becomes CPU {}, which has begun", machine().current(), cpu)};
    const Power power = other.power;
    std::swap(mine.apic, other.apic);
    change_power(other, Power::called);
    change_power(mine, power);
    mine.program.next = Point::atomic;
    running().leave();
}

void World::begin_on_stack(u32 end, std::function<void()> body) {
    Core& core = here();
    Stack* const stack = stacks().ending_at(end);
    if (stack == nullptr || stack->pointer == 0)
        throw BadAccess{text("CPU {} begins on a stack that {}", machine().current(), stack ? "is in use" : "is none")};
    touched(place::stack(stack->number), true);
    change_power(core, Power::runs);
    stack->pointer = 0;
    stack->body = [this, body = std::move(body)] {
        try {
            body();
        } catch (const std::exception& error) {
            stop(error.what());
        }
        stop("the first function of a CPU has returned");
    };
    stack->fiber.start(&stack->body);
    core.stack = stack;
    core.fiber = &stack->fiber;
    core.own.fiber.leave();
}

void World::start_ticks() { give_ticks(here()); }

void World::stop_cpu() {
    machine().here().interrupts = false;
    here().power = Power::stopped;
    for (;;)
        running().leave();
}

// --- called by the machine and the HAL

namespace detail {
void explore_point(Point point) { the_world->point(point); }
void explore_touch(u64 place, bool write) { the_world->touched(place, write); }
// What follows depends on the bytes: so each order of it and of a change of them is tried.
void explore_copied(const void* frame) {
    if (!the_world->copies_are_steps()) return;
    explore_point(Point::copied);
    if (frame != nullptr) explore_touch(reinterpret_cast<std::uintptr_t>(frame), false);
}
bool explore_deadline(u32 milliseconds) { return the_world->deadline_passes(milliseconds); }
} // namespace detail

void explore_stored() { the_world->stored(); }
void explore_plain(u64 place, bool write) { the_world->plain(place, write); }
void explore_interrupts(bool on) { the_world->interrupts(on); }
void explore_send(CpuId to, Interrupt what) {
    if (detail::exploring) the_world->send(to.value(), what);
}
void explore_device(u32 device) { the_world->woke(device_agent(device)); }
u32 explore_choice(u32 possibilities) { return the_world->choice(possibilities); }
void explore_stop(const std::string& text) {
    if (detail::exploring) the_world->stop(text);
}

u32 ticks_so_far() { return detail::exploring ? the_world->ticks() : 0; }

u32 prepare_stack(u32 end, void (*entry)(void*), void* argument) {
    return stacks().prepare(end, entry, argument).pointer;
}
void switch_stack(u32* from, u32 to) {
    if (!detail::exploring) throw BadAccess{"switch_stack: there are threads in an exploration only"};
    the_world->switch_stack(from, to);
}
void set_kernel_stack(u32 end) { the_world->set_kernel_stack(end); }
void wait_for_interrupt() { the_world->halt(); }

void reset_cpu(u32 apic) { the_world->reset(apic); }
void call_cpu(u32 apic) { the_world->call(apic); }
CpuId cpu_with_apic(u32 apic) { return CpuId{the_world->cpu_with_apic(apic)}; }
u32 apic_here() { return the_world->apic_here(); }
void become_cpu(u32 cpu) { the_world->become(cpu); }
void begin_on_stack(u32 end, std::function<void()> body) { the_world->begin_on_stack(end, std::move(body)); }
void listen_to_interrupts() { the_world->listen(); }
void start_ticks() { the_world->start_ticks(); }
void stop_cpu() { the_world->stop_cpu(); }

} // namespace loft::sim
