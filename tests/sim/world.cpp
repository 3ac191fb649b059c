// Running one schedule. Contract: world.hpp.
#include "tests/sim/world.hpp"

#include "tests/sim/races.hpp"
#include <hal/cpu.hpp>
#include <hal/thread.hpp>

#include <utility>

namespace loft::sim {
namespace {

World* the_world; // not null while an exploration runs

} // namespace

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
    if (cores_.size() > kMaxExploredCpus) throw BadAccess{"too many CPUs to explore"};
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
}

void World::begin() {
    snapshot_.restore();
    case_.reset();
    steps_ = 0;
    failed_ = in_a_step_ = false;
    failure_.clear();
    preemptions_left_ = case_.preemptions;
    for (Core& core : cores_) {
        core.program = core.interrupt = Context{};
        core.thread = kNobody;
        core.queue.clear();
        core.in_handler = core.in_timer = core.requested = core.halted = core.interrupted = false;
        core.idle.start(&idle_body_);
        core.fiber = &core.idle;
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

AgentSet World::enabled() {
    AgentSet set = 0;
    for (u32 cpu = 0; cpu < cores_.size(); ++cpu) {
        const Core& core = cores_[cpu];
        const Cpu& state = machine().cpu(CpuId{cpu});
        if (core.in_handler) {
            if (ready(cpu, core.interrupt)) set |= only(agent(cpu, Role::interrupt));
        } else {
            const bool sleeps = core.halted && !core.interrupted && !somebody_waits(core);
            if (!sleeps && ready(cpu, core.program)) set |= only(agent(cpu, Role::program));
            // An interrupt drains the store buffer before its first instruction.
            if (core.requested && state.interrupts && state.buffer.empty()) set |= only(agent(cpu, Role::interrupt));
        }
        if (!state.buffer.empty()) set |= only(agent(cpu, Role::buffer));
    }
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
            for (u32 i = 0; i < threads_.size(); ++i) {
                if (threads_[i]->ended) continue;
                failed_ = true;
                failure_ += text("{}thread {} {}", failure_.empty() ? "deadlock: " : ", ", i + 1,
                                 threads_[i]->parked ? "sleeps and no thread wakes it" : "waits for ever");
            }
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

void World::step(u32 who) {
    if (events_.size() <= steps_) events_.resize(steps_ + 64);
    const u32 cpu = cpu_of(who);
    Core& core = cores_[cpu];
    machine().switch_to(CpuId{cpu});
    Event& e = event();
    e.agent = who;
    e.thread = core.thread + 1;
    e.footprint.clear();
    e.chosen.clear();
    e.woke = 0;
    e.stored = 0;
    e.block = steps_;
    e.delivery = false;
    e.drained = false;

    if (role_of(who) == Role::buffer) {
        e.point = Point::store;
        if constexpr (races::kOn) races::drained(cpu);
        machine().drain(CpuId{cpu});
        return;
    }
    if (role_of(who) == Role::interrupt && !core.in_handler) {
        e.point = Point::irq;
        e.delivery = e.drained = true;
        core.requested = false;
        e.cause = core.sender;
        core.delivery = steps_;
        deliver_ = true;
    } else {
        Context& context = role_of(who) == Role::interrupt ? core.interrupt : core.program;
        e.point = context.next;
        e.drained = drains(context.next);
        if (context.waits) {
            context.waits = false;
            context.watch.clear();
        }
        if (role_of(who) == Role::interrupt)
            e.block = core.delivery;
        else if (!machine().cpu(CpuId{cpu}).interrupts)
            e.block = core.irqs_off_since;
    }
    on_fiber_ = true;
    tell_who_runs();
    core.fiber->resume();
    on_fiber_ = false;
    if constexpr (races::kOn) races::run(kNobody, 0, {});
}

// --- called by fibers

void World::point(Point next) {
    if (!on_fiber_) return; // called by reset or check
    if (next == Point::percpu && !case_.percpu_points) return;
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
    }
    maybe_preempt();
}

void World::deliver() {
    deliver_ = false;
    Core& core = here();
    core.in_handler = true;
    core.interrupt = Context{};
    machine().here().interrupts = false;
    const u32 cpu = machine().current().value();
    touched(place::interrupt_line(cpu), true);
    tell_who_runs();
    if constexpr (races::kOn) races::acquire(place::interrupt_line(cpu));
    order_program(true); // interrupts are off
    case_.kernel->interrupt([] { remote_answer(); });
    order_program(false);
    machine().here().interrupts = true;
    core.in_handler = false;
    tell_who_runs();
    if (core.halted && !core.interrupted) {
        core.interrupted = true;
        event().woke |= only(agent(machine().current().value(), Role::program));
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
    if (!on_fiber_ && role_of(event().agent) != Role::buffer) return;
    event().footprint.add(place, write);
    const u32 me = event().agent;
    if (!write) {
        if (role_of(me) == Role::buffer || place >= place::kHardware) return;
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
    if (!on) here().irqs_off_since = steps_;
    order_program(!on);
}

void World::send(u32 cpu) {
    if (!on_fiber_) return;
    Core& core = cores_[cpu];
    touched(place::interrupt_line(cpu), true);
    if (!core.requested) { // a second request before the delivery adds nothing
        core.sender = steps_;
        if constexpr (races::kOn) races::release(place::interrupt_line(cpu));
    }
    core.requested = true;
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
    make_ready(thread, case_.threads[thread].cpu);
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

// --- called by the machine and the HAL

namespace detail {
void explore_point(Point point) { the_world->point(point); }
void explore_touch(u64 place, bool write) { the_world->touched(place, write); }
} // namespace detail

void explore_stored() { the_world->stored(); }
void explore_plain(u64 place, bool write) { the_world->plain(place, write); }
void explore_interrupts(bool on) { the_world->interrupts(on); }
void explore_send(CpuId to) { the_world->send(to.value()); }
u32 explore_choice(u32 possibilities) { return the_world->choice(possibilities); }
void explore_stop(const std::string& text) {
    if (detail::exploring) the_world->stop(text);
}

} // namespace loft::sim

namespace loft::hal {

ThreadId current_thread() { return ThreadId{sim::detail::exploring ? sim::the_world->current_thread() : 0}; }

void park() {
    if (!sim::detail::exploring) throw sim::BadAccess{"park: there is no other thread that could wake this one"};
    sim::the_world->park();
}
void unpark(ThreadId thread) {
    if (sim::detail::exploring) sim::the_world->unpark(thread.value() - 1);
}
void reschedule() {
    if (sim::detail::exploring) sim::the_world->yield();
}

} // namespace loft::hal
