// Stress: threads on all CPUs map, access, check and unmap random pages by all mapping calls. They hold mappings across
// yields, sleeps, interrupts and migrations, and pass addresses to each other, while the kmap pool is too small for
// all.
//
// Each word of a page is computed from its frame, its place and the round. A reader knows the expected value of a word,
// and a writer writes just this value. So threads share pages without a lock, and a stale translation is found at once:
// by the thread that reads through it, or by the owner of the frame that was overwritten.
//
// `quick` and `full` limit the work by operations, so that a run under -icount is the same each time. `soak=SECONDS`
// runs for that time, with a line for each round.
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/irq/traps.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/boot/cmdline.hpp"
#include "kernel/boot/report.hpp"
#include "kernel/threads/hotplug.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/scheduler.hpp"
#include "kernel/threads/sync.hpp"
#include "kernel/threads/thread.hpp"
#include "mm/ground/counters.hpp"
#include "mm/ground/remote.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/vmap.hpp"
#include "tests/guest/support.hpp"

#include <algorithm>
#include <array>

namespace loft::guest::stress_test {
namespace {

constexpr u32 kShared = 96; // pages that all threads access
constexpr u32 kOwn = 3;     // pages that a thread allocates, signs and frees
constexpr u32 kThreadsAtMost = 2 * config::kMaxCpus + 3;
constexpr u32 kBoxes = 4;
constexpr u32 kWords = kPageSize / 4;
// The limits of a wait without any operation done; a look is a sleep of one tick. An emulator may be very late.
constexpr u32 kStuckSeconds = 120, kStuckLooks = 6'000;

// The kinds of operations, which are counted.
enum class Work : u8 {
    local,     // kmap_local_page, nested
    atomic,    // kmap_atomic, nested
    kmap_one,  //
    kmap_two,  // two pages at once
    kmap_same, // one page twice
    hand_over, // an address that another thread uses without calling kmap
    receive,   //
    vmap,      //
    vmalloc,   //
    copy,      // copy_highpage, memcpy_to_page, memcpy_from_page
    clear,     // clear_highpage, zero_user
    renew,     // free a page, allocate another
    disturb,   // interrupts on other CPUs: the handlers map, and migrate the threads that they interrupt
    count,
};
constexpr u32 kWorks = static_cast<u32>(Work::count);
constexpr const char* kWorkNames[kWorks] = {
    "local", "atomic",  "kmap", "kmap of two", "kmap twice", "hand-overs", "receptions",
    "vmap",  "vmalloc", "copy", "clear",       "renew",      "disturb",
};

// A box in which a thread leaves an address for others.
struct Box {
    enum : u32 { kEmpty, kBusy, kOpen };
    hal::Atomic<u32> state;
    hal::Plain<u32> address;
    hal::Plain<u32> page; // index of a shared page
};

struct Totals {
    hal::Atomic<u32> work[kWorks];
    hal::Atomic<u32> words, in_interrupts, moves, sleeps, refused;
    hal::Atomic<u32> stale;                  // words with a wrong value
    hal::Atomic<u32> unbound;                // migrations of a thread that holds a local mapping
    hal::Atomic<u32> misplaced;              // pages with two addresses
    hal::Atomic<u32> downs, ups, busy, late; // of CPUs
};

struct Stress {
    const Pages<kShared>* pages = nullptr;
    u32 salt = 0;
    u32 seed = 0;
    hal::Atomic<u32> left; // operations to do; the round ends at 0
    hal::Atomic<u32> done; // operations done
    hal::Atomic<u32> ended;
    hal::Atomic<u32> ticks;
    Box box[kBoxes];
    TickHandler tick = nullptr; // the scheduler's
    Totals totals;
};
Stress stress; // a global: interrupt handlers use it

CpuId any_cpu(u32 random) {
    u32 skip = random % hal::online_cpus().count();
    CpuId found{};
    hal::online_cpus().for_each([&](CpuId cpu) {
        if (skip-- == 0) found = cpu;
    });
    return found;
}

// Reads one word, checks it, and writes the same value.
void touch_word(VirtAddr page_at, Pfn pfn, u32 word, u32 salt) {
    const u32 want = mark(pfn, word, salt);
    if (hal::load<u32>(page_at + word * 4) != want) stress.totals.stale.fetch_add(1);
    hal::store<u32>(page_at + word * 4, want);
}

void touch_shared_in_interrupt(u32 random) {
    const u32 i = random % kShared;
    Page* page = (*stress.pages)[i];
    const Pfn pfn = page_to_pfn(page);
    if (random & 0x8000'0000) {
        const AtomicMap map{page};
        touch_word(map.addr(), pfn, (random >> 8) % kWords, stress.salt);
    } else {
        const LocalMap map{page};
        touch_word(map.addr(), pfn, (random >> 8) % kWords, stress.salt);
    }
    stress.totals.in_interrupts.fetch_add(1);
}

// The body of interrupts: maps, and sometimes migrates the thread that it interrupts.
void interrupt_body(u32 random) {
    random *= 0x9e37'79b1;
    random ^= random >> 15;
    touch_shared_in_interrupt(random);
    if (random % 8 == 0) {
        request_move(any_cpu(random >> 4));
        stress.totals.moves.fetch_add(1);
    }
}

void on_stress_tick(TrapFrame& frame) {
    interrupt_body(stress.seed + stress.ticks.fetch_add(1));
    stress.tick(frame);
}
void on_stress_interrupt(TrapFrame& frame) { interrupt_body(stress.seed ^ frame.ecx ^ frame.eip); }

class Worker {
  public:
    void begin(u32 number) {
        random_ = selftest::Rng{stress.seed + u64{number} * 0x1'0000'0001};
        number_ = number;
        operations_ = 0;
    }
    u32 operations() const { return operations_; }

