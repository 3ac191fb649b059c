// Batches: their cost, and that no stale translation survives the flush.
//
// The addresses are those of a vmap area; the test changes its entries itself. Without `nopse` QEMU flushes its whole
// TLB at each invlpg, so a missing flush is found best with `nopse`; the counts hold everywhere.
#include "mm/windows/vmap.hpp"
#include "tests/guest/support.hpp"

namespace loft::guest::tlb_test {
namespace {

constexpr u32 kArea = 520;    // more than one page table of PAE covers
constexpr u32 kMaxPages = 16; // above it a batch is one full flush

// Two sets of frames that are mapped in turn at the same addresses.
struct Scene {
    Scene() {
        ready = ones.take(Gfp::high, 0, kArea) == kArea && others.take(Gfp::high, 0, kArea) == kArea;
        if (!ready) return;
        list(ones, page[0]);
        list(others, page[1]);
        const Result<VirtAddr> area = vmap(page[0], kArea, VmapProt::rw);
        ready = static_cast<bool>(area);
        if (ready) at = *area;
    }
    ~Scene() {
        if (ready) vunmap(at);
    }
    static void list(const FrameChain& chain, Page** out) {
        for (Page* one : chain) {
            sign(one, 3);
            *out++ = one;
        }
    }
    VirtAddr address(u32 i) const { return at + i * kPageSize; }
    bool shows(u32 i, u32 set) const { return marks_hold(address(i), page_to_pfn(page[set][i]), 3); }
    // Changes entries [first, first + n); the test does the flush.
    void change(u32 first, u32 n, u32 set, PteFlags flags = kernel_prot.pool) const {
        for (u32 i = first; i < first + n; ++i)
            hal::pte_exchange(kernel_pte(address(i)), Pte{page_to_pfn(page[set][i]), flags});
    }

