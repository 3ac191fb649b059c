// The translations that the TLB of one CPU may hold: those that were present and reachable since their last flush and
// that differ, or may differ, from the tables now.
//
// A real TLB holds some of them. It is not known which, as it fills speculatively and evicts at any time. So this is
// the set of all translations that it *may* hold, and a kernel is correct only if no access depends on the choice. The
// translation in the tables is always possible and is not stored here.
//
// Three kinds (SDM vol. 3, 4.10.2 and 4.10.3):
//   pages        4 KiB translations, by page number
//   large pages  may be cached as one entry or as 4 KiB fragments (4.10.2.3): each page of the range is stored by
//                itself, so invlpg of one page leaves the fragments of the others
//   directories  entries of the paging-structure caches: a walk may use the old table, with its current contents. Any
//                invlpg on this CPU flushes all of them (4.10.4.1)
#pragma once

#include "tests/sim/translation.hpp"

#include <bitset>
#include <map>
#include <unordered_map>
#include <vector>

namespace loft::sim {

struct Residual {
    Translation translation;
    Where changed;           // the line that changed its entry
    bool given_back = false; // since then its frame has been freed, and perhaps handed out again
};

struct DirectoryResidual {
    u32 slot = 0;  // its index in the address space, in units of a large page
    u32 table = 0; // the frame of the old page table
    Rights rights;
    Where changed;
};

class MaySet {
  public:
    bool empty() const { return pages_.empty() && large_.empty() && directories_.empty(); }

    void add_page(u32 page, const Residual& residual) { add(pages_[page], residual); }
    void add_large(u32 slot, const Residual& first_page);
    void add_directory(const DirectoryResidual& residual);

    // The three kinds of flush. They read the old tables of the directories once more (with `features`), because their
    // current entries may have been cached just before the flush.
    void flush_page(u32 page, const Features& features);
    void flush_non_global(const Features& features);
    void flush_all();
    // The frame has been freed; an access by an old translation to it is an error, also when it has its next owner.
    void give_back(u32 pfn);
    // A page fault removes the non-global translations of its page (4.10.4.1).
    void fault(u32 page);

    // All translations of this page that the TLB may hold, without that of the tables.
    std::vector<Residual> of(u32 page, const Features& features) const;
    bool knows(u32 page) const;

    // True if holds() is true for a translation of a 4 KiB page.
    template <typename F> bool any_page(F&& holds) const {
        for (const auto& [page, list] : pages_)
            for (const Residual& r : list)
                if (holds(page, r.translation)) return true;
        return false;
    }

    const std::vector<DirectoryResidual>& directories() const { return directories_; }

  private:
    struct LargeResidual {
        Residual first;
        std::bitset<kSpan> left;
    };
    static void add(std::vector<Residual>& list, const Residual& residual);
    void settle_directories(const Features& features, u32 except_page);

    std::unordered_map<u32, std::vector<Residual>> pages_;
    std::map<u32, std::vector<LargeResidual>> large_;
    std::vector<DirectoryResidual> directories_;
};

} // namespace loft::sim
