// The buddy system: blocks of every size, splitting and merging, and the panics on wrong arguments.
#include "arch/i386/cpu/image.hpp"
#include "tests/guest/support.hpp"

#include <algorithm>

namespace loft::guest::buddy_test {
namespace {

using selftest::contains;

// The free blocks of every zone, by size. The per-CPU lists are drained first, so that the same free frames always give
// the same blocks.
class BlockCounts {
  public:
    BlockCounts() {
        drain_local_pages();
        for (u32 i = 0; i < kZones; ++i)
            zone_[i] = zone_info(static_cast<ZoneId>(i));
    }
    bool operator==(const BlockCounts& other) const {
        for (u32 i = 0; i < kZones; ++i)
            if (!std::equal(std::begin(zone_[i].by_order), std::end(zone_[i].by_order), other.zone_[i].by_order))
                return false;
        return true;
    }
    u32 of(ZoneId zone, u32 order) const { return zone_[static_cast<u32>(zone)].by_order[order]; }
    u32 frames(ZoneId zone) const {
        u32 sum = 0;
        for (u32 order = 0; order <= kMaxOrder; ++order)
            sum += of(zone, order) << order;
        return sum;
    }

  private:
    ZoneInfo zone_[kZones];
};

// Writes the number of the owner into every descriptor of the block, so that overlapping blocks are found.
void write_owner(Page* page, u32 order, u32 owner) {
    for (u32 i = 0; i < 1u << order; ++i)
        page[i].set_payload(owner);
}
bool owned_by(const Page* page, u32 order, u32 owner) {
    for (u32 i = 0; i < 1u << order; ++i)
        if (page[i].payload() != owner) return false;
    return true;
}

// All free frames of the DMA zone, allocated one by one, indexed by frame number.
struct DmaFrames {
    Page* page[kDmaEnd];
    u32 count;

