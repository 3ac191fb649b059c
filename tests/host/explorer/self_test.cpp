// The explorer itself: it finds all outcomes that the processor allows, no others, and every kind of failure.
#include "tests/host/explorer/rig.hpp"

#include <map>
#include <set>

using namespace loft;
using namespace loft::test;

namespace {

using Word = hal::Plain<u32>;

// Small programs without mm (litmus tests): variables that start at 0, and a result of each thread.
struct Litmus {
    explicit Litmus(u32 cpus) : scene{cpus} {
        scene.small_kernel.marks_idle = false;
        scene.explored.reset = [this] {
            for (Word& v : variable)
                v.store(0);
            for (hal::Atomic<u32>& a : atomic)
                a.store(0);
            for (u32& r : result)
                r = 0;
        };
        scene.explored.check = [this] {
            std::string text;
            for (const u32 r : result)
                text += static_cast<char>('0' + r);
            ++found[text.substr(0, results)];
        };
    }
    void thread(u32 cpu, std::function<void()> body) { scene.thread(cpu, std::move(body)); }
    std::set<std::string> outcomes(u32 how_many, const sim::Plan& plan = sim::reduced()) {
        results = how_many;
        report = scene.attempt(plan);
        INFO(report.failure);
        CHECK(report.failure.empty());
        std::set<std::string> all;
        for (const auto& [text, times] : found)
            all.insert(text);
        return all;
    }

    Word variable[4];
    hal::Atomic<u32> atomic[4];
    u32 result[4]{};
    u32 results = 0;
    std::map<std::string, u32> found;
    sim::Report report;
    Scene scene;
};

// Counts to three when a CPU has started it, then interrupts CPU 0.
class CountingDevice final : public sim::Device {
  public:
    bool can_step() const override { return left != 0; }
    void step() override {
        sim::touch(&value, true);
        ++value;
        if (--left == 0) sim::explore_send(CpuId{0}, sim::Interrupt::device);
    }
    void interrupt() override { told.insert(value); }
    std::string use_of(u32) const override { return {}; }
    void start() {
        sim::schedule_point(sim::Point::io);
        sim::touch(sim::place::device(number()), true);
        sim::explore_device(number());
        left = 3;
    }
    u32 read() const {
        sim::schedule_point(sim::Point::load);
        sim::touch(&value, false);
        return value;
    }

    u32 value = 0, left = 0;
    std::set<u32> told;
};

} // namespace

TEST_CASE("explorer: store buffering is seen, and an exchange forbids it", "[.explorer][explorer-self]") {
    for (const bool locked : {false, true}) {
        Litmus l{2};
        for (u32 me = 0; me < 2; ++me)
            l.thread(me, [&l, me, locked] {
                if (locked)
                    l.atomic[me].exchange(1);
                else
                    l.atomic[me].store(1);
                l.result[me] = l.atomic[1 - me].load();
            });
        const auto found = l.outcomes(2);
        CHECK(found ==
              (locked ? std::set<std::string>{"01", "10", "11"} : std::set<std::string>{"00", "01", "10", "11"}));
        CHECK(l.report.complete);
    }
}

TEST_CASE("explorer: stores arrive in order, and a CPU sees its own at once", "[.explorer][explorer-self]") {
    Litmus l{2};
    l.thread(0, [&] {
        l.variable[0].store(1);
        l.variable[1].store(1);
        l.result[2] = l.variable[0].load();
    });
    l.thread(1, [&] {
        l.result[1] = l.variable[1].load();
        l.result[0] = l.variable[0].load();
    });
    CHECK(l.outcomes(3) == std::set<std::string>{"001", "101", "111"});
}

TEST_CASE("explorer: a store can become visible between a CPU's own loads", "[.explorer][explorer-self]") {
    // n6 of Owens, Sarkar and Sewell, "A better x86 memory model: x86-TSO" (2009).
    Litmus l{2};
    l.thread(0, [&] {
        l.variable[0].store(1);
        l.result[0] = l.variable[0].load();
        l.result[1] = l.variable[1].load();
    });
    l.thread(1, [&] {
        l.variable[1].store(2);
        l.variable[0].store(2);
    });
    l.scene.explored.check = [&l, next = l.scene.explored.check] {
        l.result[2] = l.variable[0].load();
        next();
    };
    const auto found = l.outcomes(3);
    CHECK(found.contains("101"));
    CHECK_FALSE(found.contains("201")); // CPU 0 reads 2, so its 1 was overwritten and cannot be last
}