    void operator()() {
        while (take_one()) {
            const u32 kind = random_.below(kWorks);
            operate(static_cast<Work>(kind));
            stress.totals.work[kind].fetch_add(1);
            stress.done.fetch_add(1);
            ++operations_;
        }
        for (u32 i = 0; i < kOwn; ++i)
            discard(i);
        stress.ended.fetch_add(1);
    }

  private:
    static bool take_one() {
        u32 left = stress.left.load();
        do {
            if (left == 0) return false;
        } while (!stress.left.compare_exchange(left, left - 1));
        return true;
    }

    static Page* shared(u32 i) { return (*stress.pages)[i]; }
    u32 any() { return random_.below(kShared); }
    bool now_and_then(u32 one_in) { return random_.below(one_in) == 0; }

    void touch(VirtAddr at, Pfn pfn, u32 salt) {
        stress.totals.words.fetch_add(8);
        touch_word(at, pfn, 0, salt);
        touch_word(at, pfn, kWords - 1, salt);
        for (u32 i = 0; i < 6; ++i)
            touch_word(at, pfn, random_.below(kWords), salt);
        if (now_and_then(64) && !all_words_hold(at, pfn, salt)) stress.totals.stale.fetch_add(1);
    }
    void touch_shared(VirtAddr at, u32 i) { touch(at, page_to_pfn(shared(i)), stress.salt); }

    // A random event at any point of a thread; with `may_sleep` also a yield or a sleep.
    void meanwhile(bool may_sleep) {
        switch (random_.below(may_sleep ? 12 : 4)) {
        case 0:
            detail::raise(test_vector::outer);
            break;
        case 4:
        case 5:
            yield();
            break;
        case 6:
            request_move(any_cpu(random_.next()));
            stress.totals.moves.fetch_add(1);
            break;
        case 7:
            request_move(any_cpu(random_.next()));
            stress.totals.moves.fetch_add(1);
            yield();
            break;
        case 8:
            if (!now_and_then(50)) break;
            stress.totals.sleeps.fetch_add(1);
            sleep_ms(1 + random_.below(3));
            break;
        default:
            break;
        }
    }

