// Helpers built on the mappings. Contract: highmem.hpp.
#include "mm/windows/highmem.hpp"

namespace loft {
namespace {

void check_range(const char* what, u32 offset, u32 bytes) {
    if (offset > kPageSize || bytes > kPageSize - offset)
        panic("{}: {} bytes from offset {} do not lie in one page", what, bytes, offset);
}

} // namespace

void memcpy_to_page(Page* page, u32 offset, const void* from, u32 bytes) {
    check_range("memcpy_to_page", offset, bytes);
    LocalMap map{page};
    hal::copy_out(map.addr() + offset, from, bytes);
}

void memcpy_from_page(void* to, Page* page, u32 offset, u32 bytes) {
    check_range("memcpy_from_page", offset, bytes);
    LocalMap map{page};
    hal::copy_in(to, map.addr() + offset, bytes);
}

void memset_page(Page* page, u32 offset, u8 value, u32 bytes) {
    check_range("memset_page", offset, bytes);
    LocalMap map{page};
    hal::fill(map.addr() + offset, value, bytes);
}

void zero_user(Page* page, u32 start, u32 end) {
    if (start > end || end > kPageSize) panic("zero_user: [{}, {}) is no range of a page", start, end);
    memset_page(page, start, 0, end - start);
}

bool page_address(const Page* page, VirtAddr& out) {
    const Pfn pfn = page_to_pfn(page);
    if (is_highmem(pfn)) return pkmap_address(page, out);
    out = direct_addr(pfn);
    return true;
}

Page* kmap_to_page(VirtAddr va) {
    Pfn pfn;
    if (in_direct_map(va)) {
        pfn = direct_phys(va).pfn();
        return pfn_valid(pfn) ? pfn_to_page(pfn) : nullptr;
    }
    if (local_to_pfn(va, pfn) || pkmap_to_pfn(va, pfn)) return pfn_to_page(pfn);
    return nullptr;
}

} // namespace loft
