// A simulated machine on which mm runs, and the helpers that most tests of mm use.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/ground/spinlock.hpp"
#include "mm/init.hpp"
#include "mm/windows/highmem.hpp"
#include "tests/sim/machine.hpp"

#include <catch2/catch.hpp>

#include <exception>
#include <functional>
#include <iosfwd>
#include <random>
#include <vector>

namespace loft::test {

inline constexpr bool kHigh = config::kHighMem, kDebug = config::kDebug;

struct Setup {
    sim::Options machine{};
    u64 highmem = BootInfo::kAllHighMem;
    u32 vmalloc = 0;
    bool userpte_nohigh = false;
    PhysAddr stored_end{};
};

// 64 MiB, half of it high memory if the configuration has any: boots fast, and a test can exhaust it quickly.
Setup small(u32 cpus = 2);

// Boots mm. All CPUs run on the kernel's root, with interrupts on and all counters 0.
class Booted {
  public:
    explicit Booted(const Setup& setup = small());

    sim::Machine machine;
    BootInfo info;
};

// Calls that clang's thread-safety analysis would reject: misuse that must panic, and data whose lock no other
// thread can take.
namespace unchecked {
template <typename Lock> void lock(Lock& lock) LOFT_UNCHECKED { lock.lock(); }
template <typename Lock> bool try_lock(Lock& lock) LOFT_UNCHECKED { return lock.try_lock(); }
template <typename Lock> void unlock(Lock& lock) LOFT_UNCHECKED { lock.unlock(); }
struct LOFT_GUARD Held {
    explicit Held(SpinLock& lock) LOFT_TAKES(lock) { static_cast<void>(lock); }
    ~Held() LOFT_GIVES_BACK() {}
};
} // namespace unchecked

// Free frames, the CPUs' counts, interrupt flags and local maps: equal before and after an operation that releases all
// that it took. Also checks the allocator's free lists.
struct Books {
    u32 free[kZones]{};
    u32 held_maps = 0;
    u32 atomic_counts = 0; // preemption, page faults and interrupt nesting of all CPUs
    u32 irqs_off = 0;      // CPUs with interrupts off
    bool operator==(const Books&) const = default;
};
Books books();
std::ostream& operator<<(std::ostream& out, const Books& books);

// Allocates a frame; the test fails if there is none.
Page* new_page(Gfp gfp = Gfp::high);
std::vector<Page*> new_pages(u32 count, Gfp gfp = Gfp::high);
void free_all(std::vector<Page*>& pages);

// Writes a word that is unique to the frame at both ends of the frame, without using page tables.
void stamp(Page* page);
// New pages with their stamps: from all of the machine's RAM, high ones if there are any.
std::vector<Page*> stamped(u32 count, Gfp gfp = Gfp::high);
// True if this CPU, through its TLB, sees that frame at `va`.
bool shows(VirtAddr va, Page* page);

// Allocates all free frames except `low` of lowmem and `high` of high memory, until the end of the scope. Frames that
// are freed meanwhile stay free.
class Shortage : NotCopyable<Shortage> {
  public:
    Shortage(u32 low, u32 high);
    ~Shortage();

  private:
    std::vector<Page*> taken_;
};

// Runs `handler` as an interrupt of this CPU, with the entry and exit of the kernel.
void as_interrupt(const std::function<void()>& handler);

// Code that runs at a schedule point, between two operations of the code under test. It may run inside a destructor of
// mm, where an exception would end the program: the first exception is stored, and finish() throws it.
class Intruder {
  public:
    explicit Intruder(std::function<void()> what) : what_{std::move(what)} {}
    void operator()();
    void finish();
    u32 runs() const { return runs_; }

  private:
    std::function<void()> what_;
    std::exception_ptr first_;
    u32 runs_ = 0;
};

// Runs `what` on another CPU at a schedule point of this one. False if it would wait for a lock that this CPU holds:
// then it is left waiting and has changed nothing.
bool try_on_cpu(CpuId cpu, const std::function<void()>& what);

// Boots a machine and runs `body` on it, once for every possible sequence of answers to "was this entry filled
// speculatively?"; returns how many there were. The answers count from where `body` calls from_here().
u32 for_every_fill(const Setup& setup,
                   const std::function<void(Booted&, const std::function<void()>& from_here)>& body);

// True if a child process that runs `what` ends in std::terminate, by an exception with `text` in its message.
bool terminates_with(const std::function<void()>& what, std::string_view text);

using Random = std::mt19937;
inline u32 below(Random& random, u32 limit) { return static_cast<u32>(random() % limit); }

// For REQUIRE_THROWS_MATCHES: the text of a panic, refusal or fault.
class Says : public Catch::MatcherBase<std::exception> {
  public:
    explicit Says(std::string part) : part_{std::move(part)} {}
    bool match(const std::exception& error) const override {
        return std::string_view{error.what()}.find(part_) != std::string_view::npos;
    }
    std::string describe() const override { return "says \"" + part_ + "\""; }

  private:
    std::string part_;
};

} // namespace loft::test

namespace Catch {
template <> struct StringMaker<loft::Pfn> {
    static std::string convert(loft::Pfn pfn) { return loft::sim::text("frame {:x}", pfn.value()); }
};
template <> struct StringMaker<loft::VirtAddr> {
    static std::string convert(loft::VirtAddr va) { return loft::sim::text("{:08x}", va.value()); }
};
template <> struct StringMaker<loft::GlobalAddr> : StringMaker<loft::VirtAddr> {};
template <> struct StringMaker<loft::LocalAddr> : StringMaker<loft::VirtAddr> {};
template <> struct StringMaker<loft::PhysAddr> {
    static std::string convert(loft::PhysAddr at) { return loft::sim::text("physical {:x}", at.value()); }
};
} // namespace Catch

#define REQUIRE_PANIC(expression, text) REQUIRE_THROWS_MATCHES(expression, ::loft::sim::Panic, ::loft::test::Says(text))
#define CHECK_PANIC(expression, text) CHECK_THROWS_MATCHES(expression, ::loft::sim::Panic, ::loft::test::Says(text))
#define REQUIRE_REFUSED(expression, text)                                                                              \
    REQUIRE_THROWS_MATCHES(expression, ::loft::sim::Refused, ::loft::test::Says(text))

// Ends a test that does not apply to this configuration.
#define ONLY_WITH(condition)                                                                                           \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            SUCCEED("not in this configuration: " #condition);                                                         \
            return;                                                                                                    \
        }                                                                                                              \
    } while (false)
