// TLB shootdown: the one place that flushes translations on other CPUs.
//
// Local windows belong to one CPU, which flushes them with tlb_flush_local_page. All mappings that several CPUs can see
// use a TlbBatch: change the entries, add them to the batch, flush, and only then free the frames (semantics.md, "Page
// tables"; a frame freed before the flush is bug 22 in docs/bugs.md).
//
// For pages of a program the batch asks only the CPUs that may have its root loaded (mm/tables/space_root.hpp).
//
// A batch of more than kMaxPages pages does one full flush instead of single invlpg: from there on a CR3 load is
// cheaper on all known machines. A CR3 load does not flush global pages, so a batch has a kind.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "mm/frames/page.hpp"
#include "mm/tables/flush_clock.hpp"
#include "mm/tables/space_root.hpp"
#include <hal/hal.hpp>

namespace loft {

class TlbBatch : NotCopyable<TlbBatch> {
  public:
    static constexpr u32 kMaxPages = 16;
    static constexpr u32 kMaxPuts = 64;
    enum class Kind : u8 { non_global, global };

    explicit TlbBatch(Kind kind) : kind_{kind} {}
    // For pages below layout::kUserEnd in the space with this root.
    explicit TlbBatch(SpaceRoot& root) : kind_{Kind::non_global}, root_{&root} {}
    ~TlbBatch();

    // The caller has cleared or changed the entries of `pages` pages from `va` on; it owes a flush.
    void add(VirtAddr va, u32 pages = 1);
    // The caller has cleared entries earlier; `debt` is their time. CPUs that have flushed since owe nothing, the
    // others flush all non-global translations.
    void add_debt(FlushTime debt);
    // Frees this frame (order 0, allocated) after the flush. Uses the frame's payload.
    void free_after(Page* page);
    // The caller has removed a mapping of this frame: calls put_page after the flush. The batch has room for kMaxPuts
    // frames with further references and flushes when it is full; a frame with one reference needs no room.
    void put_after(Page* page, hal::Site site = hal::Site::current());
    // This frame was the page table for `va`, and the caller has cleared the directory entry: frees it after the flush.
    // Idle CPUs are interrupted too: their paging-structure caches may still hold the directory entry, and a walk, even
    // a speculative one, may use it (SDM vol. 3, 4.10.3).
    void free_table_after(Page* table, VirtAddr va);

    bool empty() const { return pages_ == 0 && !old_debt_ && free_.value() == 0 && puts_ == 0; }

    // Flushes on every CPU (of the space), waits for all of them, then frees and puts the frames. Does nothing if
    // nothing was added. Context: any. Cost: on each CPU one invlpg for each page, or one full flush; a CPU that keeps
    // the root lazily loads the kernel's root instead.
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
    bool tables_ = false; // free_table_after was called
    SpaceRoot* root_ = nullptr;
    bool old_debt_ = false; // add_debt was called
    FlushTime debt_ = 0;    // the time of the youngest debt
    u32 ranges_ = 0;
    u32 pages_ = 0;
    Range range_[kMaxRanges];
    Pfn free_{}; // list through the frames' payload
    u32 puts_ = 0;
    Page* put_[kMaxPuts];
};

} // namespace loft