TEST_CASE("explorer: independent readers agree on the order of writes", "[.explorer][explorer-self]") {
    Litmus l{4};
    l.thread(0, [&] { l.variable[0].store(1); });
    l.thread(1, [&] { l.variable[1].store(1); });
    for (u32 reader = 0; reader < 2; ++reader)
        l.thread(2 + reader, [&l, reader] {
            const u32 first = l.variable[reader].load(), second = l.variable[1 - reader].load();
            l.result[reader] = first * 2 + second;
        });
    const auto found = l.outcomes(2);
    CHECK_FALSE(found.contains("22"));
    CHECK(found.size() == 15);
}

TEST_CASE("explorer: no increment of a locked counter is lost, of a plain one some are", "[.explorer][explorer-self]") {
    for (const bool locked : {false, true}) {
        Litmus l{3};
        for (u32 cpu = 0; cpu < 3; ++cpu)
            l.thread(cpu, [&l, locked] {
                if (locked)
                    l.atomic[0].fetch_add(1);
                else
                    l.atomic[0].store(l.atomic[0].load() + 1);
            });
        l.scene.explored.check = [&l, next = l.scene.explored.check] {
            l.result[0] = l.atomic[0].load();
            next();
        };
        CHECK(l.outcomes(1) == (locked ? std::set<std::string>{"3"} : std::set<std::string>{"1", "2", "3"}));
    }
}

TEST_CASE("explorer: steps that have nothing to do with each other need one schedule", "[.explorer][explorer-self]") {
    Litmus l{3};
    for (u32 cpu = 0; cpu < 3; ++cpu)
        l.thread(cpu, [&l, cpu] {
            for (u32 i = 0; i < 5; ++i)
                l.variable[cpu].store(l.variable[cpu].load() + 1);
        });
    l.outcomes(0);
    CHECK(l.report.complete);
    CHECK(l.report.schedules == 1);
}

TEST_CASE("explorer: chance finds the rare outcome too", "[.explorer][explorer-self]") {
    Litmus l{2};
    for (u32 me = 0; me < 2; ++me)
        l.thread(me, [&l, me] {
            l.variable[me].store(1);
            l.result[me] = l.variable[1 - me].load();
        });
    CHECK(l.outcomes(2, sim::random(500)) == std::set<std::string>{"00", "01", "10", "11"});
}

TEST_CASE("explorer: a failing schedule replays from its text", "[.explorer][explorer-self]") {
    Litmus l{2};
    l.thread(0, [&] {
        l.variable[0].store(1);
        sim::expect(l.variable[1].load() == 0 || l.variable[2].load() == 0, "no thread was in between");
    });
    l.thread(1, [&] {
        if (l.variable[0].load() == 1) l.variable[1].store(1);
        l.variable[2].store(1);
    });
    for (const sim::Plan& plan : {sim::reduced(), sim::random(5000)}) {
        const sim::Report found = l.scene.attempt(plan);
        CHECK(found.failure == "not as expected: no thread was in between");
        REQUIRE_FALSE(found.schedule.empty());
        const std::string saved = std::getenv("LOFT_SCHEDULE") != nullptr ? std::getenv("LOFT_SCHEDULE") : "";
        setenv("LOFT_SCHEDULE", found.schedule.c_str(), 1);
        const sim::Report again = l.scene.attempt(sim::reduced());
        saved.empty() ? unsetenv("LOFT_SCHEDULE") : setenv("LOFT_SCHEDULE", saved.c_str(), 1);
        CHECK(again.failure == found.failure);
        CHECK(again.trace == found.trace);
    }
}

