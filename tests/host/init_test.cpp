// mm_init on machines of every size, with every option, and with malformed firmware maps.
#include "mm/frames/bootmem.hpp"
#include "mm/init.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/fixmap.hpp"
#include "mm/windows/highmem.hpp"
#include "mm/windows/vmap.hpp"
#include "tests/host/booted.hpp"

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kUsable = FirmwareRange::kUsable;
// The limit of reachable memory, in frames.
constexpr u64 kReach = config::kPae ? u64{1} << 24 : kHigh ? u64{1} << 20 : layout::kMaxLowmem >> kPageShift;

// An independent count: a byte for each frame of 64 GiB and a bit, entry after entry.
class FrameCount {
  public:
    explicit FrameCount(std::span<const FirmwareRange> firmware) : state_(kFrames) {
        for (const FirmwareRange& range : firmware)
            if (range.type == kUsable) mark(range, true);
        for (const FirmwareRange& range : firmware)
            if (range.type != kUsable) mark(range, false);
    }
    u64 usable(u64 from, u64 to) const {
        u64 count = 0;
        for (u64 pfn = from; pfn < std::min(to, kFrames); ++pfn)
            count += state_[pfn] == 1;
        return count;
    }
    static constexpr u64 kFrames = u64{66} << 18;

  private:
    void mark(const FirmwareRange& range, bool usable) {
        if (range.length == 0) return;
        const u64 last = range.base + range.length - 1 < range.base ? ~u64{0} : range.base + range.length - 1;
        // A usable page has to be covered whole, one reserved byte takes it.
        const u64 begin = usable ? (range.base + 0xfff) >> 12 : range.base >> 12;
        const u64 end = usable ? (last >> 12) + ((last & 0xfff) == 0xfff) : (last >> 12) + 1;
        for (u64 pfn = begin; pfn < std::min(end, kFrames); ++pfn)
            state_[pfn] = usable;
    }
    std::vector<u8> state_;
};

// Everything that must hold on any machine on which mm starts.
void check_sums(const Booted& kernel) {
    const FrameCount count{kernel.info.firmware};
    const u64 low_end = layout::lowmem_end().value();
    const MemInfo info = meminfo();
    CHECK(info.mem_total == info.low_total + info.high_total);
    CHECK(info.mem_free == info.low_free + info.high_free);
    CHECK(info.low_free <= info.low_total);
    CHECK(info.high_free <= info.high_total);
    CHECK(info.page_tables == 0);
    CHECK(info.bounce == 0);
    // HighTotal: every usable frame from the end of lowmem to the end of the reach, page for page, less the frames that
    // the boot loader has in use there.
    u64 modules = 0;
    for (const ReservedRange& range : kernel.info.reserved)
        for (u64 pfn = range.begin.value() >> 12; pfn << 12 < range.end.value(); ++pfn)
            modules += pfn >= low_end && count.usable(pfn, pfn + 1) == 1;
    const u64 want = kHigh ? count.usable(low_end, kReach) - modules : 0;
    if (kernel.info.highmem_bytes == BootInfo::kAllHighMem) CHECK(info.high_total == want * 4);
    // LowTotal: less frame 0, the image, and the frames of bootmem.
    CHECK(info.low_total / 4 + bootmem_taken_frames() <= count.usable(1, low_end));
    CHECK(info.low_total / 4 + bootmem_taken_frames() + 0x180 + 64 >= count.usable(1, low_end));
    page_alloc_verify();
    // And it works.
    Page* page = new_page();
    stamp(page);
    const LocalAddr addr = kmap_local_page(page);
    CHECK(shows(addr, page));
    kunmap_local(addr);
    free_page(page);
}

Setup machine(u64 ram) {
    Setup setup;
    setup.machine.cpus = 1;
    setup.machine.ram = ram;
    return setup;
}
Setup with_map(std::vector<FirmwareRange> firmware, u64 ram = 2 * GiB) {
    Setup setup = machine(ram);
    setup.machine.ranges = {{0, ram}};
    setup.machine.firmware = std::move(firmware);
    return setup;
}

} // namespace

