// What one CPU may still remember: the translations that were present and reachable since it last flushed
// them, and are not (or not surely) what the tables say now.
//
// A real TLB holds some of these; which ones nobody can know: it fills speculatively, and evicts when it
// likes. So this is the set of everything that it *may* hold, and a kernel is right only if no access depends
// on the choice. What the tables say now is always possible and is not stored here.
//
// Three kinds (SDM vol. 3, 4.10.2 and 4.10.3):
//   pages        4 KiB translations, by page number
//   large pages  may be cached as one entry, or as 4 KiB fragments (4.10.2.3): each page of the range is
//   remembered by
//                itself, so invlpg of one page leaves the fragments of the others
//   directories  entries of the paging-structure caches: the walk goes on through the old table, whatever its
//   memory
//                holds by then. Any invlpg on this CPU forgets all of them (4.10.4.1)
#pragma once

#include "tests/sim/translation.hpp"

#include <bitset>
#include <map>
#include <unordered_map>
#include <vector>

namespace loft::sim {

struct Residual {
    Translation translation;
    Where changed; // where the entry that gave it was taken away
};

struct DirectoryResidual {
    u32 slot = 0;  // which large-page-sized piece of the address space
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

    // The three kinds of flush. `features`: the directories' old tables are read once more, because what they
    // say now may have been cached in the last moment.
    void flush_page(u32 page, const Features& features);
    void flush_non_global(const Features& features);
    void flush_all();
    // A page fault there: the non-global translations of this page are gone (4.10.4.1).
    void fault(u32 page);

    // Everything that may translate this page besides the tables.
    std::vector<Residual> of(u32 page, const Features& features) const;
    bool knows(u32 page) const;

    // Is there a translation of a 4 KiB page for which this holds?
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
        std::bitset<paging::kPtesPerTable> left;
    };
    static void add(std::vector<Residual>& list, const Residual& residual);
    void settle_directories(const Features& features, u32 except_page);

    std::unordered_map<u32, std::vector<Residual>> pages_;
    std::map<u32, std::vector<LargeResidual>> large_;
    std::vector<DirectoryResidual> directories_;
};

} // namespace loft::sim
