// A second page-table walker, as an oracle: it knows the tables of SDM vol. 3, figures 4-2 to 4-7, and nothing of
// loft's. It shares no code with mm/tables/pagetable.cpp and no names of bits with arch/i386/isa/pte.hpp; a mistake
// would have to be made twice.
//
// It starts at the CR3 that is loaded and reads the tables where the direct map shows them (the one thing it
// has to believe). It is slow and simple on purpose.
#pragma once

#include "arch/base/config.hpp"
#include "arch/base/types.hpp"

#include <type_traits>

namespace loft::guest {

// What one entry that maps says, with the rights of the entries above it taken into account.
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

// What the tables say about one address.
Mapping walk_naively(u32 va);

// Calls visit(const Mapping&) for each entry that maps, in order of address. Returns how many tables it could
// not read because they lie above the direct map.
u32 for_each_mapping(void (*visit)(const Mapping&, void*), void* argument);
template <typename F> u32 for_each_mapping(F&& visit) {
    using Visit = std::remove_reference_t<F>;
    return for_each_mapping([](const Mapping& m, void* v) { (*static_cast<Visit*>(v))(m); },
                            const_cast<std::remove_const_t<Visit>*>(&visit));
}

// The entry of the directory that covers `va`, as it stands in memory; 0 if there is none.
u64 directory_entry(u32 va);

} // namespace loft::guest