    void operate(Work work) {
        switch (work) {
        case Work::local:
            return local(1 + random_.below(5));
        case Work::atomic:
            return atomic(1 + random_.below(3));
        case Work::kmap_one:
            return kmap_one();
        case Work::kmap_two:
            return kmap_two();
        case Work::kmap_same:
            return kmap_same();
        case Work::hand_over:
            return hand_over();
        case Work::receive:
            return receive();
        case Work::vmap:
            return map_area();
        case Work::vmalloc:
            return allocate_area();
        case Work::copy:
            return copy();
        case Work::clear:
            return clear();
        case Work::renew:
            return renew(random_.below(kOwn));
        case Work::disturb:
            return disturb();
        case Work::count:
            break;
        }
    }

    void local(u32 depth) {
        const u32 i = any();
        const LocalMap map{shared(i)};
        const CpuId cpu = hal::this_cpu();
        const bool has_slot = uses_slot(shared(i));
        touch_shared(map.addr(), i);
        meanwhile(true);
        if (depth > 1) local(depth - 1);
        touch_shared(map.addr(), i);
        if (has_slot && hal::this_cpu() != cpu) stress.totals.unbound.fetch_add(1);
    }

    void atomic(u32 depth) {
        const u32 i = any();
        const AtomicMap map{shared(i)};
        const CpuId cpu = hal::this_cpu();
        touch_shared(map.addr(), i);
        meanwhile(false);
        if (depth > 1) atomic(depth - 1);
        touch_shared(map.addr(), i);
        if (hal::this_cpu() != cpu) stress.totals.unbound.fetch_add(1);
    }

    void kmap_one() {
        const u32 i = any();
        const KMap map{shared(i)};
        touch_shared(map.addr(), i);
        meanwhile(true);
        touch_shared(map.addr(), i);
        if (now_and_then(4)) local(2);
    }

    void kmap_two() {
        const u32 i = any(), k = any();
        const KMap first{shared(i)};
        touch_shared(first.addr(), i);
        meanwhile(true);
        const KMap second{shared(k)};
        touch_shared(second.addr(), k);
        meanwhile(true);
        touch_shared(first.addr(), i);
        touch_shared(second.addr(), k);
    }

    void kmap_same() {
        const u32 i = any();
        Page* page = shared(i);
        const GlobalAddr first = kmap(page);
        meanwhile(true);
        const GlobalAddr second = kmap(page);
        if (!(first == second)) stress.totals.misplaced.fetch_add(1);
        kunmap(page);
        meanwhile(true);
        touch_shared(first, i);
        VirtAddr seen;
        // A lowmem page that DEBUG maps by a slot has two addresses: page_address returns the other one.
        if (!(uses_slot(page) ? pkmap_address(page, seen) : page_address(page, seen)) || seen != first ||
            kmap_to_page(first) != page)
            stress.totals.misplaced.fetch_add(1);
        kunmap(page);
    }

    // The address stays valid until the box is empty again; threads that use it meanwhile do not call kmap.
    void hand_over() {
        Box& box = stress.box[random_.below(kBoxes)];
        const u32 i = any();
        const KMap map{shared(i)};
        u32 state = Box::kEmpty;
        if (!box.state.compare_exchange(state, Box::kBusy)) {
            touch_shared(map.addr(), i);
            return;
        }
        if (now_and_then(2)) touch_shared(map.addr(), i); // else other threads make the first access
        box.address.store(map.addr().value());
        box.page.store(i);
        box.state.store(Box::kOpen);
        for (u32 n = random_.below(4); n != 0; --n)
            yield();
        do {
            yield();
            state = Box::kOpen;
        } while (!box.state.compare_exchange(state, Box::kEmpty));
    }

    void receive() {
        for (Box& box : stress.box) {
            u32 state = Box::kOpen;
            if (!box.state.compare_exchange(state, Box::kBusy)) continue;
            touch_shared(VirtAddr{box.address.load()}, box.page.load());
            meanwhile(true);
            touch_shared(VirtAddr{box.address.load()}, box.page.load());
            box.state.store(Box::kOpen);
        }
    }

