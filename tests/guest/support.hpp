// Helpers of the self-tests: frames that are freed at the end of a scope, signatures, and checks that counts have not
// changed.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "arch/i386/cpu/probe.hpp"
#include "kernel/proof/selftest.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/spaces/address_space.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/highmem.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/pkmap.hpp"

#include <hal/hal.hpp>

#include <algorithm>

namespace loft::guest {

// ------------------------------------------------------------------------------------------- free frames

// Fails the test if, at its end, a zone does not have as many free frames as at its beginning. Frames in per-CPU lists
// count as free (zone_info). Pages of files, frames that wait for the flush of vfree, and empty slabs of caches are
// freed first, so that the result does not depend on earlier tests. Declared before all objects that hold frames.
class KeepsFreeCounts : NotCopyable<KeepsFreeCounts> {
  public:
    KeepsFreeCounts();
    ~KeepsFreeCounts();

  private:
    u32 free_[kZones];
};

u32 free_frames(ZoneId zone);

// Returns the per-CPU lists of all CPUs to the buddy system; each CPU drains its own.
void drain_all_cpus();

// Makes `threads` descriptors of threads, at most 128. They are never freed, so a test calls this before it counts
// frames.
void warm_up_threads(u32 threads);

// A few frames, freed at the end of the scope.
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
    // The i-th frame is not freed: the test has done that.
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
    Pfn head_{}; // frame 0 is never allocated: it ends the chain
    u32 order_ = 0;
    u32 blocks_ = 0;
};

// The highest free block of 2^kMaxOrder frames at or above `floor`; null: there is none. The order of blocks is not
// defined, so it takes all of them.
struct PageAbove {
    explicit PageAbove(u64 floor) {
        for (blocks.take(Gfp::high, kMaxOrder); Page * block : blocks)
            if (page_to_pfn(block).phys().value() >= floor && (page == nullptr || block > page)) page = block;
    }
    FrameChain blocks;
    Page* page = nullptr;
};

// All frames that requests of this kind get, in the largest blocks possible.
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

// The reason why a test that allocates all memory takes too long here (DEBUG writes to every freed frame); null if it
// does not.
const char* too_long_to_take_everything();

// ----------------------------------------------------------------------------------- pages that need a slot

// True for pages that kmap_local_page and kmap map by a slot: those of high memory, and with DEBUG all.
inline bool uses_slot(const Page* page) { return config::kHighMem && (config::kDebug || is_highmem(page)); }
// The reason why there are no `frames` frames that need a slot; null if there are.
const char* no_slots_for(u32 frames);
// The reason why there are no `frames` frames of high memory; null if there are.
const char* no_highmem_for(u32 frames);

// --------------------------------------------------------------------------------------------- signatures

// A word that identifies a frame and an index in it. `salt` is different in each round.
constexpr u32 mark(Pfn pfn, u32 word, u32 salt = 0) {
    return (pfn.value() + salt * 0x0101'0101u) * 0x9e37'79b1u ^ word * 0x85eb'ca6bu;
}
// Writes the first word, the last word and one in between of the page at `at`.
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

// -------------------------------------------------------------------------------------------- memory of programs

// An address space that the test makes, for the current thread.
class BorrowedSpace : NotCopyable<BorrowedSpace> {
  public:
    BorrowedSpace() : space_{AddressSpace::create()} {
        if (space_ != nullptr) use_space(space_);
    }
    ~BorrowedSpace() {
        use_space(nullptr);
        if (space_ != nullptr) space_->put();
    }
    AddressSpace* operator->() const { return space_; }
    AddressSpace& operator*() const { return *space_; }
    explicit operator bool() const { return space_ != nullptr; }

  private:
    AddressSpace* space_;
};

// -------------------------------------------------------------------------------------------------- time

// The limit of a wait: it ends when so much time has passed and the guest has also looked so often. The clock alone is
// no measure: on a busy host the emulator may not have been scheduled. A look is a few instructions in a loop that
// spins, and at most one tick in a loop that sleeps.
class Patience {
  public:
    static constexpr u32 kSpinning = 1'000'000, kSleeping = 500;
    explicit Patience(u32 looks, u32 seconds = 10);
    bool over();

  private:
    u64 until_;
    u32 looks_;
};

// Spins, with interrupts on, until this CPU has had `wanted` more ticks. False if they do not come.
bool spin_for_ticks(u32 wanted);

// ---------------------------------------------------------------------------------------------- the pool

// Sets the number of slots of the kmap pool until the end of the scope (within its limits). No thread may hold a kmap
// at its begin and end.
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

// Unused vectors: the tests raise them with an instruction.
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
