// Write-back. Contract: write_back.hpp.
#include "kernel/files/write_back.hpp"

#include "arch/base/panic.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/cache/memory_object.hpp"

namespace loft {
namespace {

u32 dirty_limit = 0; // pages

void write_pages(void*) {
    bool failed = false;
    for (;;) {
        sleep_ms(kWriteBackMs);
        if (page_cache_stats().objects == 0) continue;
        const Status status = write_back_all();
        if (!status && !failed)
            log(LogLevel::error, "files", "dirty pages cannot be written: {}; the thread tries again",
                error_name(status.error()));
        failed = !status;
    }
}

} // namespace

void write_back_init() {
    u32 limit = 0;
    for (const ZoneId zone : {ZoneId::dma, ZoneId::normal, ZoneId::high})
        limit += zone_info(zone).managed / 4;
    set_dirty_page_limit(limit);
    // It is never joined: it runs as long as the machine.
    if (thread_create("write-back", write_pages, nullptr) == nullptr)
        log(LogLevel::error, "files", "no memory for the thread that writes dirty pages: only fsync does");
}

void set_dirty_page_limit(u32 pages) { dirty_limit = pages; }
u32 dirty_page_limit() { return dirty_limit; }

void limit_dirty_pages() {
    // Programs may make pages dirty through mappings meanwhile: each object has its turn once.
    // If the list is empty, another thread writes what was in it, and is waited for.
    for (u32 left = page_cache_stats().objects + 1; left != 0 && page_cache_stats().dirty > dirty_limit; --left)
        if (const Result<bool> one = write_back_one(); !one || !*one) return;
}

} // namespace loft