    void map_area() {
        std::array<u32, 6> which;
        std::array<Page*, 6> page;
        const u32 n = 1 + random_.below(6);
        for (u32 i = 0; i < n; ++i) {
            which[i] = any();
            page[i] = shared(which[i]);
        }
        const Result<VirtAddr> area = vmap(page.data(), n, VmapProt::rw);
        if (!area) {
            stress.totals.refused.fetch_add(1);
            return;
        }
        for (u32 i = 0; i < n; ++i)
            touch_shared(*area + i * kPageSize, which[i]);
        meanwhile(true);
        touch_shared(*area, which[0]);
        vunmap(*area);
        if (now_and_then(100)) vmap_flush();
    }

    void allocate_area() {
        const u32 pages = 1 + random_.below(3);
        const Result<VirtAddr> area = vmalloc(pages * kPageSize);
        if (!area) {
            stress.totals.refused.fetch_add(1);
            return;
        }
        const u32 salt = random_.next();
        for (u32 i = 0; i < pages; ++i) {
            if (hal::load<u32>(*area + i * kPageSize + 4 * random_.below(kWords)) != 0)
                stress.totals.stale.fetch_add(1);
            write_marks(*area + i * kPageSize, Pfn{i}, salt);
        }
        meanwhile(true);
        for (u32 i = 0; i < pages; ++i)
            if (!marks_hold(*area + i * kPageSize, Pfn{i}, salt)) stress.totals.stale.fetch_add(1);
        vfree(*area);
    }

    // --- The thread's own pages: no other thread uses them before they are freed.
    struct Own {
        Page* page = nullptr;
        u32 salt = 0;
    };
    void sign_own(Own& own) {
        own.salt = random_.next();
        const Pfn pfn = page_to_pfn(own.page);
        if (now_and_then(2)) {
            const LocalMap map{own.page};
            write_all_words(map.addr(), pfn, own.salt);
        } else {
            const KMap map{own.page};
            write_all_words(map.addr(), pfn, own.salt);
        }
    }
    void check_own(const Own& own) {
        const Pfn pfn = page_to_pfn(own.page);
        bool holds = false;
        switch (random_.below(3)) {
        case 0: {
            const LocalMap map{own.page};
            holds = all_words_hold(map.addr(), pfn, own.salt);
            break;
        }
        case 1: {
            const KMap map{own.page};
            holds = all_words_hold(map.addr(), pfn, own.salt);
            break;
        }
        default: {
            const AtomicMap map{own.page};
            holds = all_words_hold(map.addr(), pfn, own.salt);
            break;
        }
        }
        stress.totals.words.fetch_add(kWords);
        if (!holds) stress.totals.stale.fetch_add(1);
    }
    void discard(u32 i) {
        if (own_[i].page == nullptr) return;
        check_own(own_[i]);
        free_page(own_[i].page);
        own_[i].page = nullptr;
    }
    void renew(u32 i) {
        discard(i);
        meanwhile(true);
        own_[i].page = alloc_page(Gfp::high);
        if (own_[i].page == nullptr) {
            stress.totals.refused.fetch_add(1);
            return;
        }
        sign_own(own_[i]);
    }
    Own* any_own() {
        Own& own = own_[random_.below(kOwn)];
        return own.page != nullptr ? &own : nullptr;
    }

    void copy() {
        Own* own = any_own();
        if (own == nullptr) return renew(0);
        const u32 i = any();
        check_own(*own);
        copy_highpage(own->page, shared(i));
        {
            const LocalMap map{own->page};
            if (!all_words_hold(map.addr(), page_to_pfn(shared(i)), stress.salt)) stress.totals.stale.fetch_add(1);
        }
        const u32 word = random_.below(kWords - 8);
        std::array<u32, 8> words;
        memcpy_from_page(words.data(), shared(i), word * 4, sizeof(words));
        for (u32 k = 0; k < words.size(); ++k)
            if (words[k] != mark(page_to_pfn(shared(i)), word + k, stress.salt)) stress.totals.stale.fetch_add(1);
        memcpy_to_page(shared(i), word * 4, words.data(), sizeof(words)); // the values that the words have already
        sign_own(*own);
    }

