// The object cache: objects are distinct, aligned, in lowmem, and can be freed.
#include "mm/frames/slab.hpp"
#include "tests/host/booted.hpp"

#include <map>

using namespace loft;
using namespace loft::test;

namespace {

struct Small {
    u32 a;
    u32 b;
};
struct alignas(64) Wide {
    u8 bytes[64];
};

bool holds(const u8* object, u32 size, u8 value) {
    return std::all_of(object, object + size, [&](u8 byte) { return byte == value; });
}

u32 pages_of_slab_type() {
    u32 count = 0;
    for (u32 pfn = 0; pfn < mem_map_count; ++pfn)
        count += pfn_to_page(Pfn{pfn})->type() == PageType::slab;
    return count;
}

} // namespace

TEST_CASE("slab: objects are distinct, aligned, in the direct map, and keep what is written to them", "[slab]") {
    Booted kernel;
    const Books before = books();
    for (const u32 size : {1u, 4u, 8u, 24u, 100u, 1000u, ObjectCache::kMaxSize}) {
        for (const u32 align : {1u, 8u, 64u}) {
            INFO("size " << size << ", align " << align);
            ObjectCache cache{"test", size, align, Gfp::kernel};
            std::vector<u8*> objects;
            for (u32 i = 0; i < 700; ++i) {
                u8* object = static_cast<u8*>(cache.alloc());
                REQUIRE(object != nullptr);
                REQUIRE(in_direct_map(hal::lowmem_addr(object)));
                REQUIRE(hal::lowmem_addr(object).value() % align == 0);
                REQUIRE(hal::lowmem_addr(object).page_offset() + size <= kPageSize);
                std::memset(object, static_cast<int>(i), size);
                objects.push_back(object);
            }
            CHECK(cache.stats().objects == 700);
            CHECK(cache.stats().slabs == pages_of_slab_type());
            for (u32 i = 0; i < 700; ++i)
                REQUIRE(holds(objects[i], size, static_cast<u8>(i)));
            for (u8* object : objects)
                cache.free(object);
            CHECK(cache.stats().objects == 0);
            CHECK(cache.stats().slabs == 1);
            // The cache keeps its last slab: frees that frame, so that the resource sums can be compared.
            for (u32 pfn = 0; pfn < mem_map_count; ++pfn)
                if (pfn_to_page(Pfn{pfn})->type() == PageType::slab) free_page(pfn_to_page(Pfn{pfn}));
        }
    }
    CHECK(books() == before);
}

TEST_CASE("slab: no two objects of a slab overlap, and a slab is used to its end", "[slab]") {
    Booted kernel;
    ObjectCache cache{"test", 24, 8, Gfp::kernel};
    std::vector<u32> offsets;
    while (cache.stats().slabs < 2) {
        void* object = cache.alloc();
        if (cache.stats().slabs == 1) offsets.push_back(hal::lowmem_addr(object).page_offset());
    }
    std::sort(offsets.begin(), offsets.end());
    for (u32 i = 1; i < offsets.size(); ++i)
        REQUIRE(offsets[i] - offsets[i - 1] == 24);
    CHECK(offsets.back() + 2 * 24 > kPageSize);
    CHECK(offsets.front() < 256);
}

TEST_CASE("slab: a freed object is used before the cache grows, the youngest first", "[slab]") {
    Booted kernel;
    ObjectCache cache{"test", 32, 8, Gfp::kernel};
    void* one = cache.alloc();
    void* two = cache.alloc();
    cache.free(one);
    cache.free(two);
    CHECK(cache.alloc() == two);
    CHECK(cache.alloc() == one);
    CHECK(cache.stats().slabs == 1);
}

TEST_CASE("slab: a full slab is used again as soon as it has room", "[slab]") {
    Booted kernel;
    ObjectCache cache{"test", 512, 8, Gfp::kernel};
    std::vector<void*> objects;
    for (u32 i = 0; i < 21; ++i)
        objects.push_back(cache.alloc());
    const u32 slabs = cache.stats().slabs;
    CHECK(slabs == 3);
    cache.free(objects[3]);
    cache.free(objects[10]);
    for (u32 i = 0; i < 2; ++i) {
        void* object = cache.alloc();
        CHECK((object == objects[3] || object == objects[10]));
    }
    CHECK(cache.stats().slabs == slabs);
}

