// Helpers of the self-tests. Contract: support.hpp.
#include "tests/guest/support.hpp"

#include "arch/i386/irq/timer.hpp"
#include "arch/i386/irq/traps.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/sync.hpp"
#include "kernel/threads/thread.hpp"
#include "mm/cache/memory_object.hpp"
#include "mm/frames/slab.hpp"
#include "mm/windows/vmap.hpp"

#include <array>

namespace loft::guest {
namespace {

constexpr u32 kWords = kPageSize / 4;
constexpr u32 kMiddle = 0x155; // an odd index: it shows an error in the upper bits of an offset

ZoneId zone_at(u32 i) { return static_cast<ZoneId>(i); }

// Frees what depends on earlier tests: pages of files that nobody uses (a test that takes all memory has them
// reclaimed), the frames that wait for the flush of vfree, and the empty slabs of caches.
void give_back_what_is_kept() {
    if (page_cache_stats().dirty != 0) (void)write_back_all();
    if (page_cache_stats().pages != 0) drop_pages(~0u);
    vmap_flush();
    ObjectCache::give_back_empty_slabs();
}

} // namespace

void drain_all_cpus() {
    hal::online_cpus().for_each([](CpuId cpu) {
        Thread* thread = thread_create(
            "drain", [](void*) { drain_local_pages(); }, nullptr, CpuSet::only(cpu));
        if (thread != nullptr) thread_join(thread);
    });
    vmap_flush(); // frees the stacks of threads
    drain_local_pages();
}

void warm_up_threads(u32 threads) {
    static std::array<Thread*, 128> thread;
    LOFT_ASSERT(threads <= thread.size());
    Completion go;
    auto body = [&] { go.wait(); };
    for (u32 i = 0; i < threads; ++i)
        thread[i] = thread_create("warm", body);
    go.complete_all();
    for (u32 i = 0; i < threads; ++i)
        if (thread[i] != nullptr) thread_join(thread[i]);
}

Patience::Patience(u32 looks, u32 seconds) : until_{now_us() + u64{seconds} * 1'000'000}, looks_{looks} {}

bool Patience::over() {
    if (looks_ != 0) --looks_;
    return looks_ == 0 && now_us() >= until_;
}

bool spin_for_ticks(u32 wanted) {
    const CpuId cpu = hal::this_cpu();
    const u32 first = ticks_of(cpu);
    for (Patience patience{Patience::kSpinning}; ticks_of(cpu) - first < wanted;) {
        if (patience.over()) return false;
        hal::cpu_relax();
    }
    return true;
}

u32 free_frames(ZoneId zone) { return zone_info(zone).free; }

KeepsFreeCounts::KeepsFreeCounts() {
    give_back_what_is_kept();
    for (u32 i = 0; i < kZones; ++i)
        free_[i] = free_frames(zone_at(i));
}

KeepsFreeCounts::~KeepsFreeCounts() {
    give_back_what_is_kept();
    for (u32 i = 0; i < kZones; ++i)
        if (!CHECK_EQ(free_frames(zone_at(i)), free_[i]))
            selftest::note("free frames of zone {}: now and before the test", zone_name(zone_at(i)));
}

u32 FrameChain::take(Gfp gfp, u32 order, u32 most) {
    LOFT_ASSERT(blocks_ == 0 || order == order_);
    order_ = order;
    u32 taken = 0;
    while (taken < most) {
        Page* page = alloc_pages(gfp, order);
        if (page == nullptr) break;
        page->set_payload(head_.value());
        head_ = page_to_pfn(page);
        ++taken;
    }
    blocks_ += taken;
    return taken;
}

void FrameChain::release() {
    while (head_.value() != 0) {
        Page* page = pfn_to_page(head_);
        head_ = Pfn{page->payload()};
        free_pages(page, order_);
    }
    blocks_ = 0;
}

AllFrames::AllFrames(Gfp gfp) {
    for (u32 order = kMaxOrder + 1; order-- > 0;)
        chain_[order].take(gfp, order);
}

u32 AllFrames::frames() const {
    u32 sum = 0;
    for (const FrameChain& chain : chain_)
        sum += chain.blocks() << chain.order();
    return sum;
}

void AllFrames::release() {
    for (FrameChain& chain : chain_)
        chain.release();
}

const char* too_long_to_take_everything() {
    u32 frames = 0;
    for (u32 i = 0; i < kZones; ++i)
        frames += free_frames(zone_at(i));
    const bool fits = !config::kDebug || selftest::full() || frames <= 512 * MiB / kPageSize;
    return fits ? nullptr : "a DEBUG kernel writes to every frame that is freed: selftest=full does it";
}

const char* no_slots_for(u32 frames) {
    if (!config::kHighMem) return "this kernel has no high memory";
    return config::kDebug ? nullptr : no_highmem_for(frames);
}

const char* no_highmem_for(u32 frames) {
    if (!config::kHighMem) return "this kernel has no high memory";
    const u32 have = free_frames(ZoneId::high);
    if (have == 0) return "this machine has no high memory";
    return have < frames ? "this machine has too little high memory" : nullptr;
}

void write_marks(VirtAddr at, Pfn pfn, u32 salt) {
    for (const u32 word : {0u, kMiddle, kWords - 1})
        hal::store<u32>(at + word * 4, mark(pfn, word, salt));
}

bool marks_hold(VirtAddr at, Pfn pfn, u32 salt) {
    for (const u32 word : {0u, kMiddle, kWords - 1})
        if (hal::load<u32>(at + word * 4) != mark(pfn, word, salt)) return false;
    return true;
}

void write_all_words(VirtAddr at, Pfn pfn, u32 salt) {
    for (u32 word = 0; word < kWords; ++word)
        hal::store<u32>(at + word * 4, mark(pfn, word, salt));
}

bool all_words_hold(VirtAddr at, Pfn pfn, u32 salt) {
    for (u32 word = 0; word < kWords; ++word)
        if (hal::load<u32>(at + word * 4) != mark(pfn, word, salt)) return false;
    return true;
}

void sign(Page* page, u32 salt) {
    const LocalMap map{page};
    write_marks(map.addr(), page_to_pfn(page), salt);
}

bool signed_by(Page* page, u32 salt) {
    const LocalMap map{page};
    return marks_hold(map.addr(), page_to_pfn(page), salt);
}

namespace detail {
namespace {

struct Body {
    void (*call)(void*);
    void* argument;
};
constinit Body outer_body{}, inner_body{};

void run_outer(TrapFrame&) { outer_body.call(outer_body.argument); }
void run_inner(TrapFrame&) { inner_body.call(inner_body.argument); }

} // namespace

void set_interrupt_body(u8 vector, void (*call)(void*), void* argument) {
    const bool outer = vector == test_vector::outer;
    (outer ? outer_body : inner_body) = {call, argument};
    trap_set_handler(vector, outer ? run_outer : run_inner);
}

void raise(u8 vector) {
    if (vector == test_vector::outer)
        asm volatile("int %0" ::"i"(test_vector::outer) : "memory");
    else
        asm volatile("int %0" ::"i"(test_vector::inner) : "memory");
}

} // namespace detail
} // namespace loft::guest
