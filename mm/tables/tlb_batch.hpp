// Making CPUs forget translations: the one place that does it.
//
// Local windows belong to one CPU: tlb_flush_local_page is all they need. Everything that several CPUs can
// see goes through a TlbBatch: change the entries, tell the batch, flush, and only then do the frames go back
// (semantics.md, "Page tables"; a page freed before the flush is bug 22 of every kernel).
//
// Pages of a program are known to the CPUs that may have its root loaded, and only they are asked
// (mm/tables/space_root.hpp).
//
// A request that covers more than kMaxPages pages becomes one full flush: above that a CR3 load is cheaper
// than single invlpg on every machine we know. Only non-global pages are forgotten by a CR3 load, so a batch
// says which it has.
#pragma once

#include "mm/frames/page.hpp"
#include "mm/tables/flush_clock.hpp"
#include "mm/tables/space_root.hpp"
#include <hal/hal.hpp>

namespace loft {

class TlbBatch {
  public:
    static constexpr u32 kMaxPages = 16;
    static constexpr u32 kMaxPuts = 64;
    enum class Kind : u8 { non_global, global };

    explicit TlbBatch(Kind kind) : kind_{kind} {}
    // Of pages below layout::kUserEnd in the space with this root.
    explicit TlbBatch(SpaceRoot& root) : kind_{Kind::non_global}, root_{&root} {}
    ~TlbBatch();
    TlbBatch(const TlbBatch&) = delete;
    TlbBatch& operator=(const TlbBatch&) = delete;

    // The entry of this page (or of `pages` pages from here) was taken away or changed; a flush is owed.
    void add(VirtAddr va, u32 pages = 1);
    // Entries that were taken away earlier, at a known time: CPUs that have flushed since owe nothing. The flush
    // becomes one of everything non-global.
    void add_debt(FlushTime debt);
    // This frame (order 0, allocated) goes back to the allocator after the flush. Uses the frame's payload.
    void free_after(Page* page);
    // A mapping of this frame was taken away: it is put after the flush. With kMaxPuts frames that others count too
    // (the rest needs no room here) the batch flushes by itself.
    void put_after(Page* page, hal::Site site = hal::Site::current());
    // This frame was the page table of the addresses around `va`, and no directory entry leads to it any more: it goes
    // back after the flush. An idle CPU is asked too: its walks, speculative ones as well, may still go through the
    // table by what it remembers of the directory (SDM vol. 3, 4.10.3).
    void free_table_after(Page* table, VirtAddr va);

    bool empty() const { return pages_ == 0 && !old_debt_ && free_.value() == 0 && puts_ == 0; }

    // Flushes what was added on every CPU (of the space), waits for all of them, then frees and puts. Nothing is done
    // if nothing was added. Context: any. Cost: for each CPU one invlpg a page, or one full flush; a CPU that has the
    // root lazily loads the kernel's.
    void flush(hal::Site site = hal::Site::current());

  private:
    struct Range {
        VirtAddr begin{};
        u32 pages = 0;
    };
    static constexpr u32 kMaxRanges = kMaxPages;
    struct Request;
    static void execute(void* request);

    bool owes(CpuId cpu) const;

    Kind kind_;
    bool tables_ = false; // a page table goes
    SpaceRoot* root_ = nullptr;
    bool old_debt_ = false; // add_debt was called
    FlushTime debt_ = 0;    // the youngest debt
    u32 ranges_ = 0;
    u32 pages_ = 0;
    Range range_[kMaxRanges];
    Pfn free_{}; // list through the frames' payload
    u32 puts_ = 0;
    Page* put_[kMaxPuts];
};

} // namespace loft
