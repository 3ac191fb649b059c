// Start values of counters: on the simulated machine every counter that can wrap starts shortly before that.
#include "mm/frames/page_alloc.hpp"
#include "mm/ground/counters.hpp"
#include "mm/ground/remote.hpp"
#include "mm/tables/flush_clock.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/pkmap.hpp"
#include "mm/windows/vmap.hpp"
#include "tests/host/booted.hpp"

using namespace loft;
using namespace loft::test;

namespace {

// How many counters of a struct of counters are about to wrap.
template <typename Counters> std::size_t about_to_wrap(const Counters& counters) {
    const auto words = std::bit_cast<std::array<u32, sizeof(Counters) / sizeof(u32)>>(counters);
    std::size_t count = 0;
    for (const u32 word : words)
        count += 0u - word <= 8;
    return count;
}

} // namespace

TEST_CASE("near_wrap: a few steps before the end of the type, or of a range", "[near_wrap]") {
    CHECK(near_wrap<u32>(1) == ~u32{0});
    CHECK(near_wrap<u32>(200, 1000) == 800);
    CHECK(near_wrap<u64>(5, u64{1} << 32) == 0xffff'fffb);
    CHECK(since_start(near_wrap<u32>() + 20) == 20);
    CHECK(since_start(3 * near_wrap<u32>() + 20, 3) == 20);
}

TEST_CASE("near_wrap: the statistics of mm are about to wrap after the boot", "[near_wrap]") {
    Booted kernel{small(1)};
    CHECK(about_to_wrap(TlbStats{}) == 8);
    CHECK(about_to_wrap(RemoteStats{}) == 3);
    CHECK(about_to_wrap(AllocStats{}) == 4);
    CHECK(about_to_wrap(LockStats{detail::HeldLocks{}.taken, detail::HeldLocks{}.waits}) == 2);
    CHECK(about_to_wrap(PkmapStats{}) == 7);
    // The boot counts few of these events.
    CHECK(about_to_wrap(tlb_stats_of(CpuId{0})) == 8);
    CHECK(about_to_wrap(remote_stats.of(CpuId{0})) == 3);
    CHECK(about_to_wrap(alloc_stats()) == 4);
    CHECK(about_to_wrap(pkmap_stats()) == 7);
    CHECK(0u - vmap_stats().flushes <= 8);
    CHECK(0u - vmap_stats().rounds <= 8);
    CHECK(0u - local_maps.of(CpuId{0}).misses <= 8);
}

// A time that is cut to 32 bits would make a CPU clean that has not flushed since.
TEST_CASE("near_wrap: debts are told apart across the carry of the flush clock", "[near_wrap][tlb]") {
    Booted kernel{small(2)};
    FlushTime debt = 0;
    do {
        tlb_init(); // the boot may have passed the carry, or the first debt may be at it
        debt = tlb_new_debt();
    } while ((debt & 0xffff'ffff) == 0);
    const FlushTime before = debt, carry = (before | 0xffff'ffff) + 1;
    REQUIRE(carry - before < 5);
    while (debt < carry)
        debt = tlb_new_debt();
    REQUIRE(debt == carry);
    for (const u32 cpu : {0u, 1u}) {
        CHECK_FALSE(tlb_is_clean(CpuId{cpu}, before));
        CHECK_FALSE(tlb_is_clean(CpuId{cpu}, debt));
    }
    tlb_flush_local_non_global();
    CHECK(tlb_is_clean(CpuId{0}, before));
    CHECK(tlb_is_clean(CpuId{0}, debt));
    CHECK_FALSE(tlb_is_clean(CpuId{1}, before));
    CHECK_FALSE(tlb_is_clean(CpuId{1}, debt));
}
