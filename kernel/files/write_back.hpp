// Writing dirty pages: by a thread from time to time, and by those who make too many.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

// Starts the thread "write-back", which writes all dirty pages every kWriteBackMs. Boot thread, once, with threads.
void write_back_init();
inline constexpr unsigned kWriteBackMs = 2000;

// The number of dirty pages from which on writers write pages: a quarter of memory, unless it is set. Boot thread;
// tests.
void set_dirty_page_limit(u32 pages);
u32 dirty_page_limit(); // any context

// Called after a page was made dirty, without a mutex of a space or an object (that of a file's size may be held): if
// more pages are dirty than the limit allows, the caller writes pages until they are fewer, none can be written, or
// each object has had its turn. So there are never more dirty pages than the limit and one for each writer; what is
// being written does not count. Stores through mappings are not limited: reclaim and the thread write them. Preemptible
// context.
void limit_dirty_pages();

} // namespace loft
