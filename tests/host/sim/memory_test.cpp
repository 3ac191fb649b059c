// hal/mem on the simulated machine: the addresses that an access may reach.
#include "tests/host/sim/fixture.hpp"

using namespace loft;
using namespace loft::sim;

TEST_CASE("RAM is junk until somebody writes it, for each machine anew", "[sim]") {
    u64 before;
    {
        Machine m;
        before = peek<u64>(PhysAddr{u64{64 * MiB}});
        CHECK(before != 0);
        poke<u64>(PhysAddr{u64{64 * MiB}}, 1);
        CHECK(peek<u64>(PhysAddr{u64{64 * MiB}}) == 1);
    }
    Machine m;
    CHECK(peek<u64>(PhysAddr{u64{64 * MiB}}) == before);
}

TEST_CASE("an access outside RAM, or misaligned, is an error", "[sim]") {
    Rig r{{.ram = 64 * MiB}};
    r.t.map(kVa, 64 * MiB / kPageSize);
    REQUIRE_THROWS_AS(read(), BadAccess);
    r.t.map(kVa + kPageSize, kFrameA);
    REQUIRE_THROWS_AS(hal::load<u32>(kVa + kPageSize + 2), BadAccess);
    REQUIRE_THROWS_AS(hal::load<u16>(kVa + kPageSize + 1), BadAccess);
    CHECK_NOTHROW(hal::load<u8>(kVa + kPageSize + 1));
    REQUIRE_THROWS_AS(hal::zero_words(kVa + kPageSize + 2, 4), BadAccess);
}

TEST_CASE("a page table outside RAM is an error", "[sim]") {
    Rig r{{.ram = 64 * MiB}};
    constexpr VirtAddr va{0xd000'0000u};
    hal::pte_set(r.t.directory(va), Pte{Pfn{64 * MiB / kPageSize}, kRw});
    REQUIRE_THROWS_AS(read(va), BadAccess);
}

TEST_CASE("RAM ends where the firmware's does, above 4 GiB too", "[sim]") {
    if constexpr (config::kPae) {
        Rig r{{.ram = 8 * GiB}}; // 3 GiB and, from 4 GiB on, 5 GiB
        r.t.map(kVa, 0x24'0000 - 1);
        CHECK_NOTHROW(read());
        r.t.map(kVa + kPageSize, 0x24'0000);
        REQUIRE_THROWS_AS(read(kVa + kPageSize), BadAccess);
        r.t.map(kVa + 2 * kPageSize, 0xc'0000);
        REQUIRE_THROWS_AS(read(kVa + 2 * kPageSize), BadAccess);
    }
}

TEST_CASE("a frame given back is nobody's", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA);
    hal::note_frame_free(Pfn{kFrameA}, 0); // as at boot: a frame may be freed that was never allocated
    CHECK_NOTHROW(read());
    hal::note_frame_used(Pfn{kFrameA - 1}, 1);
    CHECK_NOTHROW(write());
    hal::note_frame_free(Pfn{kFrameA}, 0);
    REQUIRE_THROWS_AS(read(), ReleasedAccess);
    REQUIRE_THROWS_AS(write(), ReleasedAccess);
    hal::note_frame_used(Pfn{kFrameA}, 0);
    CHECK_NOTHROW(read());
    // A page table in a frame that was freed.
    const u32 frame = r.t.fresh();
    hal::note_frame_used(Pfn{frame}, 0);
    hal::note_frame_free(Pfn{frame}, 0);
    REQUIRE_THROWS_AS(hal::pte_read(Handmade::cell_in(frame, 0)), ReleasedAccess);
}

TEST_CASE("long accesses cross pages that lie apart", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrameA);
    r.t.map(kVa + kPageSize, kFrameB + 5);
    r.t.map(kVa + 2 * kPageSize, kFrameB + 3);
    std::vector<u8> out(2 * kPageSize), in(out.size());
    for (u32 i = 0; i < out.size(); ++i)
        out[i] = static_cast<u8>(i * 7);
    hal::copy_out(kVa + 100, out.data(), static_cast<u32>(out.size()));
    hal::copy_in(in.data(), kVa + 100, static_cast<u32>(in.size()));
    CHECK(in == out);
    CHECK(peek<u8>(Pfn{kFrameB + 5}.phys()) == out[kPageSize - 100]);
    hal::fill(kVa + 4090, 0x5a, 12);
    CHECK(peek<u8>(Pfn{kFrameA}.phys() + 4095) == 0x5a);
    CHECK(peek<u8>(Pfn{kFrameB + 5}.phys() + 5) == 0x5a);
    CHECK(peek<u8>(Pfn{kFrameB + 5}.phys() + 6) != 0x5a);
    hal::copy_words(kVa + 2 * kPageSize, kVa, kPageSize);
    CHECK(std::memcmp(ram_at(Pfn{kFrameB + 3}.phys().value()), ram_at(Pfn{kFrameA}.phys().value()), kPageSize) == 0);
    hal::zero_words(kVa + 2 * kPageSize, kPageSize);
    CHECK(peek<u32>(Pfn{kFrameB + 3}.phys() + 4092) == 0);
    REQUIRE_THROWS_AS(hal::zero_words(kVa + 2 * kPageSize, 2 * kPageSize), PageFault);
}

TEST_CASE("objects of the direct map", "[sim]") {
    Machine m;
    constexpr VirtAddr va{0xc100'0000u};
    u32* object = hal::lowmem_ptr<u32>(va);
    *object = 77;
    CHECK(peek<u32>(PhysAddr{u64{16 * MiB}}) == 77);
    CHECK(hal::lowmem_addr(object) == va);
    REQUIRE_THROWS_AS(hal::lowmem_ptr<u32>(VirtAddr{0xbfff'f000u}), BadAccess);
    REQUIRE_THROWS_AS(hal::lowmem_ptr<u32>(VirtAddr{0xf800'0000u}), BadAccess);
    u32 mine = 0;
    REQUIRE_THROWS_AS(hal::lowmem_addr(&mine), BadAccess);
    alignas(8) unsigned char not_ram[8] = {};
    REQUIRE_THROWS_AS(hal::pte_read(reinterpret_cast<hal::PteCell*>(not_ram)), BadAccess);
}

TEST_CASE("an entry seen through a mapping is reached through the TLB", "[sim]") {
    Rig r;
    const u32 table = r.t.fresh();
    r.t.map(kVa, table);
    auto* cell = hal::lowmem_ptr<hal::PteCell>(kVa + 8 * sizeof(hal::PteCell));
    CHECK(hal::lowmem_addr(cell) == kVa + 8 * sizeof(hal::PteCell));
    hal::pte_set(cell, Pte{Pfn{kFrameA}, kRw});
    CHECK(hal::pte_read(Handmade::cell_in(table, 8)).pfn().value() == kFrameA);
    hal::pte_clear(r.cell);
    REQUIRE_THROWS_AS(hal::pte_read(cell), StaleAccess);
    hal::invlpg(kVa);
    REQUIRE_THROWS_AS(hal::pte_read(cell), PageFault);
    REQUIRE_THROWS_AS(hal::pte_clear(cell), PageFault);
}