    void take() {
        std::fill(std::begin(page), std::end(page), nullptr);
        for (count = 0; Page* one = alloc_page(Gfp::dma); ++count)
            page[page_to_pfn(one).value()] = one;
    }
    void give(u32 pfn) {
        free_page(page[pfn]);
        page[pfn] = nullptr;
    }
    void give_all() {
        for (u32 pfn = 0; pfn < kDmaEnd; ++pfn)
            if (page[pfn] != nullptr) give(pfn);
    }
    bool has_pair(u32 pfn) const { return page[pfn] != nullptr && page[pfn ^ 1] != nullptr; }
};
constinit DmaFrames dma{};

// Some machines have their first memory above 16 MiB.
constexpr u32 kEnoughDma = 1000;
bool has_dma_memory() { return free_frames(ZoneId::dma) > kEnoughDma; }
constexpr const char* kNoDmaMemory = "hardly any memory below 16 MiB";

} // namespace

SELFTEST(buddy, lists_are_sound) {
    drain_all_cpus();
    page_alloc_verify();
    // The lists hold as many frames as the zone reports as free.
    const BlockCounts blocks;
    for (const ZoneId zone : {ZoneId::dma, ZoneId::normal, ZoneId::high})
        CHECK_EQ(blocks.frames(zone), free_frames(zone));
}

SELFTEST(buddy, blocks_of_every_order) {
    const KeepsFreeCounts counts;
    const BlockCounts before;
    for (const Gfp gfp : {Gfp::dma, Gfp::kernel, Gfp::high}) {
        if (gfp == Gfp::dma && !has_dma_memory()) continue;
        for (u32 order = 0; order <= kMaxOrder; ++order) {
            const u32 free = free_frames(ZoneId::dma) + free_frames(ZoneId::normal) + free_frames(ZoneId::high);
            Page* page = alloc_pages(gfp, order);
            if (page == nullptr) { // small machines have no large block in each zone
                CHECK_GT(order, 4u);
                continue;
            }
            const Pfn pfn = page_to_pfn(page);
            CHECK_EQ(pfn.value() % (1u << order), 0u);
            CHECK_EQ(free_frames(ZoneId::dma) + free_frames(ZoneId::normal) + free_frames(ZoneId::high),
                     free - (1u << order));
            CHECK(page->type() == PageType::used);
            CHECK_EQ(page->refs(), 1u);
            u32 wrong = 0;
            for (u32 i = 1; i < 1u << order; ++i)
                wrong += page[i].type() != PageType::tail;
            CHECK_EQ(wrong, 0u);
            // Each frame of it is memory of its own.
            for (u32 i = 0; i < 1u << order; ++i)
                sign(page + i, order);
            for (u32 i = 0; i < 1u << order; ++i)
                wrong += !signed_by(page + i, order);
            CHECK_EQ(wrong, 0u);
            free_pages(page, order);
        }
        // All blocks that were split have merged again.
        CHECK(BlockCounts{} == before);
    }
    page_alloc_verify();
}

SELFTEST(buddy, contiguous_blocks_are_contiguous_memory) {
    const KeepsFreeCounts counts;
    constexpr u32 kOrder = 4, kWords = (kPageSize << kOrder) / 4;
    Page* page = alloc_pages(Gfp::kernel, kOrder);
    REQUIRE(page != nullptr);
    const VirtAddr at = direct_addr(page_to_pfn(page));
    for (u32 word = 0; word < kWords; ++word)
        hal::store<u32>(at + word * 4, ~word);
    u32 wrong = 0;
    for (u32 i = 0; i < 1u << kOrder; ++i) {
        u32 first = 0;
        memcpy_from_page(&first, page + i, 0, 4);
        wrong += first != ~(i * kPageSize / 4);
    }
    CHECK_EQ(wrong, 0u);
    free_pages(page, kOrder);
}

// A block that is too large is halved until it fits: the upper halves are free, one of each size. When the block is
// freed, all of them merge again.
SELFTEST(buddy, split_and_merge) {
    const KeepsFreeCounts counts;
    const BlockCounts before;
    // All smaller blocks are taken first, so that the next request has to split.
    FrameChain small[kMaxOrder];
    for (u32 order = 1; order < kMaxOrder; ++order)
        while (BlockCounts{}.of(ZoneId::normal, order) != 0)
            small[order].take(Gfp::kernel, order, BlockCounts{}.of(ZoneId::normal, order));
    const BlockCounts coarse;
    if (coarse.of(ZoneId::normal, kMaxOrder) == 0) SKIP("no block of 4 MiB in the Normal zone");

    Page* page = alloc_pages(Gfp::kernel, 1);
    REQUIRE(page != nullptr);
    {
        const BlockCounts split;
        CHECK_EQ(split.of(ZoneId::normal, kMaxOrder), coarse.of(ZoneId::normal, kMaxOrder) - 1);
        for (u32 order = 1; order < kMaxOrder; ++order)
            CHECK_EQ(split.of(ZoneId::normal, order), 1u);
    }
    // The next block comes from the smallest free half, not from another large block.
    Page* next = alloc_pages(Gfp::kernel, 1);
    REQUIRE(next != nullptr);
    CHECK_EQ(page_to_pfn(next).value(), page_to_pfn(page).value() ^ 2);
    CHECK_EQ(BlockCounts{}.of(ZoneId::normal, 1), 0u);
    free_pages(page, 1);
    CHECK_EQ(BlockCounts{}.of(ZoneId::normal, 1), 1u); // the other half is in use: no merge
    free_pages(next, 1);
    CHECK(BlockCounts{} == coarse);

    for (FrameChain& chain : small)
        chain.release();
    CHECK(BlockCounts{} == before);
    page_alloc_verify();
}

// Random requests of random sizes: no two blocks overlap, and in the end every block is as large as before.
SELFTEST(buddy, random_requests) {
    const KeepsFreeCounts counts;
    const BlockCounts before;
    struct Block {
        Page* page;
        u32 order;
    };
    constexpr u32 kBlocks = 64;
    static constinit Block block[kBlocks]{};
    const u32 rounds = selftest::full() ? 20'000 : 2'000;
    const u32 largest = config::kDebug ? 3 : 7; // DEBUG writes to every frame that is freed
    const u32 kinds = has_dma_memory() ? 3 : 2; // of Gfp, the last ones
    u32 wrong = 0, refused = 0;
    for (u32 round = 0; round < rounds; ++round) {
        const u32 i = selftest::rng().below(kBlocks);
        if (block[i].page != nullptr) {
            wrong += !owned_by(block[i].page, block[i].order, i);
            free_pages(block[i].page, block[i].order);
            block[i].page = nullptr;
            continue;
        }
        const u32 order = selftest::rng().below(largest);
        const Gfp gfp = static_cast<Gfp>(3 - kinds + selftest::rng().below(kinds));
        block[i] = {alloc_pages(gfp, order), order};
        if (block[i].page == nullptr) {
            ++refused;
            continue;
        }
        wrong += page_to_pfn(block[i].page).value() % (1u << order) != 0;
        write_owner(block[i].page, order, i);
        if (round % 256 == 0) page_alloc_verify();
    }
    for (u32 i = 0; i < kBlocks; ++i) {
        if (block[i].page == nullptr) continue;
        wrong += !owned_by(block[i].page, block[i].order, i);
        free_pages(block[i].page, block[i].order);
        block[i].page = nullptr;
    }
    CHECK_EQ(wrong, 0u);
    CHECK_LT(refused, rounds / 8);
    CHECK(BlockCounts{} == before);
    page_alloc_verify();
}

// Half of the DMA zone is free, but no two free frames are buddies: a block of two frames cannot be allocated.
SELFTEST(buddy, fragmented_memory_gives_no_block) {
    if (!has_dma_memory()) SKIP(kNoDmaMemory);
    drain_all_cpus();
    const KeepsFreeCounts counts;
    const BlockCounts before;
    dma.take();
    CHECK_GT(dma.count, kEnoughDma);
    CHECK_EQ(free_frames(ZoneId::dma), 0u);
    u32 freed = 0;
    for (u32 pfn = 0; pfn < kDmaEnd; pfn += 2) {
        if (!dma.has_pair(pfn)) continue;
        dma.give(pfn);
        ++freed;
    }
    drain_local_pages();
    CHECK_EQ(free_frames(ZoneId::dma), freed);
    CHECK_EQ(BlockCounts{}.of(ZoneId::dma, 0), freed);
    CHECK(alloc_pages(Gfp::dma, 1) == nullptr);
    Page* single = alloc_page(Gfp::dma);
    CHECK(single != nullptr);
    if (single != nullptr) free_page(single);
    page_alloc_verify();
    dma.give_all();
    CHECK(BlockCounts{} == before);
}

// Two buddies are freed one at a time and lie in this CPU's list: a request for a block of two frames finds them.
SELFTEST(buddy, lists_are_drained_for_a_block) {
    if (!has_dma_memory()) SKIP(kNoDmaMemory);
    drain_all_cpus();
    const KeepsFreeCounts counts;
    dma.take();
    u32 pfn = 0;
    while (pfn < kDmaEnd && !dma.has_pair(pfn))
        pfn += 2;
    if (!CHECK_LT(pfn, kDmaEnd)) return dma.give_all();
    dma.give(pfn);
    dma.give(pfn + 1);
    Page* pair = alloc_pages(Gfp::dma, 1);
    CHECK(pair != nullptr);
    if (pair != nullptr) {
        CHECK_EQ(page_to_pfn(pair).value(), pfn);
        free_pages(pair, 1);
    }
    dma.give_all();
}

SELFTEST(buddy, double_free_panics) {
    const KeepsFreeCounts counts;
    for (const Gfp gfp : {Gfp::kernel, Gfp::high}) {
        for (const u32 order : {0u, 3u}) {
            Page* page = alloc_pages(gfp, order);
            REQUIRE(page != nullptr);
            free_pages(page, order);
            CHECK(contains(selftest::catch_panic([&] { free_pages(page, order); }), "double free"));
            drain_local_pages(); // and also when the frame has merged with its neighbours
            CHECK(contains(selftest::catch_panic([&] { free_page(page); }), "free of frame"));
        }
    }
    page_alloc_verify();
}

SELFTEST(buddy, frames_of_others_are_not_freed) {
    const KeepsFreeCounts counts;
    Page* block = alloc_pages(Gfp::kernel, 2);
    REQUIRE(block != nullptr);
    CHECK(contains(selftest::catch_panic([&] { free_page(block + 1); }), "not the first of its allocation"));
    CHECK(contains(selftest::catch_panic([&] { free_pages(block + 2, 1); }), "not the first"));
    free_pages(block, 2);
    // The kernel's own frames were never allocated.
    Page* image = pfn_to_page(direct_phys(image_addr(__text_begin)).pfn());
    CHECK(contains(selftest::catch_panic([&] { free_page(image); }), "not allocated"));
    Page* table = pfn_to_page(direct_phys(hal::lowmem_addr(mem_map)).pfn());
    CHECK(contains(selftest::catch_panic([&] { free_page(table); }), "not allocated"));
}

SELFTEST(buddy, references) {
    const KeepsFreeCounts counts;
    Page* page = alloc_page(Gfp::high);
    REQUIRE(page != nullptr);
    get_page(page);
    get_page(page);
    CHECK_EQ(page->refs(), 3u);
    put_page(page);
    put_page(page);
    CHECK(page->type() == PageType::used);
    CHECK_EQ(page->refs(), 1u);
    // A saturated count stays: the frame is never freed again.
    page->make_used(PageType::used, Page::kMaxRefs - 1);
    get_page(page);
    CHECK_EQ(page->refs(), Page::kMaxRefs);
    get_page(page);
    put_page(page);
    put_page(page);
    CHECK_EQ(page->refs(), Page::kMaxRefs);
    CHECK(page->type() == PageType::used);
    // Below zero.
    page->make_used(PageType::used, 0);
    CHECK(contains(selftest::catch_panic([&] { put_page(page); }), "below zero"));
    page->make_used(PageType::used, 1);
    put_page(page);
    CHECK(page->type() == PageType::cached);
}

// An interrupt allocates and frees between any two requests, and while all frames of the list are gone.
SELFTEST(buddy, works_in_interrupts) {
    const KeepsFreeCounts counts;
    u32 failed = 0;
    in_interrupt_do([&] {
        FrameChain pages;
        failed += pages.take(Gfp::high, 0, 100) != 100;
        failed += pages.blocks() != 100;
    });
    in_interrupt_do([&] {
        Page* page = alloc_pages(Gfp::kernel, 3);
        failed += page == nullptr;
        if (page != nullptr) free_pages(page, 3);
    });
    CHECK_EQ(failed, 0u);
}

} // namespace loft::guest::buddy_test
