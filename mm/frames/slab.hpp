// The object cache: everything small that mm and the kernel need, in lowmem, one size a cache.
//
// A cache says for whom its objects are: Gfp::kernel, or Gfp::user_low for what a program makes the kernel take by its
// calls (an area for each mmap, a process for each fork). Programs leave the kernel's reserve alone, however many calls
// they make.
//
// A slab is one lowmem frame: a header, then objects; free objects are linked through their own first word.
// The header lies at the start of the frame, so freeing needs the object's address only.
#pragma once

#include "mm/frames/page_alloc.hpp"
#include "mm/ground/spinlock.hpp"

#include <boost/intrusive/circular_list_algorithms.hpp>
#include <new>
#include <utility>

namespace loft {

// Slabs link through Boost's list algorithms and not through its list class: that one has a constructor and a
// destructor, and the kernel runs neither for objects at namespace scope.
struct SlabLink {
    SlabLink* next = nullptr;
    SlabLink* prev = nullptr;
};
struct SlabLinkTraits {
    using node = SlabLink;
    using node_ptr = SlabLink*;
    using const_node_ptr = const SlabLink*;
    static node_ptr get_next(const_node_ptr n) { return n->next; }
    static void set_next(node_ptr n, node_ptr next) { n->next = next; }
    static node_ptr get_previous(const_node_ptr n) { return n->prev; }
    static void set_previous(node_ptr n, node_ptr prev) { n->prev = prev; }
};
using SlabLinks = boost::intrusive::circular_list_algorithms<SlabLinkTraits>;

struct CacheStats {
    u32 objects = 0; // handed out
    u32 slabs = 0;
};

class ObjectCache {
  public:
    // size at least 1, at most kMaxSize; align a power of two up to 64. At most kMaxObjects fit a slab. `gfp`: where
    // the frames of the slabs come from, and what they leave there; kernel or user_low.
    static constexpr u32 kMaxSize = 1024;
    static constexpr u32 kMaxObjects = 512;
    constexpr ObjectCache(const char* name, u32 size, u32 align, Gfp gfp)
        : name_{name}, size_{size}, align_{align}, gfp_{gfp} {}

    // Null when lowmem is out, or what is left of it is not for this cache. Context: any.
    [[nodiscard]] void* alloc();
    // Panics on an address that is not an object of this cache, or that is free already. Context: any.
    void free(void* object);

    CacheStats stats() { // any context but NMI
        const SpinGuard guard{lock_};
        return stats_;
    }
    const char* name() const { return name_; }
    void reset(); // boot: forgets everything

    // A cache keeps its last slab when it empties, so that it need not fetch one again. Every cache that has ever had a
    // slab gives such a one back here: as many frames are free as before the first object. Context: any. Cost: a lock
    // for each cache.
    static void give_back_empty_slabs();
    static void forget_all(); // boot, before the first object: no cache has had a slab

  private:
    struct Slab : SlabLink {
        ObjectCache* cache;
        void* free_list;
        u32 in_use;
        u32 used[16]; // a bit an object: a double free is seen, not guessed
    };
    u32 stride() const;
    u32 first() const;
    u32 capacity() const;
    Slab* grow() LOFT_REQUIRES(lock_);
    void give_back(Slab& slab) LOFT_REQUIRES(lock_); // it is empty
    void give_back_empty_slab();

    const char* name_;
    u32 size_;
    u32 align_;
    Gfp gfp_;
    SpinLock lock_{LockRank::cache};
    SlabLink partial_ LOFT_GUARDED_BY(lock_); // slabs with at least one object free; full ones are in no list
    CacheStats stats_ LOFT_GUARDED_BY(lock_);
    bool listed_ LOFT_GUARDED_BY(lock_) = false;
    ObjectCache* next_ = nullptr; // of those that have had a slab: set once, before the cache is in the list
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
        object->~T();
        cache_.free(object);
    }
    CacheStats stats() { return cache_.stats(); }
    void reset() { cache_.reset(); }

  private:
    ObjectCache cache_;
};

} // namespace loft
