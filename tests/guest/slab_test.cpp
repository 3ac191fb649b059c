// The object cache: small objects in lowmem.
#include "mm/frames/slab.hpp"
#include "tests/guest/support.hpp"

#include <algorithm>

namespace loft::guest::slab_test {
namespace {

using selftest::contains;

constinit ObjectCache tiny{"tiny", 1, 1, Gfp::kernel}, odd{"odd", 24, 8, Gfp::kernel},
    lines{"lines", 64, 64, Gfp::kernel}, large{"large", 1000, 32, Gfp::kernel},
    largest{"largest", ObjectCache::kMaxSize, 16, Gfp::kernel};

struct Kind {
    ObjectCache* cache;
    u32 size, align;
};
constexpr Kind kKinds[]{
    {&tiny, 1, 1}, {&odd, 24, 8}, {&lines, 64, 64}, {&large, 1000, 32}, {&largest, ObjectCache::kMaxSize, 16}};

// Makes the cache keep one empty slab, before a test counts frames.
void keep_a_slab(ObjectCache& cache) {
    if (void* object = cache.alloc()) cache.free(object);
}

// A plain array: memory for this table must not come from the code under test.
constexpr u32 kObjects = 600;
constinit void* object[kObjects]{};

} // namespace

// More objects than a slab holds: aligned, in lowmem, without overlap.
SELFTEST(slab, objects_are_apart) {
    const KeepsFreeCounts counts;
    for (const Kind& kind : kKinds)
        keep_a_slab(*kind.cache);
    for (const Kind& kind : kKinds) {
        const u32 slabs = kind.cache->stats().slabs;
        u32 wrong = 0;
        for (u32 i = 0; i < kObjects; ++i) {
            object[i] = kind.cache->alloc();
            if (!CHECK(object[i] != nullptr)) return;
            wrong += reinterpret_cast<u32>(object[i]) % kind.align != 0;
            wrong += !in_direct_map(hal::lowmem_addr(object[i]));
            std::fill_n(static_cast<u8*>(object[i]), kind.size, static_cast<u8>(i * 37));
        }
        CHECK_EQ(kind.cache->stats().objects, kObjects);
        CHECK_GT(kind.cache->stats().slabs, slabs);
        for (u32 i = 0; i < kObjects; ++i) {
            const u8* bytes = static_cast<const u8*>(object[i]);
            wrong += !std::all_of(bytes, bytes + kind.size, [i](u8 byte) { return byte == static_cast<u8>(i * 37); });
        }
        CHECK_EQ(wrong, 0u);
        // Not in the order of allocation.
        for (u32 i = 0; i < kObjects; ++i)
            kind.cache->free(object[(i * 7) % kObjects]);
        CHECK_EQ(kind.cache->stats().objects, 0u);
        CHECK_EQ(kind.cache->stats().slabs, slabs);
    }
}

// Holes in full slabs are used before new slabs are made.
SELFTEST(slab, holes_are_filled) {
    const KeepsFreeCounts counts;
    for (void*& o : object)
        o = odd.alloc();
    const u32 slabs = odd.stats().slabs;
    for (u32 i = 0; i < kObjects; i += 3)
        odd.free(object[i]);
    for (u32 i = 0; i < kObjects; i += 3)
        object[i] = odd.alloc();
    CHECK_EQ(odd.stats().slabs, slabs);
    std::sort(std::begin(object), std::end(object));
    CHECK(std::adjacent_find(std::begin(object), std::end(object)) == std::end(object));
    for (void* o : object)
        odd.free(o);
}

// On request a cache frees its empty slab, but not one that holds an object.
SELFTEST(slab, empty_slabs_go_back) {
    const KeepsFreeCounts counts;
    keep_a_slab(odd);
    void* used = lines.alloc();
    CHECK_EQ(odd.stats().slabs, 1u);
    ObjectCache::give_back_empty_slabs();
    CHECK_EQ(odd.stats().slabs, 0u);
    CHECK_EQ(lines.stats().slabs, 1u);
    ObjectCache::give_back_empty_slabs(); // nothing to do
    keep_a_slab(odd);
    CHECK_EQ(odd.stats().slabs, 1u);
    lines.free(used);
}

SELFTEST(slab, double_free_panics) {
    const KeepsFreeCounts counts;
    void* keep = odd.alloc(); // the slab stays in use
    void* twice = odd.alloc();
    odd.free(twice);
    CHECK(contains(selftest::catch_panic([&] { odd.free(twice); }), "double free"));
    odd.free(keep);
}

SELFTEST(slab, foreign_addresses_panic) {
    const KeepsFreeCounts counts;
    auto* mine = static_cast<u8*>(odd.alloc());
    void* other = lines.alloc();
    Page* page = alloc_page(Gfp::kernel);
    REQUIRE(mine != nullptr && other != nullptr && page != nullptr);
    void* no_slab = hal::lowmem_ptr<u8>(direct_addr(page_to_pfn(page)));
    CHECK(contains(selftest::catch_panic([&] { odd.free(other); }), "not an object of this cache"));
    CHECK(contains(selftest::catch_panic([&] { odd.free(mine + 4); }), "not an object of this cache"));
    CHECK(contains(selftest::catch_panic([&] { odd.free(no_slab); }), "not an object of a cache"));
    free_page(page);
    lines.free(other);
    odd.free(mine);
    CHECK_EQ(odd.stats().objects, 0u);
}

SELFTEST(slab, typed_objects_are_constructed_and_destroyed) {
    static u32 alive = 0;
    struct Counted {
        u32 value;
        explicit Counted(u32 v) : value{v} { ++alive; }
        ~Counted() { --alive; }
    };
    static constinit Cache<Counted> cache{"counted", Gfp::kernel};
    const KeepsFreeCounts counts;
    Counted* a = cache.make(17u);
    Counted* b = cache.make(18u);
    REQUIRE(a != nullptr && b != nullptr);
    CHECK_EQ(alive, 2u);
    CHECK_EQ(a->value, 17u);
    CHECK_EQ(b->value, 18u);
    cache.destroy(a);
    cache.destroy(b);
    CHECK_EQ(alive, 0u);
    CHECK_EQ(cache.stats().objects, 0u);
}

SELFTEST(slab, works_in_interrupts) {
    const KeepsFreeCounts counts;
    void* outside = tiny.alloc();
    void* inside = nullptr;
    in_interrupt_do([&] { inside = tiny.alloc(); });
    CHECK(inside != nullptr);
    CHECK_NE(inside, outside);
    in_interrupt_do([&] { tiny.free(outside); });
    tiny.free(inside);
    CHECK_EQ(tiny.stats().objects, 0u);
}

} // namespace loft::guest::slab_test
