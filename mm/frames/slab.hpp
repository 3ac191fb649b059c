// The object cache: objects smaller than a page, in lowmem; each cache has one size.
//
// The Gfp of a cache is kernel, or user_low for objects that system calls of programs allocate (an area for each mmap,
// a process for each fork). With user_low, programs cannot use up the kernel's reserve.
//
// A slab is one lowmem frame: a header, then objects; free objects are linked through their first word. The header lies
// at the start of the frame, so free() needs the object's address only.
#pragma once

#include "mm/frames/page_alloc.hpp"
#include "mm/ground/ring.hpp"

#include <new>
#include <utility>

namespace loft {

struct CacheStats {
    u32 objects = 0; // allocated
    u32 slabs = 0;
};

class ObjectCache {
  public:
    // size: 1 to kMaxSize; align: a power of two up to 64. A slab has at most kMaxObjects. `gfp`, for the frames of the
    // slabs: kernel or user_low.
    static constexpr u32 kMaxSize = 1024;
    static constexpr u32 kMaxObjects = 512;
    constexpr ObjectCache(const char* name, u32 size, u32 align, Gfp gfp)
        : name_{name}, size_{size}, align_{align}, gfp_{gfp} {}

    // Null if lowmem is used up, or down to the reserve that user_low leaves. Context: any but NMI.
    [[nodiscard]] void* alloc();
    // Panics on an address that is not an object of this cache, or that is free already. Context: any but NMI.
    void free(void* object);

    CacheStats stats() { // any context but NMI
        const SpinGuard guard{lock_};
        return stats_;
    }
    const char* name() const { return name_; }
    void reset(); // boot: empties the cache without freeing its slabs

    // An unused cache keeps one empty slab, to save an allocation later. This frees the empty slab of every cache, so
    // that as many frames are free as before the first object. Context: any but NMI. Cost: one lock for each cache.
    static void give_back_empty_slabs();
    static void forget_all(); // boot, before the first object: empties the list of caches

  private:
    struct Slab : ListLink {
        ObjectCache* cache;
        void* free_list;
        u32 in_use;
        u32 used[16]; // one bit for each object: finds a double free
    };
    u32 stride() const;
    u32 first() const;
    u32 capacity() const;
    Slab* grow() LOFT_REQUIRES(lock_);
    void give_back(Slab& slab) LOFT_REQUIRES(lock_); // an empty slab
    void give_back_empty_slab();

    const char* name_;
    u32 size_;
    u32 align_;
    Gfp gfp_;
    SpinLock lock_{LockRank::cache};
    ListLink partial_ LOFT_GUARDED_BY(lock_); // slabs with at least one free object; full slabs are in no list
    CacheStats stats_ LOFT_GUARDED_BY(lock_);
    bool listed_ LOFT_GUARDED_BY(lock_) = false;
    ObjectCache* next_ = nullptr; // in the list of caches that have had a slab; set once, before the cache is listed
};

// A cache of T.
template <typename T> class Cache {
  public:
    constexpr Cache(const char* name, Gfp gfp) : cache_{name, sizeof(T), alignof(T), gfp} {}

    template <typename... Args> [[nodiscard]] T* make(Args&&... args) {
        void* memory = cache_.alloc();
        return memory ? ::new (memory) T{std::forward<Args>(args)...} : nullptr;
    }
    void destroy(T* object) {
        object->T::~T(); // its own class, not one derived from it
        cache_.free(object);
    }
    CacheStats stats() { return cache_.stats(); }
    void reset() { cache_.reset(); }

  private:
    ObjectCache cache_;
};

} // namespace loft
