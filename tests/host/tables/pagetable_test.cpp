// The kernel's page tables, built for several processors and machines, and mm's walker, compared with the oracle.
#include "mm/frames/bootmem.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/fixmap.hpp"
#include "mm/windows/page_walk.hpp"
#include "tests/host/booted.hpp"
#include "tests/host/oracle.hpp"

#include <map>

using namespace loft;
using namespace loft::test;

namespace {

u64 root() { return kernel_root().value(); }

struct Processor {
    const char* name;
    sim::Features features;
};
// All features; then without large pages (`nopse`), PGE, NX, and without all three.
const Processor kProcessors[] = {
    {"all features", {true, true, config::kPae}}, {"nopse", {false, true, config::kPae}},
    {"no PGE", {true, false, config::kPae}},      {"no NX", {true, true, false}},
    {"nothing", {false, false, false}},
};

Setup machine(u64 ram, const sim::Features& features = {}, u32 vmalloc = 0) {
    Setup setup;
    setup.machine.cpus = 1;
    setup.machine.ram = ram;
    setup.machine.features = features;
    setup.vmalloc = vmalloc;
    return setup;
}

bool inside(VirtAddr va, const ImagePart& part) { return va >= part.begin && va < part.end; }

// Checks every page of the address space against the address map.
void check_every_page(const Booted& kernel) {
    const BootInfo& info = kernel.info;
    const sim::Features& cpu = kernel.machine.features();
    const u32 low_end = layout::direct_map_end().value();
    u32 direct = 0, wrong = 0, writable_and_executable = 0;
    oracle_every_page(root(), [&](u32 at, const Mapped& page) {
        const VirtAddr va{at};
        const bool text = inside(va, info.text), rodata = inside(va, info.rodata);
        writable_and_executable += page.write && page.execute && cpu.no_execute;
        Mapped want;
        if (at >= layout::kPageOffset && at < low_end) {
            ++direct;
            want = {.phys = at - layout::kPageOffset,
                    .large = page.large,
                    .write = !text && !rodata,
                    .execute = text || !cpu.no_execute,
                    .global = cpu.global,
                    .accessed_dirty = true};
        } else {
            ++wrong; // nothing else is mapped at the end of boot
            UNSCOPED_INFO("mapped: " << std::hex << at);
        }
        if (!(page == want)) {
            if (++wrong < 5) UNSCOPED_INFO("not as it should be: " << std::hex << at);
        }
        if (page.large && (!cpu.large_pages || at < layout::kPageOffset + MiB || text || rodata)) ++wrong;
    });
    CHECK(wrong == 0);
    CHECK(writable_and_executable == 0);
    // All of lowmem but the guard pages.
    CHECK(direct == (low_end - layout::kPageOffset) / kPageSize - info.guard_pages.size());
    for (const VirtAddr guard : info.guard_pages)
        CHECK_FALSE(oracle_walk(root(), guard.value()));
}

} // namespace

TEST_CASE("pagetable: the direct map is complete, nothing else is mapped, nothing is writable and executable",
          "[pagetable]") {
    for (const Processor& cpu : kProcessors) {
        for (const u64 ram : {u64{20 * MiB}, u64{100 * MiB} + 3 * kPageSize, u64{895 * MiB}, 2 * GiB}) {
            INFO(cpu.name << ", " << ram / kPageSize << " frames");
            Booted kernel{machine(ram, cpu.features)};
            check_every_page(kernel);
        }
    }
}

TEST_CASE("pagetable: a direct map that vmalloc= has shrunk is as complete", "[pagetable]") {
    Booted kernel{machine(GiB, {}, 400 * MiB)};
    CHECK(layout::boundaries.lowmem_bytes < 620 * MiB);
    check_every_page(kernel);
}

