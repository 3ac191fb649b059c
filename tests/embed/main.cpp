// What a kernel does with mm when it has a HAL: starts it, takes frames of high memory, and looks at them through each
// kind of mapping.
#include "arch/base/panic.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/init.hpp"
#include "mm/spaces/user_copy.hpp"
#include "mm/windows/highmem.hpp"
#include "mm/windows/vmap.hpp"
#include "tests/embed/machine.hpp"

#include <array>
#include <cstdio>
#include <cstring>

using namespace loft;

namespace {

void check(bool so, const char* what) {
    if (!so) panic("this is not so: {}", what);
}

// RAM holds anything, and the firmware says where it is. The image of this kernel is no part of it; one that is stands
// in `reserved`, `text`, `rodata` and `data`.
void start_mm() {
    std::memset(embed::memory, 0xa5, sizeof embed::memory);
    static constexpr FirmwareRange kMap[] = {{0, embed::kLowBytes, FirmwareRange::kUsable},
                                             {embed::kHighBegin, embed::kHighBytes, FirmwareRange::kUsable}};
    static std::array<FrameRange, std::size(kMap)> ranges;
    static std::array<MapBorder, 2 * std::size(kMap)> borders;
    BootInfo info;
    info.firmware = kMap;
    info.room = {ranges, borders};
    mm_init(info);
    hal::irq_restore(hal::kIrqsOn);
}

Page* page_with(u32 word) {
    Page* const page = alloc_page(Gfp::high);
    check(page != nullptr && page_to_pfn(page).phys() >= PhysAddr{embed::kHighBegin}, "a frame above 4 GiB");
    memcpy_to_page(page, 0, &word, sizeof word);
    return page;
}

void kmap_local() {
    Page *const first = page_with(1), *const second = page_with(2);
    {
        const LocalMap a{first}, b{second};
        check(hal::load<u32>(a.addr()) == 1 && hal::load<u32>(b.addr()) == 2, "each mapping shows its page");
        hal::store(a.addr() + 4, 17u);
    }
    {
        const LocalMap again{second};
        check(hal::load<u32>(again.addr()) == 2, "the slot that has shown the first page shows the second");
    }
    u32 word = 0;
    memcpy_from_page(&word, first, 4, sizeof word);
    check(word == 17, "what was written through a mapping is in the frame");
    free_page(first);
    free_page(second);
}

void kmap_pool() {
    Page* const page = page_with(3);
    const VirtAddr where = kmap(page);
    check(hal::load<u32>(where) == 3 && where == kmap(page), "each mapping of a page has the same address");
    kunmap(page);
    kunmap(page);
    free_page(page);
    // Three times round the pool: each address shows one page after the other.
    static std::array<Page*, 3 * layout::kPkmapSlots> pages;
    for (u32 i = 0; i != pages.size(); ++i) {
        pages[i] = page_with(i);
        const KMap map{pages[i]};
        check(hal::load<u32>(map.addr()) == i, "an address that comes again shows the new page");
    }
    check(pkmap_stats().wraps >= 2, "the pool has come round");
    for (Page* each : pages)
        free_page(each);
}

void vmap_areas() {
    std::array<Page*, 4> pages;
    for (u32 i = 0; i != pages.size(); ++i)
        pages[i] = page_with(i);
    const Result<VirtAddr> area = vmap(pages.data(), pages.size(), VmapProt::ro);
    check(bool{area}, "there are addresses for four pages");
    for (u32 i = 0; i != pages.size(); ++i)
        check(hal::load<u32>(*area + i * kPageSize) == i, "the pages lie one behind the other");
    check(embed::look(*area, true) == nullptr, "writing to a page that may only be read faults");
    check(embed::look(*area + pages.size() * kPageSize, false) == nullptr, "so does the page behind the area");
    hal::load<u32>(*area); // the fault has made the CPU forget this page
    vunmap(*area);
    // With DEBUG=1 nothing is put off.
    check(config::kDebug || embed::look(*area, false) != nullptr, "the CPU remembers what vunmap has taken away");
    vmap_flush();
    check(embed::look(*area, false) == nullptr, "until the debt is paid");
    for (Page* page : pages)
        free_page(page);
}

// This CPU runs a program from now on, or none.
void run(AddressSpace* space) {
    IrqGuard guard;
    space_switch(space);
}

void programs() {
    constexpr VirtAddr kPage{0x10'0000u};
    constexpr UserAddr kWord{kPage.value()}, kNowhere{kPage.value() + kPageSize};
    std::array<AddressSpace*, 2> spaces;
    for (u32 i = 0; i != spaces.size(); ++i) {
        spaces[i] = AddressSpace::create();
        check(spaces[i] != nullptr, "there is memory for a program");
        check(bool{spaces[i]->map(kPage, kPageSize, Prot::read | Prot::write, MapKind::anonymous, true)}, "and a page");
        run(spaces[i]);
        check(bool{put_user(kWord, i)}, "the kernel copies to it, and the page appears");
    }
    const u32 high = config::kHighPte ? spaces.size() * kPageSize / KiB : 0;
    check(meminfo().page_tables_high == high, "the page tables are in high memory, if they may");
    for (u32 i = 0; i != spaces.size(); ++i) {
        run(spaces[i]);
        check(get_user<u32>(kWord).value_or(~0u) == i, "each program has its own page at the same address");
        check(!get_user<u32>(kNowhere), "where it has none, a copy ends");
        check(spaces[i]->unmap(kPage, kPageSize) && embed::user(kPage, false) == nullptr, "what is unmapped is gone");
    }
    run(nullptr);
    for (AddressSpace* space : spaces)
        space->put();
}

} // namespace

int main() {
    constexpr struct {
        const char* name;
        void (*run)();
    } kParts[] = {{"kmap_local", kmap_local}, {"kmap", kmap_pool}, {"vmap", vmap_areas}, {"programs", programs}};
    start_mm();
    for (const auto& part : kParts) {
        const u32 free = meminfo().high_free;
        part.run();
        check(meminfo().high_free == free, "every frame has come back");
        std::printf("ok %s\n", part.name);
    }
}