TEST_CASE("init: machines of every size, HighTotal page for page", "[init]") {
    for (const u64 ram : {u64{20 * MiB}, u64{32 * MiB}, u64{512 * MiB}, u64{895 * MiB}, u64{896 * MiB}, u64{897 * MiB},
                          GiB, 4 * GiB, 8 * GiB}) {
        INFO("ram " << ram / MiB << " MiB");
        Booted kernel{machine(ram)};
        check_sums(kernel);
        CHECK(layout::boundaries.lowmem_bytes <= layout::kMaxLowmem);
        CHECK(kernel_root() == hal::current_root());
    }
}

TEST_CASE("init: 64 GiB, of which QEMU puts one behind 36 bits", "[init][64G]") {
    Setup setup = machine(64 * GiB);
    Booted kernel{setup};
    check_sums(kernel);
    const u32 beyond = static_cast<u32>(FrameCount{kernel.info.firmware}.usable(kReach, FrameCount::kFrames));
    CHECK(physmap().unreachable_frames == beyond);
    if (config::kPae) CHECK(beyond == 1u << 18);
    CHECK(kernel.machine.logged(sim::text("{} usable pages ignored: beyond what this kernel reaches", beyond)));
    // 8 bytes a frame: the table must leave lowmem usable.
    CHECK(meminfo().low_free >= 740 * KiB);
}

TEST_CASE("init: a processor that takes 32 bits has no memory above 4 GiB", "[init]") {
    if (!config::kPae) return;
    Setup setup = machine(8 * GiB);
    setup.machine.features.phys_bits = 32;
    Booted kernel{setup}; // an entry with more bits would be a fault of the simulated machine
    const FrameCount count{kernel.info.firmware};
    CHECK(physmap().end() <= Pfn{1u << 20});
    CHECK(physmap().frames() == count.usable(0, 1u << 20));
    CHECK(physmap().unreachable_frames == count.usable(1u << 20, FrameCount::kFrames));
    CHECK(BootWindow{PhysAddr{4 * GiB}, 16}.bytes() == 0);
    CHECK(BootWindow{PhysAddr{4 * GiB - 16}, 32}.bytes() == 16);
}

