// What the self-tests share: frames that are given back, signatures in them, and counts that must not have
// changed.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "arch/i386/cpu/probe.hpp"
#include "kernel/proof/selftest.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/highmem.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/pkmap.hpp"

#include <hal/hal.hpp>

#include <algorithm>

namespace loft::guest {

// ------------------------------------------------------------------------------------------- free frames

// Fails the test if, at its end, a zone does not have as many free frames as at its beginning. The frames in
// the CPUs' lists count as free (zone_info), those that vfree still owes and the empty slabs of caches are collected
// first, so that it does not matter what ran before. Declared before whatever holds frames.
class KeepsFreeCounts : NotCopyable<KeepsFreeCounts> {
  public:
    KeepsFreeCounts();
    ~KeepsFreeCounts();

  private:
    u32 free_[kZones];
};

u32 free_frames(ZoneId zone);

// The frames in the lists of all CPUs go back to the buddy system: one CPU cannot reach another's.
void drain_all_cpus();

// Descriptors of threads are never given back: as many as a test needs are made before it counts frames. At most 128.
void warm_up_threads(u32 threads);

// A handful of frames, given back at the end.
template <u32 N> class Pages : NotCopyable<Pages<N>> {
  public:
    explicit Pages(Gfp gfp = Gfp::high) {
        for (Page*& page : page_)
            page = alloc_page(gfp);
    }
    ~Pages() {
        for (Page* page : page_)
            if (page != nullptr) free_page(page);
    }

    bool complete() const {
        for (Page* page : page_)
            if (page == nullptr) return false;
        return true;
    }
    Page* operator[](u32 i) const { return page_[i]; }
    Pfn pfn(u32 i) const { return page_to_pfn(page_[i]); }
    Page* const* begin() const { return page_; }
    Page* const* end() const { return page_ + N; }
    // The i-th is not given back: the test did that.
    void forget(u32 i) { page_[i] = nullptr; }

  private:
    Page* page_[N]{};
};

// Many frames, chained through their descriptors' payload so that no array is needed.
class FrameChain : NotCopyable<FrameChain> {
  public:
    FrameChain() = default;
    ~FrameChain() { release(); }

    // Blocks of 2^order frames until there are `most` of them or the allocator has no more.
    u32 take(Gfp gfp, u32 order = 0, u32 most = ~0u);
    void release();
    u32 blocks() const { return blocks_; }
    u32 order() const { return order_; }

    class Iterator {
      public:
        explicit Iterator(Pfn at) : at_{at} {}
        Page* operator*() const { return pfn_to_page(at_); }
        Iterator& operator++() {
            at_ = Pfn{pfn_to_page(at_)->payload()};
            return *this;
        }
        bool operator!=(const Iterator& other) const { return at_ != other.at_; }

      private:
        Pfn at_;
    };
    Iterator begin() const { return Iterator{head_}; }
    Iterator end() const { return Iterator{Pfn{}}; }

  private:
    Pfn head_{}; // frame 0 is never handed out: it ends the chain
    u32 order_ = 0;
    u32 blocks_ = 0;
};

// Everything that requests of this kind get, in blocks as large as they come.
class AllFrames {
  public:
    explicit AllFrames(Gfp gfp);
    u32 frames() const;
    void release();
    // Visits the first page of each block.
    template <typename F> void for_each_block(F&& visit) const {
        for (const FrameChain& chain : chain_)
            for (Page* page : chain)
                visit(page, chain.order());
    }

