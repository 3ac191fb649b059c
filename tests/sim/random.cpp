// Random schedules. Contract: random.hpp.
#include "tests/sim/random.hpp"

#include <bit>

namespace loft::sim {

Random::Random(u64 seed, u32 usual_steps) : state_{seed * 2 + 1} {
    kind_ = static_cast<u32>(seed % 3);
    patience_ = 2u << below(5);
    const auto draw = [&](u32 a) { priority_[a] = (1u << 24) + below(1u << 20); };
    for (u32 a = 0; a < kMaxAgents; ++a) {
        if (role_of(a) != Role::nmi && role_of(a) != Role::device) draw(a);
        if (kind_ == 2 && role_of(a) == Role::buffer) priority_[a] = a;
    }
    for (u32& drop : drops_)
        drop = below(usual_steps);
    for (u32& timer : timers_)
        timer = below(usual_steps << below(4));
    for (u32 cpu = 0; cpu < kMaxExploredCpus; ++cpu)
        draw(agent(cpu, Role::nmi));
    for (u32 device = 0; device < kMaxDevices; ++device)
        draw(device_agent(device));
}

u64 Random::number() { // splitmix64
    u64 z = state_ += 0x9e37'79b9'7f4a'7c15;
    z = (z ^ z >> 30) * 0xbf58'476d'1ce4'e5b9;
    z = (z ^ z >> 27) * 0x94d0'49bb'1331'11eb;
    return z ^ z >> 31;
}

u32 Random::pick(AgentSet enabled) {
    ++step_;
    // Timers and NMIs come at a few steps, or when nothing else can take a step.
    if (const AgentSet others = enabled & ~all_from_outside(); others != enabled && others != 0) {
        constexpr u32 kStepsPerTick = 48;
        if (below(kStepsPerTick) != 0) enabled = others;
    }
    u32 next = kNobody;
    if (kind_ == 0) {
        if (below(patience_) != 0) {
            next = default_.pick(enabled);
        } else {
            u32 left = below(static_cast<u32>(std::popcount(enabled)));
            for (next = 0; !in(enabled, next) || left-- != 0;)
                ++next;
        }
    } else {
        for (u32 a = 0; a < kMaxAgents; ++a)
            if (in(enabled, a) && (next == kNobody || priority_[a] > priority_[next])) next = a;
        for (const u32 drop : drops_)
            if (drop == step_) priority_[next] = --lowest_;
    }
    default_.taken(next);
    return next;
}

// At one of the drawn steps, or at the first one after it where the timer may interrupt.
bool Random::timer() {
    for (u32& timer : timers_) {
        if (timer > step_) continue;
        timer = ~0u;
        return true;
    }
    return false;
}

u32 Random::choose(u32 possibilities) { return below(4) == 0 ? below(possibilities) : 0; }

} // namespace loft::sim
