// TlbBatch: change, flush everywhere, only then free. Contract: tlb_batch.hpp.
#include "mm/tables/tlb_batch.hpp"

#include "mm/frames/page_alloc.hpp"
#include "mm/ground/remote.hpp"
#include "mm/tables/flush_clock.hpp"

namespace loft {

// The argument of the remote call; on the stack of the requesting CPU until all CPUs have answered.
struct TlbBatch::Request {
    const TlbBatch& batch;
    hal::Site site;
};

// Runs on each CPU, interrupts off.
void TlbBatch::execute(void* request) {
    const auto& [batch, site] = *static_cast<const Request*>(request);
    if (batch.root_ != nullptr && batch.root_->leave()) return;
    if (batch.kind_ == Kind::global && batch.pages_ > kMaxPages) {
        tlb_stats.add<&TlbStats::full>(1);
        hal::flush_all(site);
    } else if (batch.old_debt_ || batch.pages_ > kMaxPages) {
        tlb_flush_local_non_global(site);
    } else {
        for (u32 i = 0; i < batch.ranges_; ++i)
            for (u32 page = 0; page < batch.range_[i].pages; ++page)
                tlb_flush_local_page(batch.range_[i].begin + page * kPageSize, site);
    }
}

TlbBatch::~TlbBatch() { LOFT_ASSERT(empty()); }

void TlbBatch::add(VirtAddr va, u32 pages) {
    if (pages == 0) return;
    pages_ += pages;
    if (pages_ > kMaxPages) return; // a full flush: the addresses are not needed
    if (ranges_ != 0) {
        Range& last = range_[ranges_ - 1];
        if (last.begin + last.pages * kPageSize == va) {
            last.pages += pages;
            return;
        }
    }
    range_[ranges_++] = {va, pages};
}

void TlbBatch::add_debt(FlushTime debt) {
    LOFT_ASSERT(kind_ == Kind::non_global);
    if (!old_debt_ || debt_ < debt) debt_ = debt;
    old_debt_ = true;
}

void TlbBatch::free_after(Page* page) {
    page->set_payload(free_.value());
    free_ = page_to_pfn(page);
}

void TlbBatch::put_after(Page* page, hal::Site site) {
    // This is the last reference: another CPU could get one only through the entry, which is cleared.
    if (page->refs() == 1) return free_after(page);
    put_[puts_++] = page;
    if (puts_ == kMaxPuts) flush(site);
}

void TlbBatch::free_table_after(Page* table, VirtAddr va) {
    add(va); // one invlpg at least: it empties the paging-structure caches (SDM vol. 3, 4.10.4.1)
    tables_ = true;
    free_after(table);
}

bool TlbBatch::owes(CpuId cpu) const {
    if (kind_ == Kind::global) return true;
    if (!tables_ && tlb_is_idle(cpu)) {
        tlb_stats.add<&TlbStats::skipped_idle>(1);
        return false;
    }
    if (tlb_is_clean(cpu, debt_)) {
        tlb_stats.add<&TlbStats::skipped_clean>(1);
        return false;
    }
    return true;
}

void TlbBatch::flush(hal::Site site) {
    if (pages_ != 0 || old_debt_) {
        Request request{*this, site};
        const u32 flags = hal::irq_save();
        tlb_stats.add<&TlbStats::requests>(1);
        // Pages of add() have no time yet: they get one now. It must grow before owes() reads whether a CPU is idle.
        if (pages_ != 0 && kind_ == Kind::non_global) debt_ = tlb_new_debt();
        const CpuId me = hal::this_cpu();
        CpuSet all = hal::online_cpus();
        if (root_ != nullptr) all = CpuSet::from_bits(all.bits() & root_->cpus().bits());
        if (all.has(me) && (kind_ == Kind::global || pages_ != 0 || !tlb_is_clean(me, debt_))) execute(&request);
        CpuSet asked;
        all.without(me).for_each([&](CpuId cpu) {
            if (owes(cpu)) asked = asked.with(cpu);
        });
        if (!asked.empty()) {
            tlb_stats.add<&TlbStats::rounds>(1);
            tlb_stats.add<&TlbStats::remote>(asked.count());
            run_on(asked, execute, &request);
        }
        hal::irq_restore(flags);
    }
    pages_ = 0;
    ranges_ = 0;
    old_debt_ = false;
    tables_ = false;
    while (puts_ != 0)
        put_page(put_[--puts_]);
    while (free_.value() != 0) {
        Page* page = pfn_to_page(free_);
        free_ = Pfn{page->payload()};
        free_page(page);
    }
}

} // namespace loft
