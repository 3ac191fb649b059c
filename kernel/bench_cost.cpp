// What high memory costs: work that has nothing to do with it, done by kernels that have it and by one that has not.
//
// The pages are where the kernel would take a user's pages from: high memory, or lowmem where a kernel knows no other.
#include "kernel/bench.hpp"
#include "mm/highmem.hpp"
#include "mm/page_alloc.hpp"

namespace loft::bench {
namespace {

constexpr u32 kPages = 8192; // 32 MiB of cached files
constexpr u32 kTableOrder = 3;
static_assert(kPages >= kOperations);
static_assert(kPages * sizeof(Page*) == kPageSize << kTableOrder);

// A number that looks random, and is the same for the i-th operation on every kernel (the finalizer of MurmurHash3).
constexpr u32 scramble(u32 i) {
    i ^= i >> 16;
    i *= 0x85eb'ca6bu;
    i ^= i >> 13;
    i *= 0xc2b2'ae35u;
    return i ^ i >> 16;
}

// A file cache: three times out of four `kBytes` are read from somewhere in it, else written.
template <u32 kBytes> void measure_copies(Meter& meter, std::string_view name, Page* const* pages) {
    static std::byte buffer[kBytes];
    meter.measure(name, [=](u32 i) {
        const u32 random = scramble(i);
        Page* const page = pages[random % kPages];
        const u32 offset = (random >> 16) % (kPageSize / kBytes) * kBytes;
        if (random >> 30 != 0)
            memcpy_from_page(buffer, page, offset, kBytes);
        else
            memcpy_to_page(page, offset, buffer, kBytes);
    });
}

// What a fault on new memory does, after the end of a program that had some: one page after the other goes, a clear one comes.
void measure_new_pages(Meter& meter, Page** pages) {
    meter.measure("cost.new_page", [=](u32 i) {
        Page*& page = pages[i];
        free_page(page);
        page = alloc_page(Gfp::high);
        clear_highpage(page);
    });
}

void measure_work(Meter& meter, Page** pages) {
    measure_copies<64>(meter, "cost.copy64", pages);
    measure_copies<512>(meter, "cost.copy512", pages);
    measure_copies<4096>(meter, "cost.copy4096", pages);
    measure_new_pages(meter, pages);
}

} // namespace

bool measure_cost(Meter& meter) {
    if (!meter.wants([&] { measure_work(meter, nullptr); })) return true;
    // Twice what it takes: no allocation fails from here on.
    if (zone_info(ZoneId::normal).free < 2 * kPages) return false;
    Page* const table = alloc_pages(Gfp::kernel, kTableOrder);
    if (table == nullptr) return false;
    Page** const pages = hal::lowmem_ptr<Page*>(direct_addr(page_to_pfn(table)));
    for (u32 i = 0; i != kPages; ++i)
        pages[i] = alloc_page(Gfp::high);

    measure_work(meter, pages);

    for (u32 i = 0; i != kPages; ++i)
        free_page(pages[i]);
    free_pages(table, kTableOrder);
    return true;
}

} // namespace loft::bench
