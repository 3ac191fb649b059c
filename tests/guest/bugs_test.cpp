// Bugs of other systems that no other suite tests. docs/bugs.md has the whole list, with the tests.
#include "mm/tables/flush_clock.hpp"
#include "mm/tables/pagetable.hpp"
#include "tests/guest/support.hpp"

#include <algorithm>
#include <array>

namespace loft::guest::bugs_test {
namespace {

// Every entry of this CPU's window, the private slot included, and of the pool.
struct Entries {
    std::array<Pte, layout::kLocalSlots + 1> local{};
    std::array<Pte, layout::kPkmapSlots> pool{};

    void read() {
        const PreemptGuard here;
        const VirtAddr first = layout::local_private_slot(hal::this_cpu());
        for (u32 i = 0; i < local.size(); ++i)
            local[i] = hal::pte_read(kernel_pte(first + i * layout::kLocalStride));
        for (u32 i = 0; i < pool.size(); ++i)
            pool[i] = hal::pte_read(kernel_pte(layout::pkmap_addr(i)));
    }
};

template <typename A> u32 differences(const A& a, const A& b) {
    u32 count = 0;
    for (u32 i = 0; i < a.size(); ++i)
        count += a[i].pfn() != b[i].pfn() || a[i].present() != b[i].present();
    return count;
}

constinit Entries before{}, after{};

} // namespace

// Bug 5: recursion, a map that needs another map. Each map writes its own entry and nothing else: no other slot, no
// table, no frame.
SELFTEST(bugs, a_map_writes_one_entry) {
    if (const char* why = no_slots_for(18)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<17> pages;
    REQUIRE(pages.complete());
    // Before, slots of all depths map other pages.
    LocalAddr at[16];
    for (u32 i = 0; i < 16; ++i)
        at[i] = kmap_local_page(pages[16]);
    for (u32 i = 16; i-- > 0;)
        kunmap_local(at[i]);
    const u32 free = free_frames(ZoneId::dma) + free_frames(ZoneId::normal) + free_frames(ZoneId::high);
    for (u32 depth = 0; depth < 16; ++depth) {
        before.read();
        at[depth] = kmap_local_page(pages[depth]);
        after.read();
        CHECK_EQ(differences(before.local, after.local), 1u);
        CHECK_EQ(differences(before.pool, after.pool), 0u);
        CHECK(after.local[1 + depth].pfn() == pages.pfn(depth));
        CHECK_EQ(local_depth(), depth + 1);
    }
    // kmap works while all local slots are in use, and changes none of them.
    const PkmapStats pool = pkmap_stats();
    before.read();
    const GlobalAddr global = kmap(pages[16]);
    after.read();
    CHECK_EQ(differences(before.local, after.local), 0u);
    if (pkmap_stats().wraps == pool.wraps) CHECK_EQ(differences(before.pool, after.pool), 1u);
    write_marks(global, pages.pfn(16));
    CHECK_EQ(free_frames(ZoneId::dma) + free_frames(ZoneId::normal) + free_frames(ZoneId::high), free);
    kunmap(pages[16]);
    for (u32 i = 16; i-- > 0;)
        kunmap_local(at[i]);
}

// Bug 4: the entries of the windows of CPU 8 and above were searched in the page table of the first eight. This CPU
// uses the windows of all CPUs that are not online. It leaves out those of online CPUs, which use them themselves.
SELFTEST(bugs, windows_of_all_cpus_can_be_mapped) {
    if (const char* why = no_slots_for(1)) SKIP(why);
    const KeepsFreeCounts counts;
    const Pages<1> pages;
    REQUIRE(pages.complete());
    sign(pages[0], 6);
    u32 wrong = 0;
    for (u32 cpu = 1; cpu < config::kMaxCpus; ++cpu) {
        if (hal::online_cpus().has(CpuId{cpu})) continue;
        for (const u32 slot : {0u, 15u, 31u}) {
            const VirtAddr va = layout::local_first_slot(CpuId{cpu}) + slot * layout::kLocalStride;
            wrong += readable(va);
            hal::pte_set(kernel_pte(va), Pte{pages.pfn(0), kernel_prot.data});
            wrong += !readable(va) || !marks_hold(va, pages.pfn(0), 6);
            hal::pte_clear(kernel_pte(va));
            tlb_flush_local_page(va);
            wrong += readable(va);
        }
    }
    CHECK_EQ(wrong, 0u);
}

// Bug 12, without memory: each bit of a frame number is kept in each representation.
SELFTEST(bugs, frame_numbers_keep_their_upper_bits) {
    static Page page;
    for (u32 bit = 0; bit < (config::kPae ? 24 : 20); ++bit) {
        const Pfn pfn{1u << bit};
        CHECK_EQ(pfn.phys().value(), u64{1} << (bit + 12));
        CHECK_EQ(pfn.phys().pfn().value(), pfn.value());
        const Pte entry{pfn, kernel_prot.data};
        CHECK_EQ(entry.pfn().value(), pfn.value());
        const u64 raw = u64{entry.high()} << 32 | entry.low();
        CHECK_EQ(raw & 0xf'ffff'f000ull, u64{1} << (bit + 12));
        CHECK(entry.flags() == kernel_prot.data);
        page.make_free(PageType::buddy, pfn, Pfn{pfn.value() ^ 0xff'ffffu}, kMaxOrder);
        CHECK_EQ(page.next().value(), pfn.value());
        CHECK_EQ(page.prev().value(), pfn.value() ^ 0xff'ffffu);
        CHECK_EQ(page.order(), kMaxOrder);
    }
    // Every slot number, and the fields beside it.
    for (u32 slot = 0; slot < layout::kPkmapSlots; ++slot) {
        page.make_used(PageType::table, 0x1234);
        CHECK(page.try_set_slot(slot));
        if (!CHECK(page.slot() == slot && page.refs() == 0x1234 && page.type() == PageType::table)) break;
    }
}

} // namespace loft::guest::bugs_test
