// Partial-order reduction. Contract: reduced.hpp.
#include "tests/sim/reduced.hpp"

#include <algorithm>
#include <bit>

namespace loft::sim {

void Reduced::join(Clock& into, const Clock& from) {
    for (u32 i = 0; i < kMaxAgents; ++i)
        into[i] = std::max(into[i], from[i]);
}

void Reduced::start() {
    depth_ = 0;
    clocks_.clear();
    agents_.clear();
    blocks_.clear();
    now_ = woken_ = {};
    for (auto& stores : stores_)
        stores.clear();
    oldest_ = last_of_cpu_ = delivery_ = {};
    places_.clear();
    default_ = Default{};
    started_ = true;
}

// True if the CPU of the last step could continue, at once or when its store buffer is empty: its program after an
// interrupt, too, but not a program that waits or halts, by an interrupt that is pending.
bool Reduced::continues(const Frame& frame) {
    if (frame.before == kNobody) return false;
    const u32 cpu = cpu_of(frame.before);
    if (role_of(frame.before) == Role::interrupt && in(frame.enabled, agent(cpu, Role::program))) return true;
    return in(frame.enabled, frame.before) || in(frame.enabled, agent(cpu, Role::buffer));
}

// True if the step switches away from a CPU that could continue. The steps of one CPU (program, interrupts, store
// buffer) are no switch. A step of another CPU's store buffer is one; then either CPU may go on (contexts: Atig,
// Bouajjani and Parlato, CAV 2011).
bool Reduced::preempts(const Frame& frame, u32 next) {
    if (no_switch(next) || frame.before == kNobody) return false;
    return !same_cpu(next, frame.before) && !same_cpu(next, frame.last) && continues(frame);
}

u32 Reduced::pick(AgentSet enabled) {
    if (!started_) start();
    choice_ = 0;
    if (depth_ < frames_.size()) { // the prefix that is the same as in the last schedule
        Frame& frame = frames_[depth_];
        default_.taken(frame.agent);
        return frame.agent;
    }
    Frame frame;
    frame.enabled = enabled;
    frame.before = default_.last();
    if (depth_ != 0) {
        const Frame& previous = frames_[depth_ - 1];
        frame.last = no_switch(previous.agent) ? previous.last : previous.agent;
    }
    AgentSet asleep = 0;
    if (depth_ != 0) {
        Frame& previous = frames_[depth_ - 1];
        frame.preemptions = previous.preemptions + (preempts(previous, previous.agent) ? 1 : 0);
        frame.sleep = std::move(inherited_);
        for (const Sleeper& sleeper : frame.sleep)
            asleep |= only(sleeper.agent);
    }
    const AgentSet possible = enabled & ~asleep;
    if (possible == 0) return kNobody;
    frame.agent = default_.pick(possible);
    if (bounded() && preempts(frame, frame.agent) && frame.preemptions == bound_) return kNobody; // beyond the bound
    frame.to_try = everything_ ? enabled : only(frame.agent);
    frames_.push_back(std::move(frame));
    default_.taken(frames_.back().agent);
    return frames_.back().agent;
}

u32 Reduced::choose(u32 possibilities) {
    Frame& frame = frames_[depth_];
    if (choice_ == frame.choices.size()) frame.choices.push_back({0, possibilities});
    return frame.choices[choice_++].answer;
}

// True if the next step of the sleeping agent may have a different result after this step. A CPU's program and its
// interrupt depend on each other not only through memory.
bool Reduced::dependent(const Sleeper& sleeper, const Event& event) {
    if (sleeper.agent == event.agent) return true;
    const bool outside = from_outside(sleeper.agent) || from_outside(event.agent);
    if (same_cpu(sleeper.agent, event.agent) && !outside) {
        const bool buffer = role_of(sleeper.agent) == Role::buffer || role_of(event.agent) == Role::buffer;
        if (!buffer) return true;
        // A CPU's loads and its own store buffer: the value is the same from the buffer and from memory.
        return event.drained;
    }
    return sleeper.footprint.conflicts(event.footprint);
}

void Reduced::done(u32 index, const Event& event) {
    if (everything_) {
        ++depth_;
        return;
    }
    const u32 me = event.agent, cpu = cpu_of(me);
    Clock clock = now_[me];
    join(clock, woken_[me]);
    woken_[me] = {};
    if (event.delivery) join(clock, clocks_[event.cause]);
    if (role_of(me) == Role::buffer) join(clock, clocks_[stores_[cpu][oldest_[cpu]++]]);
    // The steps of a CPU, its interrupts included, have one order. Only the entry of an interrupt can change places
    // with the steps of the program that are next to it.
    const u32 half = other_half(me), last = last_of_cpu_[cpu];
    u32 beside = kNobody;
    if (half != kNobody) {
        if (last != 0 && agents_[last - 1] == half) {
            if (event.delivery) beside = blocks_[last - 1];
            if (role_of(me) == Role::program) beside = delivery_[cpu];
            if (beside != kNobody && clock[half] > beside) beside = kNobody;
        }
        last_of_cpu_[cpu] = index + 1;
        if (event.delivery) delivery_[cpu] = index;
    }
    Clock apart = clock; // the steps that must precede this one if it changes places with its neighbours
    if (half != kNobody) join(clock, now_[half]);
    if (event.drained) join(clock, now_[agent(cpu, Role::buffer)]);

    // A CPU does not race with its own store buffer: it sees its stores in both orders.
    const auto exempt = [&](u32 other) {
        return same_cpu(other, me) && (role_of(other) == Role::buffer || role_of(me) == Role::buffer);
    };
    agents_.push_back(me);
    blocks_.push_back(event.block);
    Clock after = clock;
    const auto meet = [&](u32 step) { // counted from 1
        const u32 other = agents_[step - 1];
        if (other == me || exempt(other)) return;
        if (clock[other] < step) racing_.push_back(step - 1);
        join(after, clocks_[step - 1]);
        if (beside != kNobody && clocks_[step - 1][half] <= beside) join(apart, clocks_[step - 1]);
    };
    racing_.clear();
    for (const Touch& t : event.footprint) {
        Place& place = places_.at(t.place);
        if (place.writer != 0) meet(place.writer);
        if (t.write) {
            for (const u32 reader : place.reader)
                if (reader != 0) meet(reader);
            place.writer = index + 1;
            // A load of this CPU that was answered from its buffer is not ordered by the store that is drained now.
            for (u32 a = 0; a < kMaxAgents; ++a)
                if (!exempt(a) || place.reader[a] <= clock[a]) place.reader[a] = 0;
        } else {
            place.reader[me] = index + 1;
        }
    }
    after[me] = index + 1;
    now_[me] = after;
    clocks_.push_back(after);
    const bool replayed = depth_ + 1 < frames_.size(); // this step has been analysed in an earlier schedule
    if (!replayed) {
        for (const u32 earlier : racing_)
            race(earlier, index);
        if (beside != kNobody) {
            clocks_.back() = apart;
            race(beside, index);
            clocks_.back() = after;
        }
    }
    for (u32 i = 0; i < event.stored; ++i)
        stores_[cpu].push_back(index);
    for (u32 a = 0; a < kMaxAgents; ++a)
        if (in(event.woke, a)) join(woken_[a], after);

    Frame& frame = frames_[depth_++];
    if (replayed) return;
    frame.footprint.add(event.footprint);
    inherited_.clear();
    if (bounded()) return;
    for (const Sleeper& sleeper : frame.sleep)
        if (!dependent(sleeper, event)) inherited_.push_back(sleeper);
}

// The steps `earlier` and `later` could have come in the reverse order.
void Reduced::race(u32 earlier, u32 later) {
    if (!bounded()) {
        try_one_of_the_first(earlier, later);
        return;
    }
    // Which agent leads to the later step by the fewest preemptions is not known: all are tried, without sleep sets.
    // A preemption at the earlier step may exceed the bound. It adds none where the CPU was switched to, nor where
    // the CPU could not continue and took an interrupt: so the agents are tried there, too (Coons, Musuvathi and
    // McKinley). A step of another CPU's store buffer, or from outside, does not end the CPU's turn.
    const u32 cpu = cpu_of(agents_[earlier]);
    for (u32 i = earlier;; --i) {
        const u32 before = i == 0 ? kNobody : agents_[i - 1];
        const bool switched = before == kNobody || cpu_of(before) != cpu;
        if (i == earlier || switched || !continues(frames_[i])) frames_[i].to_try |= frames_[i].enabled;
        if (before == kNobody || (switched && role_of(before) != Role::buffer && !no_switch(before))) return;
    }
}

// The sequence that could run instead of the step `index`: all later steps that do not depend on it, up to `later`. A
// step that no other one of this sequence must precede can be its first; at least one of these has to be tried (source
// sets: Abdulla, Aronis, Jonsson and Sagonas, POPL 2014).
void Reduced::try_one_of_the_first(u32 index, u32 later) {
    constexpr u32 kNone = ~0u;
    Clock first;
    first.fill(kNone);
    const u32 gone = agents_[index];
    for (u32 i = index + 1; i <= later; ++i)
        if ((i == later || clocks_[i][gone] <= index) && first[agents_[i]] == kNone) first[agents_[i]] = i;
    Frame& frame = frames_[index];
    AgentSet begins = 0;
    for (u32 a = 0; a < kMaxAgents; ++a) {
        if (first[a] == kNone || !in(frame.enabled, a)) continue;
        bool preceded = false;
        for (u32 b = 0; b < kMaxAgents; ++b)
            preceded |= b != a && first[b] != kNone && clocks_[first[a]][b] > first[b];
        if (!preceded) begins |= only(a);
    }
    if (begins == 0)
        frame.to_try |= frame.enabled;
    else if ((begins & frame.to_try) == 0)
        frame.to_try |= only(static_cast<u32>(std::countr_zero(begins)));
}

u32 Reduced::unusual_answers() const {
    u32 count = 0;
    for (const Frame& frame : frames_)
        for (const Choice& choice : frame.choices)
            count += choice.answer != 0;
    return count;
}

bool Reduced::next() {
    started_ = false;
    inherited_.clear();
    while (!frames_.empty()) {
        Frame& frame = frames_.back();
        while (!frame.choices.empty()) {
            Choice& last = frame.choices.back();
            const bool may = last.answer != 0 || answers_ == ~0u || unusual_answers() < answers_;
            if (may && ++last.answer < last.possibilities) return true;
            frame.choices.pop_back();
        }
        frame.tried |= only(frame.agent);
        if (!bounded() && !everything_) frame.sleep.push_back({frame.agent, frame.footprint});
        AgentSet left = frame.to_try & ~frame.tried;
        for (const Sleeper& sleeper : frame.sleep)
            left &= ~only(sleeper.agent);
        for (u32 a = 0; a < kMaxAgents; ++a)
            if (in(left, a) && bounded() && preempts(frame, a) && frame.preemptions >= bound_) left &= ~only(a);
        if (left != 0) {
            frame.agent = static_cast<u32>(std::countr_zero(left));
            frame.footprint.clear();
            return true;
        }
        frames_.pop_back();
    }
    return false;
}

} // namespace loft::sim
