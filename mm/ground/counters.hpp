// Per-CPU counters: counting is one instruction, without contention between CPUs.
#pragma once

#include "arch/base/cpu_set.hpp"
#include "arch/base/near_wrap.hpp"
#include <hal/hal.hpp>

#include <array>
#include <bit>
#include <type_traits>

namespace loft {

// The CPUs whose counters exist: those of hal::online_cpus(), and those that were started and have left it. Any
// context.
CpuSet counting_cpus();
void counters_init();              // boot: none counts
void counters_init_cpu(CpuId cpu); // boot: one more

// The sum of of(cpu) over counting_cpus(). of(cpu) returns a struct of u32 counters and nothing else. Any context; a
// snapshot, because the CPUs go on counting.
template <typename OfCpu> auto sum_of_cpus(OfCpu&& of) {
    using Counters = std::invoke_result_t<OfCpu, CpuId>;
    using Words = std::array<u32, sizeof(Counters) / sizeof(u32)>;
    static_assert(sizeof(Words) == sizeof(Counters) && alignof(Counters) == alignof(u32));
    Words sum{};
    counting_cpus().for_each([&](CpuId cpu) {
        const auto one = std::bit_cast<Words>(of(cpu));
        for (u32 i = 0; i != sum.size(); ++i)
            sum[i] += one[i];
    });
    return std::bit_cast<Counters>(sum);
}

// since_start (arch/base/near_wrap.hpp) for each counter of a struct of u32 counters and nothing else, or of the sum of
// those of `cpus` CPUs.
template <typename Counters>
requires(std::is_class_v<Counters>) Counters since_start(const Counters& now, u32 cpus = 1) {
    auto words = std::bit_cast<std::array<u32, sizeof(Counters) / sizeof(u32)>>(now);
    for (u32& word : words)
        word = since_start(word, cpus);
    return std::bit_cast<Counters>(words);
}

} // namespace loft
