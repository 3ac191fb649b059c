// Writing dirty pages: by a thread from time to time, and by those who make too many.
#pragma once

namespace loft {

// Starts the thread "write-back", which every kWriteBackMs reclaims frames if memory is low, and writes all dirty
// pages. Boot thread, once, with threads.
void write_back_init();
inline constexpr unsigned kWriteBackMs = 2000;

// Called after a page was made dirty, without a mutex of a space or an object: if more than a quarter of memory is
// dirty, the caller writes pages until it is less, or none can be written. Preemptible context.
void limit_dirty_pages();

} // namespace loft