TEST_CASE("slab: empty slabs go back to the allocator, the last one stays", "[slab]") {
    Booted kernel;
    const u32 free = zone_info(ZoneId::normal).free;
    ObjectCache cache{"test", 512, 8, Gfp::kernel};
    std::vector<void*> objects;
    for (u32 i = 0; i < 70; ++i)
        objects.push_back(cache.alloc());
    CHECK(cache.stats().slabs == 10);
    CHECK(zone_info(ZoneId::normal).free == free - 10);
    for (void* object : objects)
        cache.free(object);
    CHECK(cache.stats().slabs == 1);
    CHECK(zone_info(ZoneId::normal).free == free - 1);
    CHECK(pages_of_slab_type() == 1);
    CHECK(cache.alloc() != nullptr);
    CHECK(cache.stats().slabs == 1);
}

TEST_CASE("slab: an empty slab goes back if another one has room, whichever had room first", "[slab]") {
    Booted kernel;
    ObjectCache cache{"test", 512, 8, Gfp::kernel};
    std::vector<void*> objects; // of two slabs, both full
    for (u32 i = 0; i < 14; ++i)
        objects.push_back(cache.alloc());
    CHECK(cache.stats().slabs == 2);
    const bool order = GENERATE(false, true);
    cache.free(objects[order ? 0 : 7]);
    cache.free(objects[order ? 7 : 0]);
    for (u32 i = 1; i < 7; ++i)
        cache.free(objects[i]);
    CHECK(cache.stats().slabs == 1);
}

TEST_CASE("slab: on request every cache gives back the empty slab that it keeps", "[slab]") {
    Booted kernel;
    const u32 free = zone_info(ZoneId::normal).free;
    ObjectCache one{"one", 512, 8, Gfp::kernel}, two{"two", 64, 8, Gfp::kernel};
    [[maybe_unused]] ObjectCache never{"never", 64, 8, Gfp::kernel};
    one.free(one.alloc());
    void* used = two.alloc();
    REQUIRE(pages_of_slab_type() == 2);
    ObjectCache::give_back_empty_slabs();
    CHECK(one.stats().slabs == 0);
    CHECK(two.stats().slabs == 1);
    CHECK(pages_of_slab_type() == 1);
    // The cache is used again, and is still in the list of caches.
    one.free(one.alloc());
    two.free(used);
    ObjectCache::give_back_empty_slabs();
    ObjectCache::give_back_empty_slabs();
    CHECK(zone_info(ZoneId::normal).free == free);
    page_alloc_verify();
}

TEST_CASE("slab: without memory the answer is null and nothing changes", "[slab]") {
    Booted kernel;
    ObjectCache cache{"test", 1024, 8, Gfp::kernel};
    Shortage shortage{1, 0};
    u32 objects = 0;
    while (cache.alloc() != nullptr)
        ++objects;
    CHECK(objects == (kPageSize - 64) / 1024);
    CHECK(cache.stats().objects == objects);
    CHECK(cache.stats().slabs == 1);
    CHECK(cache.alloc() == nullptr);
    page_alloc_verify();
}