  private:
    FrameChain chain_[kMaxOrder + 1];
};

// DEBUG writes to every frame that is freed. Why a test that takes all memory had better not run here; null
// if it may.
const char* too_long_to_take_everything();

// ---------------------------------------------------------------------------------------- who needs a slot

// Pages that kmap_local_page and kmap reach through a slot: those of high memory, and all of them in DEBUG.
inline bool uses_slot(const Page* page) { return config::kHighMem && (config::kDebug || is_highmem(page)); }
// Why there are no `frames` frames that need a slot; null if there are.
const char* no_slots_for(u32 frames);
// Why there are no `frames` frames of high memory; null if there are.
const char* no_highmem_for(u32 frames);

// --------------------------------------------------------------------------------------------- signatures

// A word that names a frame and a place in it. `salt` tells one round from the next.
constexpr u32 mark(Pfn pfn, u32 word, u32 salt = 0) {
    return (pfn.value() + salt * 0x0101'0101u) * 0x9e37'79b1u ^ word * 0x85eb'ca6bu;
}
// First word, last word and one in between of the page that is visible at `at`.
void write_marks(VirtAddr at, Pfn pfn, u32 salt = 0);
bool marks_hold(VirtAddr at, Pfn pfn, u32 salt = 0);
// All words.
void write_all_words(VirtAddr at, Pfn pfn, u32 salt = 0);
bool all_words_hold(VirtAddr at, Pfn pfn, u32 salt = 0);
// Through kmap_local_page.
void sign(Page* page, u32 salt = 0);
bool signed_by(Page* page, u32 salt = 0);

inline bool readable(VirtAddr va) {
    u32 ignored = 0;
    return probe_read32(va, ignored);
}

// ------------------------------------------------------------------------------------------------ counters

// TLB operations of this CPU since the object was made.
class FlushCounter {
  public:
    FlushCounter() : start_{tlb_stats_of(hal::this_cpu())} {}
    u32 invlpg() const { return tlb_stats_of(hal::this_cpu()).invlpg - start_.invlpg; }
    u32 cr3_loads() const { return tlb_stats_of(hal::this_cpu()).non_global - start_.non_global; }
    u32 full() const { return tlb_stats_of(hal::this_cpu()).full - start_.full; }
    u32 all() const { return invlpg() + cr3_loads() + full(); }
    void restart() { start_ = tlb_stats_of(hal::this_cpu()); }

  private:
    TlbStats start_;
};

// -------------------------------------------------------------------------------------------------- time

// The limit of a wait: it is over when so much time has passed and the guest has also looked so often. The clock alone
// says nothing about a guest whose emulator was not scheduled on a busy host. A look is a few instructions of a loop
// that spins, and at most a tick of one that sleeps.
class Patience {
  public:
    static constexpr u32 kSpinning = 1'000'000, kSleeping = 500;
    explicit Patience(u32 looks, u32 seconds = 10);
    bool over();

  private:
    u64 until_;
    u32 looks_;
};

// Spins, with interrupts on, until this CPU has had so many more ticks. False if they do not come.
bool spin_for_ticks(u32 wanted);

// ---------------------------------------------------------------------------------------------- the pool

// The pool of kmap has so many slots for the length of a scope (as far as it can). Nobody maps anything at its begin
// and end.
class PoolOf : NotCopyable<PoolOf> {
  public:
    explicit PoolOf(u32 slots) {
        if constexpr (config::kHighMem) {
            before_ = pkmap_slots();
            pkmap_set_slots(std::clamp(slots, 2u, before_));
        }
    }
    ~PoolOf() {
        if constexpr (config::kHighMem) pkmap_set_slots(before_);
    }

  private:
    u32 before_ = 0;
};

// --------------------------------------------------------------------------------------------- interrupts

// Vectors that nothing else uses: the tests raise them with an instruction.
namespace test_vector {
inline constexpr u8 outer = 0x70, inner = 0x71;
}
// Runs `body` as the handler of a real interrupt: through the IDT, the entry stub and the hooks. Nests once:
// an interrupt inside `body` uses another vector.
template <u8 kVector = test_vector::outer, typename F> void in_interrupt_do(F&& body);

// ------------------------------------------------------------------------------------------------- details

namespace detail {
void raise(u8 vector);
void set_interrupt_body(u8 vector, void (*call)(void*), void* argument);
} // namespace detail

template <u8 kVector, typename F> void in_interrupt_do(F&& body) {
    using Body = std::remove_reference_t<F>;
    detail::set_interrupt_body(
        kVector, [](void* argument) { (*static_cast<Body*>(argument))(); },
        const_cast<std::remove_const_t<Body>*>(&body));
    static_assert(kVector == test_vector::outer || kVector == test_vector::inner);
    detail::raise(kVector);
}

} // namespace loft::guest
