// Counters that each CPU has of its own, so that counting costs one instruction and no CPU waits for another.
#pragma once

#include "arch/base/types.hpp"
#include <hal/hal.hpp>

#include <array>
#include <bit>
#include <type_traits>

namespace loft {

// Adds up what of(cpu) returns for the CPUs that are online: a struct of u32 counters and nothing else. Any context; a
// snapshot, because the CPUs go on counting.
template <typename OfCpu> auto sum_of_cpus(OfCpu&& of) {
    using Counters = std::invoke_result_t<OfCpu, CpuId>;
    using Words = std::array<u32, sizeof(Counters) / sizeof(u32)>;
    static_assert(sizeof(Words) == sizeof(Counters) && alignof(Counters) == alignof(u32));
    Words sum{};
    hal::online_cpus().for_each([&](CpuId cpu) {
        const Words one = std::bit_cast<Words>(of(cpu));
        for (u32 i = 0; i != sum.size(); ++i)
            sum[i] += one[i];
    });
    return std::bit_cast<Counters>(sum);
}

} // namespace loft
