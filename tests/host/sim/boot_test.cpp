// The state of the machine when boot calls the kernel.
#include "tests/host/sim/fixture.hpp"

using namespace loft;
using namespace loft::sim;

TEST_CASE("boot's tables show all of lowmem, the identity, and a place for fixmap", "[sim]") {
    Machine m;
    m.make_boot_info();
    sign(0x100);
    CHECK(read(VirtAddr{0xc010'0000u}) == signature(0x100));
    CHECK(read(VirtAddr{0x10'0000u}) == signature(0x100));
    CHECK_NOTHROW(write(VirtAddr{0xf7ff'f000u}));
    REQUIRE_THROWS_AS(read(VirtAddr{0xf800'0000u}), PageFault);
    REQUIRE_THROWS_AS(read(VirtAddr{0x100'0000u}), PageFault);

    hal::PteCell* table = m.boot_last_table();
    constexpr VirtAddr slot{0xffff'e000u};
    REQUIRE_THROWS_AS(read(slot), PageFault);
    hal::pte_set(table + paging::pte_index(slot), Pte{Pfn{0x100u}, kRw});
    CHECK(read(slot) == signature(0x100));
    CHECK(hal::current_root().value() == m.boot_root());
}

TEST_CASE("the kernel's image lies in usable memory and is reserved", "[sim]") {
    Machine m{{.ram = 32 * MiB}};
    const BootInfo info = m.make_boot_info();
    CHECK(info.text.begin.value() == 0xc010'0000);
    CHECK(info.text.end == info.rodata.begin);
    CHECK(info.rodata.end == info.data.begin);
    REQUIRE(info.reserved.size() == 1);
    CHECK(info.reserved[0].end.value() == info.data.end.value() - 0xc000'0000);
    for (const VirtAddr guard : info.guard_pages) {
        CHECK(guard >= info.data.begin);
        CHECK(guard < info.data.end);
    }
    const VirtAddr tables = hal::lowmem_addr(m.boot_last_table());
    CHECK(tables >= info.data.begin);
    CHECK(tables < info.data.end);
}

TEST_CASE("the firmware's map is that of a PC, or the test's own", "[sim]") {
    {
        Machine m{{.ram = 8 * GiB}};
        const BootInfo info = m.make_boot_info();
        const auto& high = info.firmware.back();
        CHECK(high.base == 4 * GiB);
        CHECK(high.length == 5 * GiB);
        CHECK(m.usable_bytes() == 8 * GiB - MiB - 0x2'0000 + 0x9'fc00);
    }
    Machine m{
        {.firmware = {{5, 0, 1}, {0, 16 * MiB, 1}}, .modules = {{PhysAddr{u64{4096}}, PhysAddr{u64{8192}}, "m"}}}};
    const BootInfo info = m.make_boot_info();
    CHECK(info.firmware.size() == 2);
    CHECK(info.reserved.size() == 2);
}