TEST_CASE("explorer: a deadlock, a lost wake-up, a livelock are found", "[.explorer][explorer-self]") {
    SECTION("two locks in two orders") {
        Litmus l{2};
        static SpinLock first, second;
        const auto both = [](SpinLock& a, SpinLock& b) {
            SpinGuard outer{a};
            SpinGuard inner{b};
        };
        l.thread(0, [&] { both(first, second); });
        l.thread(1, [&] { both(second, first); });
        const sim::Report report = l.scene.attempt(sim::reduced());
        CHECK(report.failure == "deadlock: thread 1 waits for ever, thread 2 waits for ever");
        first.reset();
        second.reset();
    }
    SECTION("asleep after the last look") {
        Litmus l{2};
        l.thread(0, [&] {
            if (l.variable[0].load() == 0) {
                l.atomic[0].exchange(1); // announces that it sleeps
                hal::park();
            }
        });
        l.thread(1, [&] {
            l.variable[0].store(1);
            if (l.atomic[0].exchange(0) == 1) hal::unpark(ThreadId{1});
        });
        const sim::Report report = l.scene.attempt(sim::reduced());
        CHECK(report.failure == "deadlock: thread 1 sleeps and no thread wakes it");
    }
    SECTION("turns that never end") {
        Litmus l{2};
        l.thread(0, [&] {
            while (l.variable[0].load() == 0)
                l.variable[1].store(l.variable[1].load() + 1);
        });
        l.scene.explored.longest = 500;
        const sim::Report report = l.scene.attempt(sim::reduced());
        CHECK(report.failure.starts_with("livelock"));
    }
}

TEST_CASE("explorer: a permit given before the sleep is not lost", "[.explorer][explorer-self]") {
    Litmus l{2};
    l.thread(0, [&] {
        hal::park();
        l.result[0] = l.variable[0].load();
    });
    l.thread(1, [&] {
        l.variable[0].store(1);
        hal::unpark(ThreadId{1});
    });
    CHECK(l.outcomes(1) == std::set<std::string>{"1"});
    CHECK(l.report.complete);
}

TEST_CASE("explorer: an interrupt comes at every step, and never where interrupts are off",
          "[.explorer][explorer-self]") {
    // CPU 1 gets a request while it counts; the handler sees every state except the one with interrupts off.
    Litmus l{2};
    static std::set<u32>* seen;
    std::set<u32> states;
    seen = &states;
    static Word* counter;
    counter = &l.variable[0];
    l.thread(0, [&] {
        run_on(
            CpuSet::only(CpuId{1}), [](void*) { seen->insert(counter->load()); }, nullptr);
    });
    l.thread(1, [&] {
        l.variable[0].store(1);
        l.variable[0].store(2);
        IrqGuard guard;
        l.variable[0].store(3);
        l.variable[0].store(4);
    });
    l.outcomes(0);
    CHECK(l.report.complete);
    CHECK(states == std::set<u32>{0, 1, 2, 4});
}

TEST_CASE("explorer: a device takes its steps between any two of a CPU", "[.explorer][explorer-self]") {
    const auto run = [](const sim::Plan& plan, bool all) {
        Litmus l{2};
        CountingDevice device;
        l.scene.explored.reset = [&, next = l.scene.explored.reset] {
            next();
            device.value = device.left = 0;
        };
        l.thread(1, [&] {
            device.start();
            l.result[0] = device.read();
            l.result[1] = device.read();
        });
        const auto found = l.outcomes(2, plan);
        if (all) CHECK(l.report.complete);
        CHECK(device.told == std::set<u32>{3});
        return found;
    };
    const std::set<std::string> all{"00", "01", "02", "03", "11", "12", "13", "22", "23", "33"};
    CHECK(run(sim::reduced(), true) == all);
    CHECK(run(sim::reduced(~u64{0}, 0), true) == all); // the steps of a device are no preemptions
    CHECK(run(sim::random(3000), false) == all);
}

TEST_CASE("explorer: a thread is preempted at every step", "[.explorer][explorer-self]") {
    Litmus l{1};
    std::set<u32> states;
    l.thread(0, [&] {
        for (u32 i = 1; i <= 3; ++i)
            l.variable[0].store(i);
    });
    l.thread(0, [&] { states.insert(l.variable[0].load()); });
    l.scene.explored.preemptions = 1;
    l.outcomes(0);
    CHECK(states == std::set<u32>{0, 1, 2, 3});
}

