// Writing dirty pages: by a thread from time to time, and by those who make too many.
#pragma once

namespace loft {

// Starts the thread "write-back", which writes all dirty pages every kWriteBackMs. Boot thread, once, with threads.
void write_back_init();
inline constexpr unsigned kWriteBackMs = 2000;

// Called after a page was made dirty, without a mutex of a space or an object (that of a file's size may be held): if
// more than a quarter of memory is dirty, the caller writes pages until it is less, none can be written, or each object
// has had its turn. Preemptible context.
void limit_dirty_pages();

} // namespace loft
