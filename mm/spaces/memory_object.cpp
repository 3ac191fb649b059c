// Shared memory. Contract: shared_object.hpp.
#include "mm/spaces/shared_object.hpp"

#include "mm/ground/context.hpp"
#include "mm/windows/highmem.hpp"

namespace loft {
namespace {

Cache<SharedObject> object_cache{"shared_object", Gfp::user_low};

} // namespace

SharedObject* SharedObject::create(u32 pages) {
    LOFT_ASSERT(pages != 0 && pages <= PageIndex::kMaxPages);
    return object_cache.make(pages);
}

void SharedObject::get() { refs_.fetch_add(1); }

void SharedObject::put() {
    might_sleep("put of shared memory");
    const u32 before = refs_.fetch_sub(1);
    LOFT_ASSERT(before != 0);
    if (before != 1) return;
    {
        MutexGuard guard{mutex_}; // nobody else knows the object any more
        index_.clear([](Page* page) { put_page(page); });
    }
    object_cache.destroy(this);
}

Page* SharedObject::page(u32 number) {
    MutexGuard guard{mutex_};
    Page* page = index_.find(number);
    if (page == nullptr) {
        page = alloc_page(Gfp::user);
        if (page == nullptr) return nullptr;
        clear_highpage(page);
        if (!index_.insert(number, page)) {
            free_page(page);
            return nullptr;
        }
    }
    get_page(page);
    return page;
}

u32 shared_objects_in_use() { return object_cache.stats().objects; }
void shared_object_init() { object_cache.reset(); }

} // namespace loft
