// TlbBatch: change, flush everywhere, only then free.
#include "mm/tlb.hpp"

#include "mm/page_alloc.hpp"

namespace loft {

LOFT_PERCPU hal::PerCpu<TlbStats> tlb_stats;

// What every CPU is asked to do; lives on the stack of the CPU that asks until all have answered.
struct TlbBatch::Request {
    const TlbBatch& batch;
    hal::Site site;
};

// Runs on each CPU, interrupts off.
void TlbBatch::execute(void* request) {
    const auto& [batch, site] = *static_cast<const Request*>(request);
    if (batch.pages_ <= kMaxPages) {
        for (u32 i = 0; i < batch.ranges_; ++i)
            for (u32 page = 0; page < batch.range_[i].pages; ++page)
                tlb_flush_local_page(batch.range_[i].begin + page * kPageSize, site);
    } else if (batch.kind_ == Kind::non_global) {
        tlb_stats.add<&TlbStats::non_global>(1);
        hal::flush_non_global(site);
    } else {
        tlb_stats.add<&TlbStats::full>(1);
        hal::flush_all(site);
    }
}

TlbBatch::~TlbBatch() { LOFT_ASSERT(empty()); }

void TlbBatch::add(VirtAddr va, u32 pages) {
    if (pages == 0) return;
    pages_ += pages;
    if (pages_ > kMaxPages) return; // it will be a full flush: no need to know which pages
    if (ranges_ != 0) {
        Range& last = range_[ranges_ - 1];
        if (last.begin + last.pages * kPageSize == va) {
            last.pages += pages;
            return;
        }
    }
    range_[ranges_++] = {va, pages};
}

void TlbBatch::free_after(Page* page) {
    page->set_payload(free_.value());
    free_ = page_to_pfn(page);
}

void TlbBatch::flush(hal::Site site) {
    if (pages_ != 0) {
        Request request{*this, site};
        const u32 flags = hal::irq_save();
        tlb_stats.add<&TlbStats::requests>(1);
        const CpuSet others = hal::online_cpus().without(hal::this_cpu());
        execute(&request);
        if (!others.empty()) {
            tlb_stats.add<&TlbStats::remote>(others.count());
            hal::run_on(others, execute, &request);
        }
        hal::irq_restore(flags);
    }
    pages_ = 0;
    ranges_ = 0;
    while (free_.value() != 0) {
        Page* page = pfn_to_page(free_);
        free_ = Pfn{page->payload()};
        free_page(page);
    }
}

} // namespace loft