TEST_CASE("explorer: a bound on preemptions gives fewer schedules, and all that need no more",
          "[.explorer][explorer-self]") {
    const auto run = [](u32 bound) {
        Litmus l{2};
        for (u32 cpu = 0; cpu < 2; ++cpu)
            l.thread(cpu, [&l] {
                for (u32 i = 0; i < 3; ++i)
                    l.atomic[0].store(l.atomic[0].load() + 1);
            });
        l.scene.explored.check = [&l, next = l.scene.explored.check] {
            l.result[0] = l.atomic[0].load();
            next();
        };
        const auto found = l.outcomes(1, sim::reduced(~u64{0}, bound));
        return std::pair{l.report.schedules, found};
    };
    const auto none = run(0), one = run(1), all = run(~0u);
    CHECK(none.first < one.first);
    CHECK(one.first < all.first * 10);
    CHECK(none.second.contains("6"));
    CHECK(one.second.contains("3"));
    CHECK(all.second == std::set<std::string>{"2", "3", "4", "5", "6"});
}

namespace {

// A random program: for each CPU a few operations on a few variables, and the operations of an interrupt. All results
// are collected in one text.
struct RandomProgram {
    enum class Op : u8 { store, load, exchange, send, irqs_off, irqs_on };
    struct Step {
        Op op;
        u32 variable;
    };
    class OwnInterrupt final : public sim::Kernel {
      public:
        explicit OwnInterrupt(RandomProgram& program) : program_{program} {}
        void interrupt(const std::function<void()>&) override { program_.handler(); }
        void switch_out(u32) override {}
        void switch_in(u32) override {}
        bool may_preempt() override { return true; }
        void ask_to_reschedule() override {}
        bool may_migrate(u32) override { return true; }
        void enter_idle() override {}

      private:
        RandomProgram& program_;
    };

    RandomProgram(Scene& scene, u32 seed, u32 shortest = 3, Op last = Op::irqs_off) {
        Random random{seed};
        cpus = sim::machine().options().cpus;
        for (u32 p = 0; p < cpus; ++p) {
            auto& steps = program[p];
            const u32 length = shortest + below(random, 2);
            bool off = false;
            for (u32 i = 0; i < length; ++i) {
                Op op = static_cast<Op>(below(random, static_cast<u32>(last) + 1));
                if (op == Op::irqs_off && off) op = Op::irqs_on;
                if (op == Op::irqs_off) off = true;
                if (op == Op::irqs_on) off = false;
                steps.push_back({op, below(random, 2)});
            }
            if (off) steps.push_back({Op::irqs_on, 0});
        }
        for (Step& step : in_handler)
            step = {static_cast<Op>(below(random, 3)), below(random, 2)};
        scene.explored.threads.clear();
        for (u32 cpu = 0; cpu < cpus; ++cpu)
            scene.thread(cpu, [this, cpu] { run(program[cpu], cpu, seen[cpu]); });
        scene.explored.reset = [this] {
            for (auto& v : variable)
                v.store(0);
            for (auto& text : seen)
                text.clear();
        };
        scene.explored.check = [this] {
            std::string outcome;
            for (const std::string& text : seen)
                outcome += text + "/";
            ++found[outcome + "=" + std::to_string(variable[0].load()) + "," + std::to_string(variable[1].load())];
        };
        scene.explored.kernel = &kernel;
    }

    std::string text() const {
        constexpr const char* kNames[] = {"store ", "load ", "exchange ", "send ", "off ", "on "};
        std::string all;
        const auto add = [&](const char* who, const Step& step) {
            all += who + std::string{kNames[static_cast<u32>(step.op)]} + std::to_string(step.variable) + "\n";
        };
        for (const Step& step : program[0])
            add("p0 ", step);
        for (const Step& step : program[1])
            add("p1 ", step);
        for (const Step& step : program[2])
            add("p2 ", step);
        for (const Step& step : in_handler)
            add("handler ", step);
        return all;
    }
    void handler() {
        const u32 cpu = hal::this_cpu().value();
        std::vector<Step> steps{in_handler, in_handler + 2};
        run(steps, cpus + cpu, seen[cpus + cpu]);
    }
    void run(const std::vector<Step>& steps, u32 who, std::string& text) {
        u32 value = 10 * (who + 1), flags = 0;
        for (const Step& step : steps) {
            switch (step.op) {
            case Op::store:
                variable[step.variable].store(++value);
                break;
            case Op::load:
                text += std::to_string(variable[step.variable].load()) + " ";
                break;
            case Op::exchange:
                text += std::to_string(variable[step.variable].exchange(++value)) + " ";
                break;
            case Op::send:
                hal::interrupt_cpu(CpuId{(who + 1) % cpus});
                break;
            case Op::irqs_off:
                flags = hal::irq_save();
                hal::irq_restore(hal::irq_save()); // interrupts are off already and stay off
                break;
            case Op::irqs_on:
                hal::irq_restore(flags);
                break;
            }
        }
    }