    void clear() {
        Own* own = any_own();
        if (own == nullptr) return renew(1);
        check_own(*own);
        const u32 start = random_.below(kPageSize), end = start + random_.below(kPageSize - start + 1);
        if (now_and_then(4))
            clear_highpage(own->page);
        else
            zero_user(own->page, start, end);
        {
            const KMap map{own->page};
            meanwhile(true);
            for (u32 at = start; at < end; at += 61)
                if (hal::load<u8>(VirtAddr{map.addr()} + at) != 0) stress.totals.stale.fetch_add(1);
        }
        sign_own(*own);
    }

    // Interrupts other CPUs, at whatever instruction they execute.
    void disturb() {
        u32 random = random_.next();
        const CpuSet some = CpuSet::from_bits(hal::online_cpus().bits() & random_.next());
        run_on(
            some, [](void* seed) { interrupt_body(*static_cast<const u32*>(seed) + hal::this_cpu().value()); },
            &random);
    }

    selftest::Rng random_{0};
    u32 number_ = 0;
    u32 operations_ = 0;
    std::array<Own, kOwn> own_{};
};

// Takes CPUs away and brings them back, one or several at a time: kLeast at least, and until it is told to stop.
class Storm : NotCopyable<Storm> {
  public:
    explicit Storm(bool wanted) : all_{hal::online_cpus()}, random_{stress.seed ^ 0x5702'1234u} {
        if (wanted) thread_ = thread_create("storm", *this);
    }
    ~Storm() {
        if (thread_ == nullptr) return;
        stop_.store(1);
        thread_join(thread_);
        CHECK_EQ(hal::online_cpus().bits(), all_.bits());
        CHECK_EQ(others_, 0u);
    }
    void operator()() {
        for (const u32 begin = stress.totals.downs.load();
             stop_.load() == 0 || stress.totals.downs.load() - begin < kLeast;) {
            change(any());
            if (random_.below(2) == 0) sleep_ms(1 + random_.below(20));
        }
        all_.for_each([this](CpuId cpu) {
            while (!hal::online_cpus().has(cpu))
                change(cpu);
        });
    }

  private:
    static constexpr u32 kLeast = 4;

    CpuId any() {
        u32 skip = random_.below(all_.count());
        CpuId found{};
        all_.for_each([&](CpuId cpu) {
            if (skip-- == 0) found = cpu;
        });
        return found;
    }
    void change(CpuId cpu) {
        const bool there = hal::online_cpus().has(cpu);
        switch (there ? cpu_down(cpu) : cpu_up(cpu)) {
        case Hotplug::done:
            (there ? stress.totals.downs : stress.totals.ups).fetch_add(1);
            break;
        case Hotplug::busy:
            stress.totals.busy.fetch_add(1);
            break;
        case Hotplug::failed: // late: it is called again
            stress.totals.late.fetch_add(1);
            break;
        case Hotplug::boot_cpu:
            others_ += cpu != CpuId{0};
            break;
        case Hotplug::no_such:
            ++others_;
            break;
        }
    }

