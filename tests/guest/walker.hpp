// A second page-table walker, as an oracle: written from SDM vol. 3, figures 4-2 to 4-7. It shares no code with
// mm/windows/page_walk.cpp and no names of bits with arch/i386/isa/pte.hpp, so a mistake there is not repeated here.
//
// It starts at the loaded CR3 and reads the tables through the direct map, which it must assume to be right. It is slow
// and simple on purpose.
#pragma once

#include "arch/base/config.hpp"
#include "arch/base/types.hpp"

#include <type_traits>

namespace loft::guest {

// The mapping of one entry, with the rights of all levels combined.
struct Mapping {
    u32 va = 0;    // first address
    u64 phys = 0;  // of that address
    u32 bytes = 0; // 4 KiB, 2 MiB or 4 MiB
    u64 table = 0; // physical address of the entry itself
    bool writable = false;
    bool user = false;
    bool executable = false;
    bool global = false;
    bool uncached = false;
    bool present() const { return bytes != 0; }
};

// The mapping of one address.
Mapping walk_naively(u32 va);

// Calls visit(const Mapping&) for each entry that maps a page, in order of address. Returns the number of tables that
// it could not read because they lie above the direct map.
u32 for_each_mapping(void (*visit)(const Mapping&, void*), void* argument);
template <typename F> u32 for_each_mapping(F&& visit) {
    using Visit = std::remove_reference_t<F>;
    return for_each_mapping([](const Mapping& m, void* v) { (*static_cast<Visit*>(v))(m); },
                            const_cast<std::remove_const_t<Visit>*>(&visit));
}

// The directory entry for `va`, as it is in memory; 0 if there is no directory.
u64 directory_entry(u32 va);

} // namespace loft::guest