TEST_CASE("init: a map that is unsorted, overlapping, wrapping and full of nonsense", "[init]") {
    Booted kernel{with_map({
        {0x10'0000, 0x1ff0'0000, kUsable},     // 1 MiB - 512 MiB
        {0, 0x9'fc00, kUsable},                //
        {0x4000'0000, 0x1000'0000, kUsable},   // 1 GiB - 1.25 GiB
        {0x3800'0123, 0x400'0456, kUsable},    // crosses 896 MiB in part pages
        {0x1800'0000, 0x1000'0000, kUsable},   // overlaps the first one
        {0x1900'0000, 0x1800, 3},              // ACPI in the middle of it
        {0x5000'0000, 0, kUsable},             //
        {~u64{0} - 0xffff, 0x2'0000, kUsable}, // wraps
        {0x4800'0000, 0x1000, 77},             // an unknown type
        {0x9'fc00, 0x6'0400, 2},               //
        {0xfffc'0000, 0x4'0000, 2},            //
        {u64{1} << 50, u64{1} << 40, kUsable}, // RAM beyond any physical address
    })};
    check_sums(kernel);
    const PhysMap& map = physmap();
    CHECK(map.empty_entries == 1);
    CHECK(map.wrapping_entries == 1);
    CHECK(map.reserved_entries == 4);
    CHECK(map.overlapping_bytes == 0x800'0000 + 0x1000); // the ACPI page lies where two entries overlap anyway
    CHECK(map.partial_bytes > 0);
    CHECK(map.unreachable_frames >= u64{1} << 28);
    for (const char* line : {"1 entries of length zero", "1 entries wrap", "4 entries are not usable",
                             "bytes are in more than one entry", "not whole pages", "beyond what this kernel reaches"})
        CHECK(kernel.machine.logged(line));
    CHECK(kernel.machine.logged("firmware [000000100000-000020000000) type 1"));
    CHECK(kernel.machine.logged("in use   [000000100000-000000280000) kernel"));
}

TEST_CASE("init: what the boot loader has put somewhere is nobody's frame", "[init]") {
    Setup setup = machine(2 * GiB);
    const u64 high = kHigh ? 0x4000'0123 : 0x2000'0123;
    setup.machine.modules = {{PhysAddr{u64{0x80'0000}}, PhysAddr{u64{0x80'1001}}, "module"},
                             {PhysAddr{high}, PhysAddr{high + 0x2000}, "module"}};
    Booted kernel{setup};
    check_sums(kernel);
    std::vector<u32> frames = {0x800, 0x801};
    for (u32 i = 0; i < 3; ++i)
        frames.push_back(static_cast<u32>(high >> kPageShift) + i);
    for (const u32 pfn : frames)
        CHECK(pfn_to_page(Pfn{pfn})->type() == PageType::none);
    // Nor are frame 0 and the image.
    CHECK(pfn_to_page(Pfn{0u})->type() == PageType::none);
    for (u32 pfn = 0x100; pfn < 0x280; ++pfn)
        REQUIRE(pfn_to_page(Pfn{pfn})->type() == PageType::none);
}

TEST_CASE("init: no frame is handed out twice, and none that is not usable memory", "[init]") {
    Booted kernel{with_map({{0, 0x9'fc00, kUsable},
                            {0x10'0000, 0x180'0000, kUsable},
                            {0x200'0000, 0x300'0000, kUsable},
                            {0x400'0000, 0x4000, 2},
                            {0x6000'0000, 0x10'0000, kUsable}})};
    const FrameCount count{kernel.info.firmware};
    std::vector<bool> seen(mem_map_count);
    u32 frames = 0;
    for (const Gfp gfp : {Gfp::high, Gfp::kernel}) {
        while (Page* page = alloc_page(gfp)) {
            const u32 pfn = page_to_pfn(page).value();
            REQUIRE_FALSE(seen[pfn]);
            REQUIRE(count.usable(pfn, pfn + 1) == 1);
            REQUIRE(pfn != 0);
            seen[pfn] = true;
            ++frames;
        }
    }
    const MemInfo info = meminfo();
    CHECK(frames + info.mem_free / 4 <= info.mem_total / 4);
    CHECK(info.mem_free / 4 <= 64); // frames in a per-CPU list that the reserve keeps from this request
}

TEST_CASE("init: highmem= gives exactly that much, page for page", "[init]") {
    ONLY_WITH(kHigh);
    const auto high_total = [](u64 ram, u64 highmem) {
        Setup setup = machine(ram);
        setup.highmem = highmem;
        Booted kernel{setup};
        CHECK(meminfo().mem_total > 0);
        page_alloc_verify();
        return meminfo().high_total;
    };
    CHECK(high_total(512 * MiB, 0) == 0);
    CHECK(high_total(512 * MiB, 100 * MiB) == 100 * KiB);
    CHECK(high_total(512 * MiB, 100 * MiB + kPageSize) == 100 * KiB + 4);
    CHECK(high_total(2 * GiB, 0) == 0);
    CHECK(high_total(2 * GiB, kPageSize) == 4);
    CHECK(high_total(2 * GiB, GiB) == MiB);
    // More than there is: everything above lowmem.
    CHECK(high_total(2 * GiB, 60 * GiB) > 1150 * KiB);
    if (config::kPae) CHECK(high_total(6 * GiB, 3 * GiB) == 3 * MiB); // across the hole below 4 GiB
}

TEST_CASE("init: frames that highmem= leaves out are counted as beyond reach", "[init]") {
    ONLY_WITH(kHigh);
    Setup setup = machine(2 * GiB);
    setup.highmem = 256 * MiB;
    Booted kernel{setup};
    const u64 above = FrameCount{kernel.info.firmware}.usable(layout::lowmem_end().value(), kReach);
    CHECK(physmap().unreachable_frames == above - (256 * MiB >> kPageShift));
}

TEST_CASE("init: without high memory everything above lowmem is left out and counted", "[init]") {
    ONLY_WITH(!kHigh);
    Setup setup = machine(2 * GiB);
    setup.highmem = GiB; // has no effect
    Booted kernel{setup};
    CHECK(meminfo().high_total == 0);
    CHECK(layout::boundaries.lowmem_bytes == layout::kMaxLowmem);
    CHECK(physmap().end() == layout::lowmem_end());
    CHECK(physmap().unreachable_frames ==
          FrameCount{kernel.info.firmware}.usable(layout::lowmem_end().value(), FrameCount::kFrames));
}

TEST_CASE("init: vmalloc= moves the border between lowmem and the rest", "[init]") {
    Setup setup = machine(GiB);
    setup.vmalloc = 300 * MiB;
    Booted kernel{setup};
    check_sums(kernel);
    CHECK(layout::kVmapEnd - layout::boundaries.vmap_begin == 300 * MiB);
    const Result<VirtAddr> area = vmalloc(200 * MiB);
    REQUIRE(area);
    hal::store<u32>(*area + 199 * MiB, 1u);
    vfree(*area);
    vmap_flush();
}

TEST_CASE("init: a vmalloc= that cannot be is said", "[init]") {
    Setup setup = machine(GiB);
    for (const u32 bytes : {u32{MiB}, 300 * MiB + 1, 300 * MiB, 0u}) {
        setup.vmalloc = bytes;
        Booted kernel{setup};
        CHECK(kernel.machine.logged("cannot be: the area has") == (bytes % (300 * MiB) != 0));
    }
}

TEST_CASE("init: the log says whether the accessed bit can be trusted", "[init]") {
    Booted kernel;
    CHECK(kernel.machine.logged("accessed bit") == kHigh);
}

TEST_CASE("init: a CPU that comes later starts with nothing", "[init]") {
    Setup setup = small(3);
    Booted kernel{setup};
    sim::on_cpu(CpuId{2}, [] {
        CHECK(local_depth() == 0);
        CHECK(preemptible());
        const u32 refills = alloc_stats().refills;
        free_page(new_page());
        CHECK(alloc_stats().refills - refills >= 1); // an empty list of its own
    });
}

// --- machines on which loft does not start

TEST_CASE("init: refuses a map without usable memory, and says how many entries there were", "[init][refuse]") {
    REQUIRE_REFUSED((Booted{with_map({{0, GiB, 2}, {GiB, GiB, 3}})}), "has no usable memory (2 entries)");
    REQUIRE_REFUSED((Booted{with_map({{0x10'0000, 0, kUsable}})}), "has no usable memory (1 entries)");
    REQUIRE_REFUSED((Booted{with_map({{0x10'0800, 0x800, kUsable}})}), "has no usable memory");
    REQUIRE_REFUSED((Booted{with_map({{u64{1} << 50, GiB, kUsable}})}), "has no usable memory");
    REQUIRE_REFUSED((Booted{with_map({{0, 4 * GiB, kUsable}, {0, ~u64{0}, 2}})}), "has no usable memory");
}

TEST_CASE("init: refuses a machine with too little lowmem, and says how much it needs", "[init][refuse]") {
    REQUIRE_REFUSED(Booted{machine(8 * MiB)}, "not enough memory");
    REQUIRE_REFUSED(Booted{machine(8 * MiB)}, "12288 KiB needed");
    REQUIRE_REFUSED((Booted{with_map({{0x10'0000, 12 * MiB - kPageSize, kUsable}})}), "not enough memory");
    CHECK_NOTHROW(Booted{with_map({{0x10'0000, 12 * MiB, kUsable}})});
    // 1 GiB of memory, all of it above lowmem.
    if (kHigh) REQUIRE_REFUSED((Booted{with_map({{GiB, GiB, kUsable}})}), "not enough memory");
}

TEST_CASE("init: refuses a machine whose frame table has no room in lowmem", "[init][refuse]") {
    ONLY_WITH(config::kPae);
    REQUIRE_REFUSED((Booted{with_map({{0x10'0000, 64 * MiB, kUsable}, {4 * GiB, 60 * GiB, kUsable}})}),
                    "contiguous low memory for the frame table");
}

TEST_CASE("init: a map of any number of pieces", "[init]") {
    std::vector<FirmwareRange> firmware{{0x10'0000, 511 * MiB, kUsable}};
    for (u32 i = 0; i < 1500; ++i)
        firmware.push_back({u64{0x100'0000} + i * 0x4000, 0x1000, 2});
    Booted kernel{with_map(firmware)};
    check_sums(kernel);
    CHECK(physmap().count >= 1500);
}

TEST_CASE("init: refuses when what was stored lies above lowmem", "[init][refuse]") {
    Setup setup = machine(512 * MiB);
    setup.highmem = 496 * MiB; // lowmem ends at 16 MiB
    ONLY_WITH(kHigh);
    setup.stored_end = PhysAddr{u64{17 * MiB}};
    REQUIRE_REFUSED(Booted{setup}, "Leave out highmem=");
    setup.stored_end = PhysAddr{u64{16 * MiB}};
    CHECK_NOTHROW(Booted{setup});
}
