// The operations of the simulated machine, by the tables that the kernel's HAL is tested with, too.
#include "tests/host/sim/fixture.hpp"
#include "tests/shared/hal_operations.hpp"

using namespace loft;
using namespace loft::sim;

namespace {

constexpr u32 kFrame = 0x2100; // no table, and mapped by the tests only

LOFT_PERCPU operations::CpuVariable variable;

void expect(const char* operation, u32 row, u64 found, u64 expected) {
    INFO(operation << ", row " << row);
    CHECK(found == expected);
}

} // namespace

TEST_CASE("operations: entries of page tables", "[sim]") {
    Rig r;
    operations::check_entries(Handmade::cell_in(kFrame, 0),
                              reinterpret_cast<volatile u32*>(ram_at(u64{kFrame} << kPageShift)), expect);
}

TEST_CASE("operations: words that CPUs share", "[sim]") {
    Rig r;
    operations::check_shared_words(expect);
}

TEST_CASE("operations: variables of a CPU", "[sim]") {
    Rig r;
    const CpuId other = config::kMaxCpus > 1 ? kCpu1 : kCpu0;
    operations::check_cpu_variable(variable, kCpu0, other, expect);
    if (other != kCpu0) on_cpu(other, [&] { operations::check_cpu_variable(variable, other, kCpu0, expect); });
    r.m.here().interrupts = true;
    operations::check_interrupt_flag(expect);
}

TEST_CASE("operations: memory", "[sim]") {
    Rig r;
    r.t.map(kVa, kFrame);
    operations::check_memory(kVa, ram_at(u64{kFrame} << kPageShift), expect);
    operations::check_lowmem(VirtAddr{0xc020'0000u}, expect);
}

TEST_CASE("operations: flushes", "[sim]") {
    Rig r;
    const VirtAddr page[operations::kTlbPages]{kVa, kVa + kPageSize, kVa + 2 * kPageSize};
    const auto frame_of = [](u32 i, u32 frame) { return kFrameA + 2 * i + frame; };
    const auto change = [&](u32 i, u32 frame) {
        const PteFlags flags = i == 2 ? kRw | pte::global : kRw;
        hal::pte_exchange(r.t.entry(page[i]), Pte{Pfn{frame_of(i, frame)}, flags});
    };
    const auto fresh = [&](u32 i, u32 frame) {
        return !r.m.stale(page[i]) && read(page[i]) == signature(frame_of(i, frame));
    };
    for (u32 i = 0; i != operations::kTlbPages; ++i)
        change(i, 0);
    operations::check_flushes(page, change, fresh, expect);
}

TEST_CASE("operations: user copies", "[sim]") {
    Rig r;
    constexpr VirtAddr kUser{0x1000'0000u};
    r.t.map(kUser, kFrame, kRw | pte::user);
    r.t.map(kVa, kFrame + 1);
    operations::check_user_copies(kUser, ram_at(u64{kFrame} << kPageShift), kVa, ram_at(u64{kFrame + 1} << kPageShift),
                                  expect);
}
