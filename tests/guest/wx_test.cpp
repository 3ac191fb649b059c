// No page is both writable and executable, and no page is mapped that should not be: a walk over every present entry,
// with the tests' own walker.
#include "arch/i386/cpu/image.hpp"
#include "arch/i386/isa/control.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/page_walk.hpp"
#include "tests/guest/support.hpp"
#include "tests/guest/walker.hpp"

namespace loft::guest::wx_test {
namespace {

bool within(u32 va, const char* begin, const char* end) {
    return va >= image_addr(begin).value() && va < image_addr(end).value();
}

u32 pages_between(const char* begin, const char* end) { return static_cast<u32>(end - begin) / kPageSize; }

} // namespace

SELFTEST(wx, no_page_is_writable_and_executable) {
    const bool nx = hal::cpu_features().no_execute;
    u32 entries = 0, both = 0, user = 0, low_half = 0;
    const u32 unread = for_each_mapping([&](const Mapping& m) {
        ++entries;
        if (m.writable && m.executable && both++ == 0 && nx)
            selftest::note("{:08x} ({} KiB) is writable and executable", m.va, m.bytes / KiB);
        user += m.user;
        low_half += m.va < 0xc000'0000u;
    });
    CHECK_EQ(unread, 0u);
    CHECK_GT(entries, 256u);
    if (nx) CHECK_EQ(both, 0u);
    CHECK_EQ(user, 0u);
    CHECK_EQ(low_half, 0u); // the identity mapping of boot does not exist any more
    if (!nx) selftest::note("this kernel or CPU cannot forbid execution");
}

SELFTEST(wx, image_parts_have_their_rights) {
    const bool nx = hal::cpu_features().no_execute;
    u32 wrong = 0, text = 0, rodata = 0, data = 0;
    for_each_mapping([&](const Mapping& m) {
        bool right = true;
        if (within(m.va, __text_begin, __text_end)) {
            right = !m.writable && m.executable;
            ++text;
        } else if (within(m.va, __rodata_begin, __rodata_end)) {
            right = !m.writable && !(nx && m.executable);
            ++rodata;
        } else if (within(m.va, __data_begin, __data_end)) {
            right = m.writable && !(nx && m.executable);
            ++data;
        } else {
            right = !(nx && m.executable); // only text is executable
        }
        if (!right && wrong++ == 0)
            selftest::note("{:08x}: {}{}", m.va, m.writable ? "writable " : "", m.executable ? "executable" : "");
    });
    CHECK_EQ(wrong, 0u);
    CHECK_EQ(text, pages_between(__text_begin, __text_end));
    CHECK_EQ(rodata, pages_between(__rodata_begin, __rodata_end));
    CHECK_EQ(data, pages_between(__data_begin, __data_end) - 2); // the stack guards
}

// The CPU enforces the rights of the tables.
SELFTEST(wx, rights_are_enforced) {
    CHECK((read_cr0() & (1u << 16)) != 0); // WP: ring 0 obeys R/W, too (SDM vol. 3, 4.6)
    CHECK((read_cr0() & (1u << 31)) != 0);
    const VirtAddr text = image_addr(reinterpret_cast<const void*>(&alloc_page));
    u32 word = 0;
    CHECK(probe_read32(text, word));
    CHECK(!probe_write32(text, word));
    static const u32 constant = 5;
    CHECK(!probe_write32(image_addr(&constant), 6));
    CHECK_EQ(hal::load<u32>(image_addr(&constant)), 5u);
    static u8 code[4] = {0xc3, 0xc3, 0xc3, 0xc3}; // ret
    CHECK_EQ(probe_exec(image_addr(code)), !hal::cpu_features().no_execute);
    const u32 on_stack = 0xc3c3'c3c3u;
    CHECK_EQ(probe_exec(image_addr(&on_stack)), !hal::cpu_features().no_execute);
}

SELFTEST(wx, pages_that_are_never_mapped) {
    for (const u32 va : {0u, 0x1000u, 0x10'0000u, 0x40'0000u, 0xbfff'f000u, 0xffff'f000u})
        CHECK(!walk_naively(va).present());
    CHECK(!walk_naively(image_addr(__boot_stack_guard).value()).present());
    CHECK(!walk_naively(image_addr(__df_stack_guard).value()).present());
    CHECK(!walk_naively(layout::direct_map_end().value()).present());
    if constexpr (config::kHighMem) CHECK(!walk_naively(layout::pkmap_addr(0).value()).present());
}

// While mappings of each kind are held.
SELFTEST(wx, mappings_in_use_obey) {
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    constexpr u8 kReturn = 0xc3;
    memset_page(pages[0], 0, kReturn, kPageSize);
    const LocalMap local{pages[0]};
    const KMap pool{pages[1]};
    const bool nx = hal::cpu_features().no_execute;
    u32 both = 0, user = 0;
    for_each_mapping([&](const Mapping& m) {
        both += m.writable && m.executable;
        user += m.user;
    });
    if (nx) CHECK_EQ(both, 0u);
    CHECK_EQ(user, 0u);
    CHECK_EQ(probe_exec(local.addr() + 64), !nx);
    CHECK(walk_naively(pool.addr().value()).present());
}

// The kernel's walker and the tests' walker agree, on entries of all kinds and on holes.
SELFTEST(wx, walkers_agree) {
    const KeepsFreeCounts counts;
    const Pages<2> pages;
    REQUIRE(pages.complete());
    const LocalMap local{pages[0]};
    const KMap pool{pages[1]};
    u32 differ = 0, present = 0;
    const auto compare = [&](u32 va) {
        const Walk walk = page_walk(hal::current_root(), VirtAddr{va});
        const Mapping m = walk_naively(va);
        bool same = walk.present == m.present();
        if (same && walk.present) {
            ++present;
            same = walk.pfn.phys().value() == m.phys + ((va & kPageMask) - m.va) &&
                   walk.large == (m.bytes != kPageSize) && walk.flags.has(pte::write) == m.writable &&
                   walk.flags.has(pte::global) == m.global &&
                   (!hal::cpu_features().no_execute || walk.flags.has(pte::no_execute) != m.executable);
        }
        if (!same && differ++ == 0) selftest::note("the walkers disagree about {:08x}", va);
    };
    for (const u32 va : {0u, 0xbfff'ffffu, 0xc000'0000u, 0xc010'0000u, 0xffff'efffu, 0xffff'f000u, 0xffff'ffffu})
        compare(va);
    compare(local.addr().value());
    compare(pool.addr().value());
    for (u32 i = 0; i < 20'000; ++i)
        compare(selftest::rng().next());
    for (u32 i = 0; i < 5'000; ++i)
        compare(0xc000'0000u + selftest::rng().below(0x4000'0000u));
    CHECK_EQ(differ, 0u);
    CHECK_GT(present, 100u);
    CHECK_EQ(hal::current_root().value(), kernel_root().value());
}

// Bug 9: a PDPTE that changes without a CR3 load. None ever changes: all four are present from boot on, without the
// reserved bits of this level (SDM vol. 3, table 4-8).
SELFTEST(wx, all_pdptes_are_present) {
    if (!config::kPae) SKIP("only PAE has a page-directory-pointer table");
    const VirtAddr pdpt = direct_addr(kernel_root().pfn()) + kernel_root().page_offset();
    CHECK_EQ(kernel_root().value() % 32, 0u);
    CHECK_LT(kernel_root().value(), 4 * GiB);
    for (u32 i = 0; i < 4; ++i) {
        const u32 low = hal::load<u32>(pdpt + i * 8), high = hal::load<u32>(pdpt + i * 8 + 4);
        CHECK_EQ(low & 0x1c6, 0u); // reserved: 1, 2, 6 to 8 (and 5, which QEMU sets at an access)
        CHECK_EQ(low & 1, 1u);
        CHECK_EQ(high >> 4, 0u);
    }
}

} // namespace loft::guest::wx_test
