// fixmap: fixed addresses with changing frames, and the window through which boot reads physical memory.
#include "mm/windows/fixmap.hpp"
#include "tests/host/booted.hpp"
#include "tests/host/oracle.hpp"

using namespace loft;
using namespace loft::test;
using layout::Fix;

namespace {

u32 frames_mapped() {
    u32 count = 0;
    for (u32 i = 0; i < static_cast<u32>(Fix::count); ++i)
        count += oracle_walk(kernel_root().value(), layout::fix_addr(static_cast<Fix>(i)).value()).has_value();
    return count;
}

} // namespace

TEST_CASE("fixmap: a slot shows the frame it was given, at its address", "[fixmap]") {
    Booted kernel;
    const auto pages = stamped(2);
    const VirtAddr lapic = fixmap_set(Fix::lapic, page_to_pfn(pages[0]), kernel_prot.data);
    const VirtAddr ioapic = fixmap_set(Fix::ioapic, page_to_pfn(pages[1]), kernel_prot.device);
    CHECK(lapic == layout::fix_addr(Fix::lapic));
    CHECK(lapic != ioapic);
    CHECK(shows(lapic, pages[0]));
    CHECK(shows(ioapic, pages[1]));
    CHECK(oracle_walk(kernel_root().value(), ioapic.value())->uncached);
}

TEST_CASE("fixmap: a slot that is given another frame shows that one, and nothing stale", "[fixmap]") {
    Booted kernel;
    const auto pages = stamped(3);
    for (Page* page : pages)
        CHECK(shows(fixmap_set(Fix::boot_first, page_to_pfn(page), kernel_prot.data), page));
    CHECK_FALSE(kernel.machine.stale(layout::fix_addr(Fix::boot_first)));
}

TEST_CASE("fixmap: a cleared slot faults, and its next frame is the one that is seen", "[fixmap]") {
    Booted kernel;
    const auto pages = stamped(2);
    const VirtAddr va = fixmap_set(Fix::boot_last, page_to_pfn(pages[0]), kernel_prot.data);
    CHECK(shows(va, pages[0]));
    fixmap_clear(Fix::boot_last);
    CHECK_THROWS_AS(hal::load<u32>(va), sim::PageFault);
    CHECK(shows(fixmap_set(Fix::boot_last, page_to_pfn(pages[1]), kernel_prot.data), pages[1]));
}

TEST_CASE("fixmap: the first use of a slot costs no flush, a change costs one", "[fixmap]") {
    Booted kernel;
    const auto pages = stamped(2);
    sim::Counters& counters = kernel.machine.counters(CpuId{0});
    counters = {};
    (void)fixmap_set(Fix::lapic, page_to_pfn(pages[0]), kernel_prot.data);
    CHECK(counters.invlpg == 0);
    (void)fixmap_set(Fix::lapic, page_to_pfn(pages[1]), kernel_prot.data);
    CHECK(counters.invlpg == 1);
    fixmap_clear(Fix::lapic);
    CHECK(counters.invlpg == 2);
}

TEST_CASE("fixmap: registers of devices get slots of their own, uncached, in order of address", "[fixmap]") {
    Booted kernel;
    sim::Counters& counters = kernel.machine.counters(CpuId{0});
    counters = {};
    const PhysAddr far{config::kPae ? 5 * GiB : 3 * GiB};
    const Result<VirtAddr> two = fixmap_device(far + 0xffc, 8), one = fixmap_device(far + 0x2010, 16);
    REQUIRE((two && one));
    CHECK(two->page_offset() == 0xffc);
    CHECK(one->page_offset() == 0x10);
    const auto shown = [](VirtAddr va) { return oracle_walk(kernel_root().value(), va.value()); };
    REQUIRE((shown(*two) && shown(*two + 4) && shown(*one)));
    CHECK(shown(*two)->phys == far.value());
    CHECK(shown(*two + 4)->phys == far.value() + 0x1000);
    CHECK(shown(*one)->phys == far.value() + 0x2000);
    CHECK((shown(*two)->uncached && shown(*two + 4)->uncached && shown(*one)->uncached));
    CHECK(frames_mapped() == 3);
    CHECK(counters.invlpg == 0);
    // The rest of the forty slots, and nothing behind.
    CHECK(fixmap_device(far, 41 * kPageSize).error() == Error::no_space);
    CHECK(fixmap_device(far, 38 * kPageSize).error() == Error::no_space);
    CHECK(fixmap_device(far, 37 * kPageSize));
    CHECK(fixmap_device(far, 1).error() == Error::no_space);
    CHECK(frames_mapped() == 40);
}

TEST_CASE("fixmap: registers that cannot be mapped are refused", "[fixmap]") {
    Booted kernel;
    CHECK(fixmap_device(PhysAddr{GiB}, 0).error() == Error::invalid);
    const u64 reach = config::kPae ? u64{1} << hal::cpu_features().phys_bits : 4 * GiB;
    CHECK(fixmap_device(PhysAddr{reach - 4}, 4));
    CHECK(fixmap_device(PhysAddr{reach - 4}, 5).error() == Error::out_of_reach);
    CHECK(fixmap_device(PhysAddr{reach}, 1).error() == Error::out_of_reach);
    CHECK(fixmap_device(PhysAddr{~u64{0}}, 1).error() == Error::out_of_reach);
    CHECK(frames_mapped() == 1);
}