    FrameChain ones, others;
    VirtAddr at{};
    bool ready = false;
    static Page* page[2][kArea];
};
constinit Page* Scene::page[2][kArea]{};

// Changes n pages to the other set and back, through batches of this kind. Returns how many showed a wrong frame.
u32 stale_after_batch(const Scene& scene, u32 first, u32 n, TlbBatch::Kind kind, PteFlags flags) {
    u32 wrong = 0;
    for (u32 round = 0; round < 6; ++round) {
        const u32 set = round % 2;
        TlbBatch batch{kind};
        scene.change(first, n, set, flags);
        batch.add(scene.address(first), n);
        batch.flush();
        for (u32 i = first; i < first + n; ++i)
            wrong += !scene.shows(i, set);
    }
    return wrong;
}

u32 free_in_all_zones() { return free_frames(ZoneId::dma) + free_frames(ZoneId::normal) + free_frames(ZoneId::high); }

} // namespace

SELFTEST(tlb, batch_forgets_every_page) {
    const KeepsFreeCounts counts;
    const Scene scene;
    REQUIRE(scene.ready);
    const PteFlags global = hal::cpu_features().global ? kernel_prot.pool | pte::global : kernel_prot.pool;
    for (const u32 n : {1u, 2u, kMaxPages - 1, kMaxPages, kMaxPages + 1, kArea}) {
        CHECK_EQ(stale_after_batch(scene, 0, n, TlbBatch::Kind::non_global, kernel_prot.pool), 0u);
        CHECK_EQ(stale_after_batch(scene, kArea - n, n, TlbBatch::Kind::global, global), 0u);
        // The area's own entries are not global: flushes the global translations of the test's entries.
        TlbBatch back{TlbBatch::Kind::global};
        scene.change(0, kArea, 0);
        back.add(scene.address(0), kArea);
        back.flush();
    }
}

// Pages that are added one by one, in any order, with gaps between them.
SELFTEST(tlb, batch_of_scattered_pages) {
    const KeepsFreeCounts counts;
    const Scene scene;
    REQUIRE(scene.ready);
    u32 wrong = 0;
    for (u32 round = 0; round < 20; ++round) {
        const u32 set = round % 2, n = 1 + round; // both sides of kMaxPages
        TlbBatch batch{TlbBatch::Kind::non_global};
        for (u32 k = 0; k < n; ++k) {
            const u32 i = k * 37 % kArea;
            scene.change(i, 1, set);
            batch.add(scene.address(i));
        }
        batch.flush();
        for (u32 k = 0; k < n; ++k)
            wrong += !scene.shows(k * 37 % kArea, set);
    }
    CHECK_EQ(wrong, 0u);
    TlbBatch back{TlbBatch::Kind::non_global};
    scene.change(0, kArea, 0);
    back.add(scene.address(0), kArea);
    back.flush();
}

SELFTEST(tlb, times_only_grow) {
    hal::Counter count;
    u64 most = 0;
    for (const u64 value :
         {u64{1}, u64{0xffff'ffff}, u64{1}, u64{1} << 32, u64{0xffff'fffe}, u64{5} << 32 | 1, u64{4} << 32 | 9}) {
        count.raise_to(value);
        most = std::max(most, value);
        CHECK(count.load() == most);
    }
    count.raise_to(u64{6} << 32 | 0xffff'ffff);
    CHECK(count.increment() == u64{7} << 32);
    CHECK(count.load() == u64{7} << 32);
}

SELFTEST(tlb, batch_costs_what_it_says) {
    const KeepsFreeCounts counts;
    const Scene scene;
    REQUIRE(scene.ready);
    const auto cost = [&](TlbBatch::Kind kind, u32 n, u32 gap) {
        const FlushCounter flushes;
        TlbBatch batch{kind};
        for (u32 i = 0; i < n; ++i)
            batch.add(scene.address(i * gap % kArea));
        batch.flush();
        CHECK(batch.empty());
        TlbStats spent;
        spent.invlpg = flushes.invlpg();
        spent.non_global = flushes.cr3_loads();
        spent.full = flushes.full();
        return spent;
    };
    for (const u32 gap : {1u, 3u}) {
        for (const u32 n : {1u, 7u, kMaxPages}) {
            const TlbStats few = cost(TlbBatch::Kind::non_global, n, gap);
            CHECK_EQ(few.invlpg, n);
            CHECK_EQ(few.non_global + few.full, 0u);
        }
        const TlbStats pool = cost(TlbBatch::Kind::non_global, kMaxPages + 1, gap);
        CHECK_EQ(pool.non_global, 1u);
        CHECK_EQ(pool.invlpg + pool.full, 0u);
        // Global pages survive a CR3 load: this kind needs CR4.PGE.
        const TlbStats global = cost(TlbBatch::Kind::global, kMaxPages + 1, gap);
        CHECK_EQ(global.full, 1u);
        CHECK_EQ(global.invlpg + global.non_global, 0u);
    }
    const TlbStats none = cost(TlbBatch::Kind::global, 0, 1);
    CHECK_EQ(none.invlpg + none.non_global + none.full, 0u);
}

// A batch can be used again; one that is destroyed without a flush panics.
SELFTEST(tlb, batch_must_be_flushed) {
    const KeepsFreeCounts counts;
    const Scene scene;
    REQUIRE(scene.ready);
    const std::string_view text = selftest::catch_panic([&] {
        TlbBatch batch{TlbBatch::Kind::non_global};
        batch.add(scene.address(0));
    });
    CHECK(!text.empty());
    TlbBatch batch{TlbBatch::Kind::non_global};
    const FlushCounter flushes;
    for (u32 i = 0; i < 3; ++i) {
        batch.add(scene.address(i), 2);
        CHECK(!batch.empty());
        batch.flush();
    }
    CHECK_EQ(flushes.invlpg(), 6u);
}

SELFTEST(tlb, batch_frees_frames) {
    const KeepsFreeCounts counts;
    const u32 before = free_in_all_zones();
    Page* page[40];
    TlbBatch batch{TlbBatch::Kind::non_global};
    for (Page*& one : page) {
        one = alloc_page(Gfp::high);
        REQUIRE(one != nullptr);
        batch.free_after(one);
    }
    CHECK(!batch.empty());
    batch.add(layout::fix_addr(layout::Fix::boot_first));
    CHECK_EQ(free_in_all_zones(), before - 40);
    batch.flush();
    CHECK_EQ(free_in_all_zones(), before);
    for (const Page* one : page)
        CHECK(one->type() != PageType::used);
}

// A write that is no longer allowed must not succeed through an old translation.
SELFTEST(tlb, rights_that_were_taken_away_are_gone) {
    const KeepsFreeCounts counts;
    const Scene scene;
    REQUIRE(scene.ready);
    for (const u32 n : {1u, kArea}) {
        for (u32 i = 0; i < n; ++i)
            CHECK(probe_write32(scene.address(i) + 8, i));
        scene.change(0, n, 0, kernel_prot.pool_ro);
        TlbBatch batch{TlbBatch::Kind::non_global};
        batch.add(scene.address(0), n);
        batch.flush();
        u32 through = 0;
        for (u32 i = 0; i < n; ++i)
            through += probe_write32(scene.address(i) + 8, ~i);
        CHECK_EQ(through, 0u);
        scene.change(0, n, 0);
        batch.add(scene.address(0), n);
        batch.flush();
    }
}

} // namespace loft::guest::tlb_test