TEST_CASE("slab: what is not an object of the cache cannot be freed", "[slab]") {
    Booted kernel;
    ObjectCache cache{"mine", 40, 8, Gfp::kernel};
    ObjectCache other{"other", 40, 8, Gfp::kernel};
    auto* object = static_cast<std::byte*>(cache.alloc());
    auto* second = static_cast<std::byte*>(cache.alloc());
    CHECK_PANIC(other.free(object), "is not an object of this cache");
    CHECK_PANIC(cache.free(object + 8), "is not an object of this cache");
    CHECK_PANIC(cache.free(hal::lowmem_ptr<void>(hal::lowmem_addr(object).page())), "not an object of this cache");
    CHECK_PANIC(cache.free(hal::lowmem_ptr<void>(hal::lowmem_addr(object).page() + (kPageSize - 8))),
                "is not an object of this cache");
    Page* page = new_page(Gfp::kernel);
    CHECK_PANIC(cache.free(hal::lowmem_ptr<void>(direct_addr(page_to_pfn(page)))), "not an object of a cache");
    cache.free(object);
    CHECK_PANIC(cache.free(object), "is free already (double free)");
    cache.free(second);
    CHECK(cache.stats().objects == 0);
}

TEST_CASE("slab: an object that was never handed out cannot be freed", "[slab]") {
    Booted kernel;
    ObjectCache cache{"mine", 64, 8, Gfp::kernel};
    auto* object = static_cast<std::byte*>(cache.alloc());
    CHECK_PANIC(cache.free(object + 64), "is free already (double free)");
    CHECK(cache.stats().objects == 1);
}

TEST_CASE("slab: a cache refuses sizes and alignments that it cannot keep", "[slab]") {
    Booted kernel;
    ObjectCache large{"large", ObjectCache::kMaxSize + 1, 8, Gfp::kernel};
    CHECK_THROWS_AS((void)large.alloc(), sim::Panic);
    ObjectCache wide{"wide", 8, 128, Gfp::kernel};
    CHECK_THROWS_AS((void)wide.alloc(), sim::Panic);
}

TEST_CASE("slab: a typed cache constructs and destroys", "[slab]") {
    Booted kernel;
    Cache<Small> cache{"small", Gfp::kernel};
    Small* object = cache.make(3u, 4u);
    REQUIRE(object != nullptr);
    CHECK(object->a == 3);
    CHECK(object->b == 4);
    Cache<Wide> wide{"wide", Gfp::kernel};
    CHECK(hal::lowmem_addr(wide.make()).value() % 64 == 0);
    CHECK(cache.stats().objects == 1);
    cache.destroy(object);
    CHECK(cache.stats().objects == 0);
    cache.reset();
    CHECK(cache.stats().slabs == 0);
    Shortage shortage{0, 0};
    CHECK(cache.make(1u, 2u) == nullptr);
}

TEST_CASE("slab: reset forgets the slabs of a machine that is gone", "[slab]") {
    ObjectCache cache{"test", 64, 8, Gfp::kernel};
    {
        Booted kernel;
        CHECK(cache.alloc() != nullptr);
    }
    Booted kernel;
    cache.reset();
    CHECK(cache.stats().objects == 0);
    CHECK(cache.alloc() != nullptr);
    CHECK(pages_of_slab_type() == 1);
    CHECK(std::string{cache.name()} == "test");
}

TEST_CASE("slab: random use against a map of what each object holds", "[slab][random]") {
    for (u32 seed = 1; seed <= 8; ++seed) {
        INFO("seed " << seed);
        Random random{seed};
        Booted kernel;
        const u32 size = 1 + below(random, 700);
        ObjectCache cache{"test", size, 8, Gfp::kernel};
        std::map<u8*, u8> objects;
        for (u32 step = 0; step < 3000; ++step) {
            if (below(random, 9) < (step / 500 % 2 ? 3u : 6u) || objects.empty()) {
                u8* object = static_cast<u8*>(cache.alloc());
                REQUIRE(object != nullptr);
                const u8 value = static_cast<u8>(random());
                std::memset(object, value, size);
                REQUIRE(objects.emplace(object, value).second);
            } else {
                auto it = objects.begin();
                std::advance(it, below(random, std::min<u32>(20, static_cast<u32>(objects.size()))));
                REQUIRE(holds(it->first, size, it->second));
                cache.free(it->first);
                objects.erase(it);
            }
            REQUIRE(cache.stats().objects == objects.size());
        }
        for (const auto& [object, value] : objects)
            cache.free(object);
        CHECK(cache.stats().slabs == 1);
    }
}
