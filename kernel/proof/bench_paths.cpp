// The cost of each path of high memory. A path that keeps its result has two lines: for a hit, when the mapping or
// frame is found as the last operation left it, and for a miss.
#include "arch/base/panic.hpp"
#include "kernel/proof/bench.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/spaces/highpte.hpp"
#include "mm/windows/highmem.hpp"
#include "mm/windows/vmap.hpp"

namespace loft::bench {
namespace {

constexpr u32 kPages = 4096; // several times the slots of pkmap
constexpr u32 kTableOrder = 2;
static_assert(kPages * sizeof(Page*) == kPageSize << kTableOrder);
constexpr u32 kVmapPages = 16;

void take_all(Gfp gfp, Page** pages) {
    for (u32 i = 0; i != kPages; ++i)
        pages[i] = alloc_page(gfp);
}
void free_all(Page* const* pages) {
    for (u32 i = 0; i != kPages; ++i)
        free_page(pages[i]);
}

void measure_local(Meter& meter, Page* const* pages) {
    meter.mapping("kmap_local.same", [=](u32, auto touch) { // a hit
        const LocalAddr at = kmap_local_page(pages[0]);
        touch(at);
        kunmap_local(at);
    });
    meter.mapping("kmap_local.distinct", [=](u32 i, auto touch) { // a miss
        const LocalAddr at = kmap_local_page(pages[i]);
        touch(at);
        kunmap_local(at);
    });
    const auto nested = [=](u32 first, auto touch) __attribute__((always_inline)) {
        const LocalAddr a = kmap_local_page(pages[first]);
        touch(a);
        const LocalAddr b = kmap_local_page(pages[first + 1]);
        touch(b);
        const LocalAddr c = kmap_local_page(pages[first + 2]);
        touch(c);
        const LocalAddr d = kmap_local_page(pages[first + 3]);
        touch(d);
        kunmap_local(d);
        kunmap_local(c);
        kunmap_local(b);
        kunmap_local(a);
    };
    meter.mapping("kmap_local.nested4", [=](u32, auto touch) { nested(0, touch); }); // four hits
    meter.mapping("kmap_local.nested4.miss", [=](u32 i, auto touch) { nested(i * 4 % kPages, touch); });

    meter.mapping("kmap_atomic.distinct", [=](u32 i, auto touch) { // a miss
        const AtomicAddr at = kmap_atomic(pages[i]);
        touch(at);
        kunmap_atomic(at);
    });
    meter.mapping("kmap_atomic.same", [=](u32, auto touch) { // a hit
        const AtomicAddr at = kmap_atomic(pages[0]);
        touch(at);
        kunmap_atomic(at);
    });
}

// A page table is a page like any other, reached from its directory entry.
void measure_tables(Meter& meter, Page* const* pages) {
    const auto pair = [](Page * table, u32 i, auto touch) __attribute__((always_inline)) {
        hal::PteCell* const entry =
            pte_offset_map(Pte{page_to_pfn(table), kernel_prot.data}, VirtAddr{i << kPageShift});
        touch(entry);
        pte_unmap(entry);
    };
    meter.mapping("pte_offset_map", [=](u32 i, auto touch) { pair(pages[0], i, touch); });          // a hit
    meter.mapping("pte_offset_map.distinct", [=](u32 i, auto touch) { pair(pages[i], i, touch); }); // a miss
}

void measure_global(Meter& meter, Page* const* pages) {
    const auto pair = [](Page * page, auto touch) __attribute__((always_inline)) {
        const GlobalAddr at = kmap(page);
        touch(at);
        kunmap(page);
    };
    meter.mapping("kmap.hot", [=](u32, auto touch) { pair(pages[0], touch); });            // a hit
    meter.mapping("kmap.cycle64", [=](u32 i, auto touch) { pair(pages[i % 64], touch); }); // a hit
    meter.mapping("kmap.wrap", [=](u32 i, auto touch) { pair(pages[i], touch); });         // a miss

    meter.mapping("vmap16", [=](u32, auto touch) {
        const Result<VirtAddr> at = vmap(pages, kVmapPages, VmapProt::rw);
        LOFT_ASSERT(at);
        touch(*at);
        vunmap(*at);
    });
}

void measure_allocator(Meter& meter, Page** pages) {
    meter.measure("page_alloc.high", [](u32) { free_page(alloc_page(Gfp::high)); });
    meter.measure("page_alloc.low", [](u32) { free_page(alloc_page(Gfp::kernel)); });
    // So many at once that the CPU's list runs empty and full.
    const auto many = [=](Gfp gfp) {
        take_all(gfp, pages);
        free_all(pages);
    };
    meter.measure<kPages>("page_alloc.high.many", [=](u32) { many(Gfp::high); });
    meter.measure<kPages>("page_alloc.low.many", [=](u32) { many(Gfp::kernel); });
}

void measure_helpers(Meter& meter, Page* const* pages) {
    meter.measure("clear_highpage", [=](u32 i) { clear_highpage(pages[i]); }); // a miss
    meter.measure("clear_highpage.same", [=](u32) { clear_highpage(pages[0]); });
    meter.measure("copy_highpage", [=](u32 i) { copy_highpage(pages[i], pages[i ^ 1]); }); // two misses
    meter.measure("copy_highpage.same", [=](u32) { copy_highpage(pages[0], pages[1]); });
}

void measure_mappings(Meter& meter, Page* const* pages) {
    measure_local(meter, pages);
    measure_tables(meter, pages);
    measure_global(meter, pages);
    measure_helpers(meter, pages);
}

} // namespace

bool measure_paths(Meter& meter) {
    const bool wanted = meter.wants([&] {
        measure_allocator(meter, nullptr);
        measure_mappings(meter, nullptr);
    });
    if (!wanted) return true;
    // From here on no allocation fails: each zone has twice the pages needed.
    if (zone_info(ZoneId::normal).free < 2 * kPages) return false;
    Page* const table = alloc_pages(Gfp::kernel, kTableOrder);
    if (table == nullptr) return false;
    Page** const pages = hal::lowmem_ptr<Page*>(direct_addr(page_to_pfn(table)));

    measure_allocator(meter, pages);
    take_all(Gfp::high, pages);
    if (!is_highmem(pages[0])) log(LogLevel::notice, "bench", "there is no high memory: the pages are of lowmem");
    measure_mappings(meter, pages);
    free_all(pages);
    free_pages(table, kTableOrder);
    return true;
}

} // namespace loft::bench