TEST_CASE("pagetable: large pages are used wherever the rights and memory types allow", "[pagetable]") {
    Booted kernel{machine(512 * MiB + 64 * KiB)};
    u32 small_pages = 0;
    oracle_every_page(root(), [&](u32, const Mapped& page) { small_pages += !page.large; });
    // The first piece holds the first MiB and the image of 2.5 MiB; the last one is cut.
    const u32 with_image = config::kPae ? 2 * paging::kPtesPerTable : paging::kPtesPerTable;
    CHECK(small_pages < with_image + paging::kPtesPerTable);
    CHECK(oracle_walk(root(), 0xc080'0000)->large);
    CHECK(oracle_walk(root(), 0xc080'0000 + 300 * MiB)->large);
    CHECK_FALSE(oracle_walk(root(), 0xc000'0000)->large);
}

TEST_CASE("pagetable: the first MiB is in small pages wherever the image lies, for its memory types differ",
          "[pagetable]") {
    sim::Machine machine{{.cpus = 1, .ram = 64 * MiB}};
    BootInfo info = machine.make_boot_info();
    for (ImagePart* part : {&info.text, &info.rodata, &info.data}) {
        part->begin = part->begin + 32 * MiB;
        part->end = part->end + 32 * MiB;
    }
    const ReservedRange reserved[] = {info.reserved[0], {PhysAddr{u64{32 * MiB}}, PhysAddr{u64{36 * MiB}}, "kernel"}};
    info.reserved = reserved;
    info.guard_pages = {};
    info.data.end = VirtAddr{layout::kPageOffset + 36 * MiB};
    pagetable_early(machine.boot_last_table());
    mm_init(info);
    for (u32 va = layout::kPageOffset; va < layout::kPageOffset + MiB; va += kPageSize)
        REQUIRE_FALSE(oracle_walk(root(), va)->large);
    CHECK(oracle_walk(root(), layout::kPageOffset + paging::kLargeSize)->large);
    CHECK_FALSE(oracle_walk(root(), info.rodata.begin.value())->write);
    CHECK_FALSE(oracle_walk(root(), info.data.end.value() - kPageSize)->large);
    CHECK(oracle_walk(root(), info.data.end.value())->large);
}

TEST_CASE("pagetable: every table of the upper part exists from boot on, and kernel_pte finds each entry",
          "[pagetable]") {
    for (const u32 vmalloc : {0u, 300 * MiB}) {
        Booted kernel{machine(256 * MiB, {}, vmalloc)};
        Random random{7};
        for (u64 va = layout::boundaries.upper_base; va < u64{1} << 32; va += paging::kLargeSize)
            REQUIRE(oracle_has_table(root(), static_cast<u32>(va)));
        for (u32 i = 0; i < 300; ++i) {
            const u32 span = (0u - layout::boundaries.upper_base) >> kPageShift;
            const u32 page = i < 2 ? i * (span - 1) : below(random, span);
            const VirtAddr va{layout::boundaries.upper_base + (page << kPageShift)};
            INFO("address " << std::hex << va.value());
            const Pfn pfn{1 + below(random, kMaxPfn - 1)};
            hal::pte_set(kernel_pte(va), Pte{pfn, kernel_prot.data});
            const auto mapped = oracle_walk(root(), va.value());
            REQUIRE(mapped);
            REQUIRE(mapped->phys == pfn.phys().value());
            hal::pte_clear(kernel_pte(va));
            REQUIRE_FALSE(oracle_walk(root(), va.value()));
        }
    }
}

TEST_CASE("pagetable: boot counts the frames of its tables", "[pagetable]") {
    for (const Processor& cpu : {kProcessors[0], kProcessors[1]}) {
        Booted kernel{machine(300 * MiB, cpu.features)};
        CHECK(oracle_tables(root()).size() == pagetable_frames());
    }
}

TEST_CASE("pagetable: the tables are nobody else's memory", "[pagetable]") {
    Booted kernel{machine(300 * MiB)};
    for (const u64 table : oracle_tables(root()))
        CHECK(pfn_to_page(PhysAddr{table}.pfn())->type() == PageType::none);
}

TEST_CASE("pagetable: the first 16 MiB are not mapped at 0 any more, nor is the last page", "[pagetable]") {
    Booted kernel;
    for (u32 va = 0; va < 16 * MiB; va += kPageSize)
        REQUIRE_FALSE(oracle_walk(root(), va));
    CHECK_FALSE(oracle_walk(root(), layout::kFixmapTop));
    CHECK_THROWS_AS(hal::load<u32>(VirtAddr{0x1000u}), sim::PageFault);
    CHECK_THROWS_AS(hal::load<u32>(VirtAddr{0xffff'fffcu}), sim::PageFault);
}

TEST_CASE("pagetable: text cannot be written, rodata and data cannot be executed", "[pagetable]") {
    Booted kernel;
    CHECK_NOTHROW(sim::exec(kernel.info.text.begin));
    CHECK_THROWS_AS(hal::store<u32>(kernel.info.text.begin, 0u), sim::PageFault);
    CHECK_THROWS_AS(hal::store<u32>(kernel.info.rodata.begin, 0u), sim::PageFault);
    CHECK_THROWS_AS(hal::store<u32>(kernel.info.rodata.end - 4, 0u), sim::PageFault);
    CHECK_NOTHROW(hal::store<u32>(kernel.info.data.begin, 0u));
    CHECK_THROWS_AS(hal::load<u32>(kernel.info.guard_pages[0]), sim::PageFault);
    if (config::kPae) {
        CHECK_THROWS_AS(sim::exec(kernel.info.rodata.begin), sim::PageFault);
        CHECK_THROWS_AS(sim::exec(kernel.info.data.begin), sim::PageFault);
        CHECK_THROWS_AS(sim::exec(VirtAddr{0xc080'0000u}), sim::PageFault);
    }
    CHECK_THROWS_AS(sim::user_read<u32>(kernel.info.data.begin), sim::PageFault);
}

TEST_CASE("pagetable: the walker agrees with the oracle at every address", "[pagetable][walk]") {
    for (const Processor& cpu : kProcessors) {
        INFO(cpu.name);
        Booted kernel{machine(100 * MiB, cpu.features)};
        // Also mappings in the upper part, with every kind of attributes.
        const PteFlags kinds[] = {kernel_prot.text, kernel_prot.rodata,  kernel_prot.data,   kernel_prot.device,
                                  kernel_prot.pool, kernel_prot.pool_ro, kernel_prot.pool_rx};
        VirtAddr at{layout::boundaries.vmap_begin};
        for (const PteFlags flags : kinds) {
            hal::pte_set(kernel_pte(at), Pte{Pfn{kMaxPfn - 1}, flags});
            at = at + kPageSize;
        }
        Random random{3};
        for (u32 i = 0; i < 40'000; ++i) {
            u32 va = static_cast<u32>(random());
            if (i % 4 == 1) va = layout::kPageOffset + below(random, 101 * MiB);
            if (i % 4 == 2) va = layout::boundaries.vmap_begin + below(random, 10 * kPageSize);
            const auto want = oracle_walk(root(), va);
            const Walk walk = page_walk(kernel_root(), VirtAddr{va});
            REQUIRE(walk.present == want.has_value());
            REQUIRE_FALSE(walk.unreadable);
            if (!want) continue;
            REQUIRE(walk.pfn.phys().value() == want->phys);
            REQUIRE(walk.large == want->large);
            REQUIRE(walk.flags.has(pte::write) == want->write);
            REQUIRE(walk.flags.has(pte::user) == want->user);
            REQUIRE(walk.flags.has(pte::global) == want->global);
            REQUIRE(walk.flags.has(pte::cache_disable) == want->uncached);
            if (config::kPae) REQUIRE(walk.flags.has(pte::no_execute) == !want->execute);
        }
    }
}

TEST_CASE("pagetable: the walker says where a walk ended", "[pagetable][walk]") {
    Booted kernel{machine(100 * MiB)};
    using Level = Walk::Level;
    const Walk large = page_walk(kernel_root(), VirtAddr{0xc080'1234u});
    CHECK((large.present && large.large));
    CHECK(large.level == Level::directory);
    CHECK(large.directory.has(pte::large));
    CHECK(large.pfn == Pfn{0x801u});

    const Walk small_page = page_walk(kernel_root(), VirtAddr{0xc000'1000u});
    CHECK(small_page.level == Level::table);
    CHECK(small_page.entry.pfn() == Pfn{1u});
    CHECK(small_page.directory.present());

    const Walk hole = page_walk(kernel_root(), VirtAddr{layout::boundaries.vmap_begin});
    CHECK_FALSE(hole.present);
    CHECK(hole.level == Level::table);
    const Walk user = page_walk(kernel_root(), VirtAddr{0x0804'8000u});
    CHECK_FALSE(user.present);
    CHECK(user.level == Level::directory);
    CHECK(user.root.present() == config::kPae);
}

TEST_CASE("pagetable: before the border of lowmem is known the walker reads every table", "[pagetable][walk]") {
    Booted kernel{machine(100 * MiB)};
    const auto borders = std::exchange(layout::boundaries, {});
    const u32 frames = std::exchange(mem_map_count, 0);
    const Walk walk = page_walk(kernel_root(), VirtAddr{0xc000'1000u});
    layout::boundaries = borders;
    mem_map_count = frames;
    CHECK_FALSE(walk.unreadable);
    CHECK(walk.level == Walk::Level::table);
    CHECK(walk.entry.pfn() == Pfn{1u});
}

TEST_CASE("pagetable: the walker stops at a level that is not present", "[pagetable][walk]") {
    ONLY_WITH(config::kPae);
    Booted kernel{machine(100 * MiB)};
    // An empty root of its own.
    Page* page = new_page(Gfp::kernel);
    const PhysAddr own = page_to_pfn(page).phys();
    hal::zero_words(direct_addr(page_to_pfn(page)), kPageSize);
    const Walk walk = page_walk(own, VirtAddr{0xc000'0000u});
    CHECK_FALSE(walk.present);
    CHECK(walk.level == Walk::Level::root);
    CHECK_FALSE(walk.root.present());
}

TEST_CASE("pagetable: a root or directory in high memory is reported, a page table there is read",
          "[pagetable][walk]") {
    ONLY_WITH(config::kHighMem);
    Booted kernel;
    const Pfn high = page_to_pfn(new_page(Gfp::high));
    REQUIRE(is_highmem(high));
    const auto zeroed = [] {
        const Pfn pfn = page_to_pfn(new_page(Gfp::kernel));
        hal::zero_words(direct_addr(pfn), kPageSize);
        return pfn;
    };
    const auto entries = [](Pfn table) { return hal::lowmem_ptr<hal::PteCell>(direct_addr(table)); };
    const VirtAddr va{0x1000u};
    CHECK(page_walk(high.phys(), va).unreadable);

    const Pfn root_frame = zeroed();
    Pfn directory = root_frame;
    if constexpr (config::kPae) {
        hal::pte_set(entries(root_frame), Pte{high, pte::present});
        CHECK(page_walk(root_frame.phys(), va).unreadable);
        directory = zeroed();
        hal::pte_clear(entries(root_frame));
        hal::pte_set(entries(root_frame), Pte{directory, pte::present});
    }
    hal::pte_set(entries(directory), Pte{high, pte::present | pte::write});
    for (u32 i = 0; i < kPageSize; i += 4)
        sim::poke<u32>(high.phys() + i, 0u);
    sim::poke<u32>(high.phys() + paging::pte_index(va) * sizeof(RawPte), 0x5000 | 1);
    const Walk walk = page_walk(root_frame.phys(), va);
    CHECK_FALSE(walk.unreadable);
    CHECK(walk.level == Walk::Level::table);
    REQUIRE(walk.present);
    CHECK(walk.pfn == Pfn{5u});
    CHECK_FALSE(page_walk(root_frame.phys(), va + kPageSize).present);
    CHECK(local_depth() == 0);

    // A directory entry with a frame behind the end of the frame table.
    hal::pte_clear(entries(directory));
    hal::pte_set(entries(directory), Pte{Pfn{mem_map_count}, pte::present | pte::write});
    CHECK(page_walk(root_frame.phys(), va).unreadable);
}

TEST_CASE("pagetable: what fixmap mapped before the kernel's tables existed is still there", "[pagetable][fixmap]") {
    sim::Machine machine{{.cpus = 1, .ram = 64 * MiB}};
    BootInfo info = machine.make_boot_info();
    pagetable_early(machine.boot_last_table());
    const VirtAddr lapic = fixmap_set(layout::Fix::lapic, Pfn{0x1234u}, kernel_prot.device);
    const VirtAddr boot = fixmap_set(layout::Fix::boot_first, Pfn{0x2345u}, kernel_prot.data);
    mm_init(info);
    for (const auto& [va, phys] : {std::pair{lapic, 0x123'4000u}, std::pair{boot, 0x234'5000u}}) {
        const auto mapped = oracle_walk(root(), va.value());
        REQUIRE(mapped);
        CHECK(mapped->phys == phys);
    }
    CHECK(oracle_walk(root(), lapic.value())->uncached);
    CHECK_FALSE(oracle_walk(root(), layout::fix_addr(layout::Fix::ioapic).value()));
}

TEST_CASE("pagetable: attributes have only what the processor has", "[pagetable]") {
    for (const Processor& cpu : kProcessors) {
        INFO(cpu.name);
        Booted kernel{machine(64 * MiB, cpu.features)};
        for (const PteFlags flags : {kernel_prot.text, kernel_prot.rodata, kernel_prot.data, kernel_prot.device})
            CHECK(flags.has(pte::global) == cpu.features.global);
        for (const PteFlags flags : {kernel_prot.pool, kernel_prot.pool_ro, kernel_prot.pool_rx}) {
            CHECK_FALSE(flags.has(pte::global)); // a CR3 load must flush them
            CHECK((flags & (pte::accessed | pte::dirty)).empty());
        }
        if (config::kPae) {
            for (const PteFlags flags :
                 {kernel_prot.rodata, kernel_prot.data, kernel_prot.device, kernel_prot.pool, kernel_prot.pool_ro})
                CHECK(flags.has(pte::no_execute) == cpu.features.no_execute);
        }
        CHECK_FALSE((kernel_prot.text & kernel_prot.pool_rx).has(pte::write));
        CHECK_FALSE(kernel_prot.rodata.has(pte::write));
        CHECK_FALSE(kernel_prot.pool_ro.has(pte::write));
        CHECK_FALSE(kernel_prot.data.has(pte::user));
    }
}
