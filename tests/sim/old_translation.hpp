// For tests about the dirty bit: a store by a translation that is no longer in the tables sets none. A processor whose
// TLB has an entry without D would fault there; the machine does not keep D, and lets it store.
#pragma once

#include "arch/base/types.hpp"

namespace loft::sim {

// The accesses of programs, since the begin, that used a translation which the tables no longer had.
u32 old_translations_used();

} // namespace loft::sim
