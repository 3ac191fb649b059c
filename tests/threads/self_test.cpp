// The explorer under a kernel with threads of its own: the reduction misses no outcome that random schedules find.
#include "tests/threads/rig.hpp"

#include <set>

using namespace loft;
using namespace loft::test;

namespace {

// The order in which threads took steps, and on which CPUs.
struct Marks {
    explicit Marks(u32 cpus) : s{cpus} {
        s.reset = [this] { order.clear(); };
        s.check = [this] { found.insert(order); };
    }
    void mark(char who) {
        s.count[0].fetch_add(1);
        order += who;
        order += static_cast<char>('0' + hal::this_cpu().value());
    }
    std::set<std::string> outcomes(const sim::Plan& plan) {
        found.clear();
        report = s.attempt(plan);
        INFO(report.trace);
        INFO(report.failure);
        CHECK(report.failure.empty());
        return found;
    }
    void compare() {
        const std::set<std::string> all = outcomes(sim::reduced());
        CHECK(report.complete);
        CHECK(all.size() > 1);
        for (const std::string& one : outcomes(sim::random(schedules(3'000))))
            CHECK(all.contains(one));
    }

    Scene s;
    std::string order;
    std::set<std::string> found;
    sim::Report report;
};

} // namespace

TEST_CASE("threads: every order of a tick and two threads of one CPU is tried", "[.threads][threads-self]") {
    Marks m{1};
    m.s.main([&] {
        m.mark('a');
        m.mark('b');
    });
    m.s.thread(0, [&] {
        m.mark('c');
        m.mark('d');
    });
    m.s.explored.ticks = 2;
    m.compare();
}

TEST_CASE("threads: every CPU that may take a ready thread is tried", "[.threads][threads-self]") {
    Marks m{2};
    m.s.main([&] {
        m.mark('a');
        yield();
        m.mark('b');
    });
    m.s.thread(0, [&] { m.mark('c'); });
    m.compare();
}