    static constexpr u32 kMostCpus = 3;
    u32 cpus = 0;
    std::vector<Step> program[kMostCpus];
    Step in_handler[2]{};
    hal::Atomic<u32> variable[2];
    std::string seen[2 * kMostCpus]; // by the program and by the interrupts of each CPU
    std::map<std::string, u32> found;
    OwnInterrupt kernel{*this};
};

} // namespace

TEST_CASE("explorer: the reduction loses no outcome of random programs", "[.explorer][explorer-self]") {
    constexpr u32 kPrograms = kSlow ? 20 : 100, kChances = 200;
    Scene scene{2};
    u64 by_chance = 0, reduced_runs = 0;
    for (u32 seed = 1; seed <= kPrograms; ++seed) {
        const u32 shortest = seed % 4;
        RandomProgram tried{scene, seed, shortest};
        by_chance += scene.attempt(sim::random(kChances)).schedules;
        RandomProgram all{scene, seed, shortest};
        const sim::Report report = scene.attempt(sim::reduced());
        CHECK(report.complete);
        reduced_runs += report.schedules + report.pruned;
        for (const auto& [text, times] : tried.found) {
            INFO("seed " << seed << ": " << text << "\n" << all.text());
            REQUIRE(all.found.contains(text));
        }
    }
    std::printf("explorer: random programs: %llu schedules by chance, %llu with the reduction\n",
                static_cast<unsigned long long>(by_chance), static_cast<unsigned long long>(reduced_runs));
}

// The bounded reduction, against every schedule within the bound.
TEST_CASE("explorer: the reduction within a bound loses no outcome", "[.explorer][explorer-self]") {
    ONLY_WITH(config::kPae && !config::kDebug); // no configuration of mm takes part
    struct Kind {
        u32 cpus, shortest;
        RandomProgram::Op last;
        u32 programs[3]; // for each bound
    };
    using enum RandomProgram::Op;
    const Kind kind =
        GENERATE(Kind{2, 2, exchange, {100, 100, 30}}, Kind{2, 2, send, {60, 15, 6}}, Kind{2, 2, irqs_off, {60, 15, 6}},
                 Kind{3, 1, exchange, {30, 20, 10}}, Kind{3, 2, exchange, {30, 10, 8}}, Kind{3, 1, send, {20, 6, 0}});
    Scene scene{kind.cpus};
    for (const u32 bound : {0u, 1u, 2u})
        for (u32 seed = 1; seed <= (kSlow ? kind.programs[bound] / 10 : kind.programs[bound]); ++seed) {
            RandomProgram all{scene, seed, kind.shortest, kind.last};
            if (!scene.attempt({sim::Plan::Kind::all, 10'000, bound, ~0u, 1}).complete) continue;
            RandomProgram few{scene, seed, kind.shortest, kind.last};
            CHECK(scene.attempt(sim::reduced(~u64{0}, bound)).complete);
            INFO(kind.cpus << " CPUs, seed " << seed << ", at most " << bound << " preemptions\n" << all.text());
            for (const auto& [text, times] : all.found)
                REQUIRE(few.found.contains(text));
            REQUIRE(few.found.size() == all.found.size());
        }
}

TEST_CASE("explorer: the reduction finds what all schedules of small programs find", "[.explorer][explorer-self]") {
    Scene scene{2};
    u32 compared = 0;
    for (u32 seed = 1000; seed <= 1040; ++seed) {
        RandomProgram all{scene, seed, 1};
        if (!scene.attempt(sim::unreduced(5'000)).complete) continue;
        RandomProgram few{scene, seed, 1};
        CHECK(scene.attempt(sim::reduced()).complete);
        std::set<std::string> expected, found;
        for (const auto& [text, times] : all.found)
            expected.insert(text);
        for (const auto& [text, times] : few.found)
            found.insert(text);
        INFO("seed " << seed << "\n" << all.text());
        REQUIRE(found == expected);
        ++compared;
    }
    CHECK(compared > 5);
}
