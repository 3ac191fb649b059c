// The object cache. Contract: slab.hpp.
#include "mm/frames/slab.hpp"

#include <algorithm>

namespace loft {
namespace {

// The list of caches that have had a slab; none is ever removed. Its lock is taken while a cache's lock is held.
struct AllCaches {
    SpinLock lock{LockRank::zone};
    ObjectCache* first LOFT_GUARDED_BY(lock) = nullptr;
};
AllCaches all_caches;

} // namespace

// A free object is linked through its first word, so an object has at least the size of a pointer.
u32 ObjectCache::stride() const {
    const u32 align = std::max<u32>(align_, alignof(void*));
    return round_up(std::max<u32>(size_, sizeof(void*)), align);
}
u32 ObjectCache::first() const {
    return round_up(static_cast<u32>(sizeof(Slab)), std::max<u32>(align_, alignof(void*)));
}
u32 ObjectCache::capacity() const { return std::min((kPageSize - first()) / stride(), kMaxObjects); }

void ObjectCache::reset() LOFT_UNCHECKED {
    lock_.reset();
    partial_ = ListLink{};
    stats_ = CacheStats{};
    listed_ = false;
}

void ObjectCache::forget_all() LOFT_UNCHECKED {
    all_caches.lock.reset();
    all_caches.first = nullptr;
}

ObjectCache::Slab* ObjectCache::grow() {
    Page* page = alloc_page(gfp_);
    if (page == nullptr) return nullptr;
    page->set_type(PageType::slab);
    auto* memory = hal::lowmem_ptr<std::byte>(direct_addr(page_to_pfn(page)));
    auto* slab = ::new (memory) Slab{};
    slab->cache = this;
    for (u32 i = capacity(); i-- > 0;) {
        auto* object = reinterpret_cast<void**>(memory + first() + i * stride());
        *object = slab->free_list;
        slab->free_list = object;
        hal::note_object_free(object, size_);
    }
    ListLinks::link_after(&partial_, slab);
    ++stats_.slabs;
    if (!listed_) {
        listed_ = true;
        const SpinGuard list{all_caches.lock};
        next_ = all_caches.first;
        all_caches.first = this;
    }
    return slab;
}

void* ObjectCache::alloc() {
    LOFT_ASSERT(size_ <= kMaxSize && align_ <= 64);
    if (hal::out_of_memory()) return nullptr;
    SpinGuard guard{lock_};
    if (partial_.next == nullptr) ListLinks::init_header(&partial_);
    Slab* slab = partial_.next != &partial_ ? static_cast<Slab*>(partial_.next) : grow();
    if (slab == nullptr) return nullptr;

    void* object = slab->free_list;
    hal::note_object_used(object, size_);
    slab->free_list = *static_cast<void**>(object);
    const u32 index = (hal::lowmem_addr(object).page_offset() - first()) / stride();
    slab->used[index / 32] |= 1u << index % 32;
    ++stats_.objects;
    if (++slab->in_use == capacity()) ListLinks::unlink(slab);
    return object;
}

void ObjectCache::free(void* object) {
    SpinGuard guard{lock_};
    const VirtAddr va = hal::lowmem_addr(object);
    Page* page = pfn_to_page(direct_phys(va).pfn());
    if (page->type() != PageType::slab) panic("{}: {} is not an object of a cache", name_, va);
    auto* slab = hal::lowmem_ptr<Slab>(va.page());
    const u32 offset = va.page_offset() - first();
    const u32 index = offset / stride();
    if (slab->cache != this || va.page_offset() < first() || offset % stride() != 0 || index >= capacity())
        panic("{}: {} is not an object of this cache", name_, va);
    if ((slab->used[index / 32] >> index % 32 & 1) == 0) panic("{}: {} is free already (double free)", name_, va);

    slab->used[index / 32] &= ~(1u << index % 32);
    *static_cast<void**>(object) = slab->free_list;
    slab->free_list = object;
    hal::note_object_free(object, size_);
    --stats_.objects;
    const bool was_full = slab->in_use-- == capacity();
    if (was_full) ListLinks::link_after(&partial_, slab);
    // An empty slab is kept only if no other slab has a free object. So the number of slabs of a cache does not depend
    // on the order in which they become empty.
    const bool alone = partial_.next == slab && slab->next == &partial_;
    if (slab->in_use == 0 && !alone)
        give_back(*slab);
    else if (was_full && !alone && static_cast<Slab*>(slab->next)->in_use == 0)
        give_back(*static_cast<Slab*>(slab->next));
}

void ObjectCache::give_back(Slab& slab) {
    Page* page = pfn_to_page(direct_phys(hal::lowmem_addr(&slab)).pfn());
    ListLinks::unlink(&slab);
    --stats_.slabs;
    page->set_type(PageType::used);
    free_page(page);
}

// A cache has at most one empty slab, and then no other slab in partial_.
void ObjectCache::give_back_empty_slab() {
    SpinGuard guard{lock_};
    if (partial_.next == nullptr || partial_.next == &partial_) return;
    Slab& slab = *static_cast<Slab*>(partial_.next);
    if (slab.in_use == 0) give_back(slab);
}

void ObjectCache::give_back_empty_slabs() {
    ObjectCache* cache = nullptr;
    {
        const SpinGuard list{all_caches.lock};
        cache = all_caches.first;
    }
    for (; cache != nullptr; cache = cache->next_)
        cache->give_back_empty_slab();
}

} // namespace loft
