// The operations of the kernel's HAL, by the tables that the simulated machine is tested with, too.
#include "tests/shared/hal_operations.hpp"

#include "kernel/threads/lifecycle.hpp"
#include "mm/spaces/user_copy.hpp"
#include "mm/windows/vmap.hpp"
#include "tests/guest/support.hpp"

namespace loft::guest::hal_test {
namespace {

LOFT_PERCPU operations::CpuVariable variable;

void expect(const char* operation, u32 row, u64 found, u64 expected) {
    if (!CHECK_EQ(found, expected)) selftest::note("this was {}, row {}", operation, row);
}

volatile u8* memory_at(VirtAddr va) { return reinterpret_cast<volatile u8*>(va.value()); }

} // namespace

SELFTEST(hal, entries_of_page_tables) {
    alignas(8) static volatile u32 words[4];
    operations::check_entries(reinterpret_cast<hal::PteCell*>(const_cast<u32*>(words)), words, expect);
}

SELFTEST(hal, words_that_cpus_share) { operations::check_shared_words(expect); }

// On each CPU, by a thread that the CPU does not lose. Only the thread of the tests may report.
SELFTEST(hal, variables_of_a_cpu) {
    static u32 checks, wrong, row_of_last;
    static const char* last;
    const CpuSet online = hal::online_cpus();
    online.for_each([&](CpuId cpu) {
        CpuId other = cpu;
        online.without(cpu).for_each([&](CpuId one) { other = one; });
        auto body = [&] {
            operations::check_cpu_variable(variable, cpu, other,
                                           [](const char* operation, u32 row, u64 found, u64 expected) {
                                               ++checks;
                                               if (found == expected) return;
                                               ++wrong;
                                               last = operation;
                                               row_of_last = row;
                                           });
        };
        checks = wrong = 0;
        Thread* const thread = thread_create("variables", body, CpuSet::only(cpu));
        if (!CHECK(thread != nullptr)) return;
        thread_join(thread);
        CHECK_GE(checks, 45u);
        if (!CHECK_EQ(wrong, 0u)) selftest::note("this was {}, row {}, on CPU {}", last, row_of_last, cpu);
    });
    operations::check_interrupt_flag(expect);
}

SELFTEST(hal, memory) {
    const KeepsFreeCounts counts;
    for (const Gfp gfp : {Gfp::kernel, Gfp::high}) {
        const Pages<1> pages{gfp};
        REQUIRE(pages.complete());
        const LocalMap map{pages[0]};
        operations::check_memory(map.addr(), memory_at(map.addr()), expect);
    }
    operations::check_lowmem(VirtAddr{layout::kPageOffset + MiB}, expect);
}

SELFTEST(hal, flushes) {
    constexpr u32 kPages = operations::kTlbPages;
    const KeepsFreeCounts counts;
    const Pages<2 * kPages> pages; // page i has frames i and kPages + i
    REQUIRE(pages.complete());
    for (Page* page : pages)
        sign(page);
    const Result<VirtAddr> area = vmap(pages.begin(), kPages, VmapProt::rw);
    REQUIRE(area);
    const VirtAddr page[kPages]{*area, *area + kPageSize, *area + 2 * kPageSize};
    const auto frame_of = [&](u32 i, u32 frame) { return pages.pfn(i + frame * kPages); };
    const PteFlags global = hal::cpu_features().global ? kernel_prot.pool | pte::global : kernel_prot.pool;
    const auto change = [&](u32 i, u32 frame) {
        hal::pte_exchange(kernel_pte(page[i]), Pte{frame_of(i, frame), i == 2 ? global : kernel_prot.pool});
    };
    const auto fresh = [&](u32 i, u32 frame) { return marks_hold(page[i], frame_of(i, frame)); };
    {
        const MigrateGuard here;
        operations::check_flushes(page, change, fresh, expect);
        for (u32 i = 0; i != kPages; ++i)
            hal::pte_exchange(kernel_pte(page[i]), Pte{frame_of(i, 0), kernel_prot.pool});
        hal::flush_all();
        CHECK_EQ((read_cr4() & cr4_bit::pge) != 0, hal::cpu_features().global); // as it was
    }
    vunmap(*area);
}

SELFTEST(hal, user_copies) {
    const KeepsFreeCounts counts;
    const BorrowedSpace space;
    REQUIRE(space);
    constexpr VirtAddr kUser{0x1000'0000u};
    REQUIRE(space->map(kUser, kPageSize, Prot::read | Prot::write, MapKind::anonymous, true));
    Page* page = nullptr;
    REQUIRE(get_user_pages(*space, UserAddr{kUser.value()}, 1, true, &page));
    static u8 buffer[operations::kObjectBytes];
    {
        const LocalMap map{page};
        operations::check_user_copies(kUser, memory_at(map.addr()), hal::lowmem_addr(buffer), buffer, expect);
    }
    put_page(page);
}

} // namespace loft::guest::hal_test
