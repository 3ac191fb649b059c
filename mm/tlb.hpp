// Making CPUs forget translations: the one place that does it.
//
// Local windows belong to one CPU: tlb_flush_local_page is all they need. Everything that several CPUs can
// see goes through a TlbBatch: change the entries, tell the batch, flush, and only then do the frames go back
// (semantics.md, "Page tables"; a page freed before the flush is bug 22 of every kernel).
//
// A request that covers more than kMaxPages pages becomes one full flush: above that a CR3 load is cheaper
// than single invlpg on every machine we know. Only non-global pages are forgotten by a CR3 load, so a batch
// says which it has.
#pragma once

#include "mm/page.hpp"
#include <hal/hal.hpp>

namespace loft {

struct TlbStats {
    u32 invlpg = 0;
    u32 non_global = 0; // CR3 loads that flushed
    u32 full = 0;       // CR4.PGE toggles
    u32 requests = 0;   // batches flushed
    u32 remote = 0;     // other CPUs interrupted
};
extern hal::PerCpu<TlbStats> tlb_stats;

// This CPU. Context: any; the caller cannot migrate.
inline void tlb_flush_local_page(VirtAddr va, hal::Site site = hal::Site::current()) {
    tlb_stats.add<&TlbStats::invlpg>(1);
    hal::invlpg(va, site);
}

class TlbBatch {
  public:
    static constexpr u32 kMaxPages = 16;
    enum class Kind : u8 { non_global, global };

    explicit TlbBatch(Kind kind) : kind_{kind} {}
    ~TlbBatch();
    TlbBatch(const TlbBatch&) = delete;
    TlbBatch& operator=(const TlbBatch&) = delete;

    // The entry of this page (or of `pages` pages from here) was taken away or changed; a flush is owed.
    void add(VirtAddr va, u32 pages = 1);
    // This frame (order 0, allocated) goes back to the allocator after the flush. Uses the frame's payload.
    void free_after(Page* page);

    bool empty() const { return pages_ == 0 && free_.value() == 0; }

    // Flushes what was added on every CPU, waits for all of them, then frees. Nothing is done if nothing was
    // added. Context: any. Cost: for each CPU one invlpg a page, or one full flush.
    void flush(hal::Site site = hal::Site::current());

  private:
    struct Range {
        VirtAddr begin{};
        u32 pages = 0;
    };
    static constexpr u32 kMaxRanges = kMaxPages;
    struct Request;
    static void execute(void* request);

    Kind kind_;
    u32 ranges_ = 0;
    u32 pages_ = 0;
    Range range_[kMaxRanges];
    Pfn free_{}; // list through the frames' payload
};

} // namespace loft