TEST_CASE("fixmap: works before there are page tables of the kernel's own", "[fixmap]") {
    sim::Machine machine{{.cpus = 1, .ram = 64 * MiB}};
    (void)machine.make_boot_info();
    pagetable_early(machine.boot_last_table());
    sim::poke(PhysAddr{u64{0x300'0000}}, 0x1234'5678u);
    const VirtAddr va = fixmap_set(Fix::ioapic, Pfn{0x3000u}, kernel_prot.data);
    CHECK(hal::load<u32>(va) == 0x1234'5678);
    fixmap_clear(Fix::ioapic);
    CHECK_THROWS_AS(hal::load<u32>(va), sim::PageFault);
}

TEST_CASE("BootWindow: shows any physical memory, byte for byte, up to 64 KiB", "[fixmap]") {
    Setup setup;
    setup.machine.cpus = 1;
    setup.machine.ram = config::kPae ? 6 * GiB : 3 * GiB;
    Booted kernel{setup};
    const u64 far = (config::kPae ? 5 * GiB : config::kHighMem ? 2 * GiB : u64{500 * MiB}) + 0x123'4ffc;
    for (u32 i = 0; i < 20 * kPageSize; i += 4)
        sim::poke(PhysAddr{far + i}, 0xabcd'0000 + i);

    for (const u32 bytes : {4u, 5u, kPageSize, 3 * kPageSize}) {
        BootWindow window{PhysAddr{far}, bytes};
        REQUIRE(window.bytes() == bytes);
        CHECK(window.at().page_offset() == 0xffc);
        for (u32 i = 0; i + 4 <= bytes; i += 4)
            REQUIRE(hal::load<u32>(window.at() + i) == 0xabcd'0000 + i);
    }
    CHECK(frames_mapped() == 0);
    // Then another address, through the same slots.
    BootWindow window{PhysAddr{far + 2 * kPageSize}, 4};
    CHECK(hal::load<u32>(window.at()) == 0xabcd'0000 + 2 * kPageSize);
}

TEST_CASE("BootWindow: a longer request is cut at 16 pages", "[fixmap]") {
    Booted kernel{small(1)};
    const u32 offset = 0x10;
    const PhysAddr at{u64{0x100'0000 + offset}};
    BootWindow window{at, MiB};
    CHECK(window.bytes() == BootWindow::kPages * kPageSize - offset);
    CHECK(frames_mapped() == BootWindow::kPages);
    CHECK(oracle_walk(kernel_root().value(), window.at().value())->phys == 0x100'0000);
    CHECK(oracle_walk(kernel_root().value(), window.at().value() + window.bytes() - 1)->phys == 0x100'f000);
}

// HIGHMEM=off uses no memory above lowmem, but the firmware's tables may lie there.
TEST_CASE("BootWindow: shows frames that are no memory to this configuration", "[fixmap]") {
    Setup setup = small(1);
    setup.machine.ram = 3 * GiB;
    Booted kernel{setup};
    const PhysAddr at{3 * GiB - 0x2000 + 0x10};
    sim::poke(at, 0x5253'4454u);
    BootWindow window{at, 0x100};
    CHECK(window.bytes() == 0x100);
    CHECK(hal::load<u32>(window.at()) == 0x5253'4454u);
}

TEST_CASE("BootWindow: nothing is visible beyond what an entry reaches", "[fixmap]") {
    Booted kernel{small(1)};
    const u64 reach = config::kPae ? 64 * GiB : 4 * GiB;
    SECTION("a window that begins there") {
        BootWindow window{PhysAddr{reach}, 16};
        CHECK(window.bytes() == 0);
        CHECK(window.at() == VirtAddr{});
        CHECK(frames_mapped() == 0);
    }
    SECTION("far behind it") {
        BootWindow window{PhysAddr{~u64{0} - 0xfff}, 16};
        CHECK(window.bytes() == 0);
        CHECK(frames_mapped() == 0);
    }
    SECTION("a window that crosses it") {
        BootWindow window{PhysAddr{reach - 0x10}, 0x20};
        CHECK(window.bytes() == 0x10);
        CHECK(frames_mapped() == 1);
    }
    SECTION("one that ends there") {
        BootWindow window{PhysAddr{reach - 2 * kPageSize}, 2 * kPageSize};
        CHECK(window.bytes() == 2 * kPageSize);
        CHECK(frames_mapped() == 2);
    }
}

TEST_CASE("BootWindow: an empty one maps nothing that it does not take away", "[fixmap]") {
    Booted kernel{small(1)};
    {
        BootWindow window{PhysAddr{u64{0x100'0000}}, 0};
        CHECK(window.bytes() == 0);
        CHECK(frames_mapped() == 0);
    }
    {
        BootWindow window{PhysAddr{u64{0x100'0800}}, 0};
        CHECK(window.bytes() == 0);
    }
    CHECK(frames_mapped() == 0);
}