    CpuSet all_;
    selftest::Rng random_;
    Thread* thread_ = nullptr;
    hal::Atomic<u32> stop_;
    u32 others_ = 0; // answers that make no sense
};

std::array<Worker, kThreadsAtMost> worker;
std::array<Thread*, kThreadsAtMost> thread;

u32 thread_count() { return 2 * hal::online_cpus().count() + 3; }

// Waits until the operations are done or the time is over.
void wait_for_workers(u32 threads, u64 microseconds) {
    const u64 start = now_us();
    Patience patience{kStuckLooks, kStuckSeconds};
    for (u32 done = 0; stress.ended.load() != threads; sleep_ms(10)) {
        const u64 now = now_us();
        if (now - start >= microseconds) stress.left.exchange(0);
        const u32 progress = stress.done.load() + stress.ended.load();
        if (progress != done) patience = Patience{kStuckLooks, kStuckSeconds};
        done = progress;
        if (!patience.over()) continue;
        report_threads();
        report_counters();
        panic("stress: nothing has moved for {} s; {} of {} threads have ended", kStuckSeconds, stress.ended.load(),
              threads);
    }
}

// One round of `operations` operations, or as many as fit into the time. Adds to stress.totals; checks that all
// resources are released. False if there is not enough memory.
bool run_round(u32 operations, u64 microseconds, u32 slots, bool storm = false) {
    const u32 threads = thread_count();
    const KeepsFreeCounts counts;
    const u32 leaks = thread_leaks();
    const Pages<kShared> pages;
    if (!CHECK(pages.complete())) return false;
    stress.pages = &pages;
    stress.salt = selftest::rng().next();
    stress.seed = selftest::rng().next();
    for (u32 i = 0; i < kShared; ++i) {
        const LocalMap map{pages[i]};
        write_all_words(map.addr(), pages.pfn(i), stress.salt);
    }
    stress.left.store(operations);
    stress.done.store(0);
    stress.ended.store(0);
    stress.ticks.store(0);
    {
        const PoolOf pool{slots};
        const TrapHandler other = trap_set_handler(test_vector::outer, on_stress_interrupt);
        stress.tick = timer_set_tick_handler(nullptr);
        timer_set_tick_handler(on_stress_tick);
        u32 missing = 0;
        for (u32 i = 0; i < threads; ++i) {
            worker[i].begin(i);
            thread[i] = thread_create("stress", worker[i]);
            missing += thread[i] == nullptr;
        }
        CHECK_EQ(missing, 0u);
        {
            const Storm cpus{storm};
            wait_for_workers(threads - missing, microseconds);
        }
        for (u32 i = 0; i < threads; ++i)
            if (thread[i] != nullptr) thread_join(thread[i]);
        timer_set_tick_handler(stress.tick);
        trap_set_handler(test_vector::outer, other);
        CHECK_EQ(pkmap_use().used, 0u);
    }

    CHECK_EQ(stress.totals.stale.load(), 0u);
    CHECK_EQ(stress.totals.unbound.load(), 0u);
    CHECK_EQ(stress.totals.misplaced.load(), 0u);
    CHECK_EQ(thread_leaks(), leaks);
    CHECK_EQ(local_depth(), 0u);
    CHECK_EQ(context.load<&Context::minus_kmaps>(), 0u);
    u32 spoilt = 0, held = 0;
    for (u32 i = 0; i < kShared; ++i) {
        const LocalMap map{pages[i]};
        spoilt += !all_words_hold(map.addr(), pages.pfn(i), stress.salt);
    }
    CHECK_EQ(spoilt, 0u);
    hal::online_cpus().for_each([&](CpuId cpu) { held += local_maps.of(cpu).top != local_maps.of(cpu).base; });
    CHECK_EQ(held, 0u);
    return true;
}

void clear_totals() {
    for (hal::Atomic<u32>& one : stress.totals.work)
        one.store(0);
    Totals& t = stress.totals;
    for (hal::Atomic<u32>* one : {&t.words, &t.in_interrupts, &t.moves, &t.sleeps, &t.refused, &t.stale, &t.unbound,
                                  &t.misplaced, &t.downs, &t.ups, &t.busy, &t.late})
        one->store(0);
}

void print_totals() {
    const Totals& t = stress.totals;
    BufferSink<400> works;
    for (u32 i = 0; i < kWorks; ++i)
        format(works, "{}{} {}", i == 0 ? "" : ", ", t.work[i].load(), kWorkNames[i]);
    selftest::note("{}", works.view());
    selftest::note("{} words, {} mappings in interrupts, {} moves asked for, {} sleeps, {} requests without memory",
                   t.words.load(), t.in_interrupts.load(), t.moves.load(), t.sleeps.load(), t.refused.load());
    selftest::note("{} stale, {} unbound, {} misplaced", t.stale.load(), t.unbound.load(), t.misplaced.load());
    if (const u32 downs = t.downs.load(); downs != 0)
        selftest::note("CPUs went away {} times and came back {} times, {} were busy, {} late", downs, t.ups.load(),
                       t.busy.load(), t.late.load());
}

// Allocates the descriptors and areas of a round in advance: descriptors are never freed.
void prepare() {
    warm_up_threads(thread_count() + 1);
    drain_all_cpus();
}

u32 kmap_waits() { return config::kHighMem ? pkmap_stats().waits : 0; }

// DEBUG flushes at each unmap: an operation costs twenty times as much.
constexpr u32 kQuick = config::kDebug ? 200 : 500;

} // namespace

// Fewer credits than threads: many of them sleep for one.
SELFTEST(stress, small_pool) {
    prepare();
    clear_totals();
    const u32 waits = kmap_waits();
    const u32 slots = std::max(thread_count() & ~1u, 4u);
    if (!run_round(selftest::full() ? 400'000 : 5 * kQuick, ~u64{0}, slots)) return;
    if (no_slots_for(kShared) == nullptr) CHECK_GT(kmap_waits() - waits, 0u);
    print_totals();
}

// One credit: the thread that holds it must always be able to finish.
SELFTEST(stress, smallest_pool) {
    prepare();
    clear_totals();
    if (!run_round(selftest::full() ? 50'000 : kQuick, ~u64{0}, 2)) return;
    print_totals();
}

SELFTEST(stress, whole_pool) {
    prepare();
    clear_totals();
    if (!run_round(selftest::full() ? 200'000 : kQuick + kQuick / 2, ~u64{0}, ~0u)) return;
    print_totals();
}

SELFTEST(stress, cpus_come_and_go) {
    if (hal::online_cpus().count() < 2) SKIP("one CPU");
    prepare();
    clear_totals();
    if (!run_round(selftest::full() ? 200'000 : 3 * kQuick, ~u64{0}, ~0u, true)) return;
    CHECK_EQ(stress.totals.downs.load(), stress.totals.ups.load());
    print_totals();
}

// soak=SECONDS: rounds of ten seconds, with pools of many sizes, CPUs that come and go in every
// other one, frames counted after each of them.
SELFTEST(stress, soak) {
    if (options().soak == 0) SKIP("soak=SECONDS on the command line asks for it");
    constexpr u64 kRound = 10'000'000;
    prepare();
    clear_totals();
    const u64 start = now_us(), end = start + u64{options().soak} * 1'000'000;
    const TlbStats tlb = tlb_stats_sum();
    const SchedulerStats before = scheduler_stats_sum();
    u64 operations = 0;
    u32 least = ~0u;
    for (u32 round = 0; now_us() < end; ++round) {
        const u32 threads = thread_count();
        const u32 sizes[] = {threads & ~1u, 2, 4, 2 * threads - 2, threads / 2 + 1, ~0u};
        const u64 now = now_us();
        if (!run_round(~0u, std::min(kRound, end - now), sizes[round % std::size(sizes)], round % 2 != 0)) return;
        operations += stress.done.load();
        for (u32 i = 0; i < threads; ++i)
            least = std::min(least, worker[i].operations());
        const TlbStats t = tlb_stats_sum();
        const SchedulerStats s = scheduler_stats_sum();
        const PkmapStats pool = since_start(pkmap_stats());
        selftest::note("{} s: {} operations, at least {} by each thread in each round; {} stale; {} switches, {} "
                       "preemptions; pkmap {} maps, {} wraps, {} waits; {} rounds of flushes, {} remote, {} idle, "
                       "{} clean",
                       (now_us() - start) / 1'000'000, operations, least, stress.totals.stale.load(),
                       s.switches - before.switches, s.preemptions - before.preemptions, pool.maps, pool.wraps,
                       pool.waits, t.rounds - tlb.rounds, t.remote - tlb.remote, t.skipped_idle - tlb.skipped_idle,
                       t.skipped_clean - tlb.skipped_clean);
        if (stress.totals.stale.load() != 0) break;
    }
    CHECK_GT(least, 0u);
    print_totals();
}

} // namespace loft::guest::stress_test
