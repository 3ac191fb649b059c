// Page tables built by hand, for tests of the simulator itself and for tests of an address space without mm.
#pragma once

#include <hal/hal.hpp>

#include <cstring>
#include <map>

namespace loft::sim {

inline constexpr PteFlags kRw = pte::present | pte::write | pte::accessed | pte::dirty;
inline constexpr PteFlags kRo = pte::present | pte::accessed | pte::dirty;

class Handmade {
  public:
    // Takes frames for tables from `first` on, one after the other.
    explicit Handmade(u32 first = 0x1000) : next_{first} {
        root_ = fresh();
        directory_[0] = root_;
        if constexpr (config::kPae) {
            for (u32 i = 0; i < paging::kDirectories; ++i) {
                directory_[i] = fresh();
                hal::pte_set(cell_in(root_, i), Pte{Pfn{directory_[i]}, pte::present});
            }
        }
    }

    PhysAddr root() const { return Pfn{root_}.phys(); }
    // PAE: the entry of the PDPT.
    hal::PteCell* pdpte(VirtAddr va) { return cell_in(root_, paging::pdpte_index(va)); }
    hal::PteCell* directory(VirtAddr va) {
        return cell_in(directory_[config::kPae ? paging::pdpte_index(va) : 0], paging::pde_index(va));
    }
    // The entry of a page. Makes the table that it needs if there is none.
    hal::PteCell* entry(VirtAddr va) {
        const u32 slot = va.value() >> paging::kLargeShift;
        if (!table_.contains(slot)) {
            table_[slot] = fresh();
            hal::pte_set(directory(va), Pte{Pfn{table_[slot]}, kRw | pte::user});
        }
        return cell_in(table_[slot], paging::pte_index(va));
    }
    u32 table_frame(VirtAddr va) const { return table_.at(va.value() >> paging::kLargeShift); }

    void map(VirtAddr va, u32 pfn, PteFlags flags = kRw) { hal::pte_set(entry(va), Pte{Pfn{pfn}, flags}); }
    void map_large(VirtAddr va, u32 pfn, PteFlags flags = kRw) {
        hal::pte_set(directory(va), Pte{Pfn{pfn}, flags | pte::large});
    }

    // A cleared frame.
    u32 fresh() {
        std::memset(ram_at(u64{next_} << kPageShift), 0, kPageSize);
        return next_++;
    }
    static hal::PteCell* cell_in(u32 frame, u32 index) {
        return reinterpret_cast<hal::PteCell*>(ram_at((u64{frame} << kPageShift) + index * sizeof(hal::PteCell)));
    }

  private:
    u32 next_;
    u32 root_ = 0;
    u32 directory_[paging::kDirectories] = {};
    std::map<u32, u32> table_;
};

// Writes a word into a frame that identifies it.
inline void sign(u32 pfn) { poke<u32>(Pfn{pfn}.phys(), 0xf000'0000u | pfn); }
inline u32 signature(u32 pfn) { return 0xf000'0000u | pfn; }

} // namespace loft::sim
