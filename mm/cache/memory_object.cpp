// Memory objects. Contract: memory_object.hpp.
#include "mm/cache/memory_object.hpp"

#include "mm/ground/context.hpp"
#include "mm/windows/highmem.hpp"

#include <algorithm>

namespace loft {
namespace {

Cache<ZeroObject> zero_cache{"zero_object", Gfp::user_low};

} // namespace

MemoryObject::MemoryObject(u64 bytes, bool written_back) : written_back_{written_back}, bytes_{bytes}, index_{pages()} {
    LOFT_ASSERT(bytes <= kMaxBytes);
}

void MemoryObject::get() { refs_.fetch_add(1); }

bool MemoryObject::get_if_used() {
    u32 refs = refs_.load();
    while (refs != 0)
        if (refs_.compare_exchange(refs, refs + 1)) return true;
    return false;
}

void MemoryObject::put() {
    might_sleep("put of a memory object");
    const u32 before = refs_.fetch_sub(1);
    LOFT_ASSERT(before != 0);
    if (before != 1) return;
    {
        MutexGuard guard{mutex_}; // only for the thread-safety analysis: no other thread uses the object any more
        index_.clear([](Page* page) { put_page(page); });
    }
    destroy();
}

Result<Page*> MemoryObject::page(u32 number) {
    if (number >= pages()) return Error::not_found;
    MutexGuard guard{mutex_};
    Page* page = index_.find(number);
    if (page == nullptr) {
        page = alloc_page(Gfp::user);
        if (page == nullptr) return Error::no_memory;
        Status filled = fill(number, page);
        if (filled && !index_.insert(number, page)) filled = Error::no_memory;
        if (!filled) {
            free_page(page);
            return filled.error();
        }
    }
    get_page(page);
    return page;
}

Status MemoryObject::read(u64 offset, void* to, u32 bytes) {
    if (offset > bytes_ || bytes > bytes_ - offset) return Error::invalid;
    auto* out = static_cast<u8*>(to);
    for (u32 done = 0; done < bytes;) {
        const u64 at = offset + done;
        const Result<Page*> found = page(static_cast<u32>(at >> kPageShift));
        if (!found) return found.error();
        const u32 begin = static_cast<u32>(at) & ~kPageMask, step = std::min(bytes - done, kPageSize - begin);
        memcpy_from_page(out + done, *found, begin, step);
        put_page(*found);
        done += step;
    }
    return {};
}

void MemoryObject::stored_to(u32) {}
void MemoryObject::stores_ended() {}

ZeroObject* ZeroObject::create(u32 pages) {
    LOFT_ASSERT(pages != 0 && pages <= PageIndex::kMaxPages);
    return zero_cache.make(pages);
}

Status ZeroObject::fill(u32, Page* frame) {
    clear_highpage(frame);
    return {};
}

void ZeroObject::destroy() { zero_cache.destroy(this); }

u32 zero_objects_in_use() { return zero_cache.stats().objects; }
void memory_object_init() { zero_cache.reset(); }

} // namespace loft
