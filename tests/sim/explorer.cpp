// Running schedules, and the report of one that fails.
#include "tests/sim/explorer.hpp"

#include "tests/sim/random.hpp"
#include "tests/sim/reduced.hpp"
#include "tests/sim/replay.hpp"
#include "tests/sim/world.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace loft::sim {
namespace {

constexpr const char* kSeed = "seed:";

std::string describe(u32 index, const Event& event) {
    std::string line = text("{} {}", index, agent_name(event.agent));
    if (role_of(event.agent) == Role::program && event.thread != 0) line += text(" thread {}", event.thread);
    line += text(" {}", event.delivery ? "interrupt" : point_name(event.point));
    for (const Touch& t : event.footprint)
        line += text("{}{}", t.write ? "  W " : "  R ", place_name(t.place));
    for (const u32 answer : event.chosen)
        line += text("  chose {}", answer);
    return line;
}

std::string trace_of(const World& world, u32 most) {
    std::string all;
    const u32 end = world.steps() + (world.in_a_step() ? 1 : 0);
    for (u32 i = end > most ? end - most : 0; i < end && i < world.events().size(); ++i)
        all += describe(i, world.events()[i]) + "\n";
    return all;
}

// Wraps a strategy and records the enabled agents of each step, which the text of a schedule needs.
class Watched final : public Strategy {
  public:
    explicit Watched(Strategy& inner) : inner_{inner} {}
    u32 pick(AgentSet enabled) override {
        able.push_back(enabled);
        return inner_.pick(enabled);
    }
    u32 choose(u32 possibilities) override { return inner_.choose(possibilities); }
    bool timer() override { return inner_.timer(); }
    bool deadline() override { return inner_.deadline(); }
    void done(u32 index, const Event& event) override { inner_.done(index, event); }

    std::vector<AgentSet> able;

  private:
    Strategy& inner_;
};

class Exploration {
  public:
    explicit Exploration(const Case& c) : world_{c} {}

    // False if the schedule failed.
    bool run(Strategy& strategy, const std::string& name = {}) {
        Watched watched{strategy};
        const World::End end = world_.run(watched);
        report.steps += world_.steps();
        report.longest = std::max<u64>(report.longest, world_.steps());
        ++(end == World::End::pruned ? report.pruned : report.schedules);
        if (end != World::End::bad) return true;
        report.failure = world_.failure();
        const u32 steps = world_.steps() + (world_.in_a_step() ? 1 : 0);
        report.schedule = name.empty() ? schedule_text(world_.events(), steps, watched.able) : name;
        report.trace = trace_of(world_, 60);
        return false;
    }
    const World& world() const { return world_; }

    Report report;

  private:
    World world_;
};

// Of the whole test program.
struct Total {
    ~Total() {
        if (schedules != 0)
            std::fprintf(stderr, "explorer: %llu schedules explored in all\n",
                         static_cast<unsigned long long>(schedules));
    }
    u64 schedules = 0;
} total;

} // namespace

std::string place_name(u64 place) {
    if (place >= place::kHardware) {
        constexpr const char* kNames[] = {"device",         "tlb",
                                          "tlb changes of", "interrupt line",
                                          "run queue",      "permit",
                                          "program",        "interrupt flag",
                                          "thread",         "word of memory",
                                          "stack",          "reschedule line",
                                          "tick line",      "time",
                                          "nmi line",       "device line"};
        const u64 what = place >> 8 & 15;
        if (what == 0 && (place & place::power(0)) == place::power(0)) return text("power {}", place & 15);
        return text("{} {}", kNames[what], what == 9 ? (place >> 32 & 0xff'ffff) - 1 : place & 0xff);
    }
    const std::string name = static_name(place);
    if (!name.empty()) return name;
    if (place - kRamBase < kRamLimit) return text("physical {:x}", place - kRamBase);
    return text("host {:x}", place);
}

void count_in_total(const Report& report) { total.schedules += report.schedules; }

Report explore(const Case& c, const Plan& plan) {
    Exploration exploration{c};
    constexpr u32 kUsualSteps = 400;
    if (const char* wanted = std::getenv("LOFT_SCHEDULE")) {
        const std::string name = wanted;
        if (name.starts_with(kSeed)) {
            Random strategy{std::strtoull(wanted + std::string{kSeed}.size(), nullptr, 10), kUsualSteps};
            exploration.run(strategy, name);
        } else {
            Replay strategy{name};
            exploration.run(strategy);
        }
        std::printf("%s", trace_of(exploration.world(), ~0u).c_str());
        return exploration.report;
    }
    if (plan.kind == Plan::Kind::random) {
        for (u64 seed = plan.seed; seed < plan.seed + plan.limit; ++seed) {
            Random strategy{seed, kUsualSteps};
            if (!exploration.run(strategy, text("{}{}", kSeed, seed))) break;
        }
        return exploration.report;
    }
    Reduced strategy{plan.preemptions, plan.answers, plan.kind == Plan::Kind::all};
    do {
        if (exploration.report.schedules == plan.limit) return exploration.report;
        if (!exploration.run(strategy)) return exploration.report;
    } while (strategy.next());
    exploration.report.complete = true;
    return exploration.report;
}

Plan as_wished(Plan plan) {
    const char* const wish = std::getenv("LOFT_EXPLORE");
    if (wish == nullptr) return plan;
    const bool full = std::string_view{wish} == "full";
    if (full && plan.kind == Plan::Kind::reduced)
        plan.limit = ~u64{0};
    else if (!full && plan.limit != ~u64{0})
        plan.limit *= std::strtoull(wish, nullptr, 10);
    return plan;
}

std::string extent(const Plan& plan, const Report& report) {
    if (plan.kind == Plan::Kind::random) return "by chance";
    std::string bound;
    const auto add = [&bound](u32 most, const char* what) {
        if (most != ~0u)
            bound += text("{}{} {}{}", bound.empty() ? " within " : ", ", most, what, most == 1 ? "" : "s");
    };
    add(plan.preemptions, "preemption");
    add(plan.answers, "answer");
    return (report.complete ? "complete" : "stopped") + bound;
}

void expect(bool so, const char* what) {
    if (!so) throw Stop{text("not as expected: {}", what)};
}

} // namespace loft::sim
