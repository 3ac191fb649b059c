// Remote calls. The header has the protocol.
#include "mm/ground/remote.hpp"

#include "arch/base/panic.hpp"

namespace loft {

LOFT_PERCPU hal::PerCpu<RemoteStats> remote_stats;

namespace {

struct Call {
    hal::Plain<void (*)(void*)> call;
    hal::Plain<void*> argument;
    hal::Atomic<u32> waiting; // the CPUs that have not answered yet
};
Call calls[config::kMaxCpus];             // index: the requesting CPU
hal::Atomic<u32> asked[config::kMaxCpus]; // index: the target CPU; the set of CPUs that request a call of it

constexpr u32 bit(CpuId cpu) { return 1u << cpu.value(); }

[[noreturn, gnu::cold]] void nobody_answers(u32 waiting) {
    panic("CPU {} does not answer: asked {} ms ago by CPU {}, still waiting for the set {:08x}",
          static_cast<u32>(std::countr_zero(waiting)), kRemotePatienceMs, hal::this_cpu(), waiting);
}

} // namespace

void run_on(CpuSet cpus, void (*call)(void*), void* argument) {
    const u32 flags = hal::irq_save();
    const CpuId me = hal::this_cpu();
    const CpuSet others = CpuSet::from_bits(cpus.bits() & hal::online_cpus().bits()).without(me);
    if (others.empty()) {
        hal::irq_restore(flags);
        return;
    }
    Call& mine = calls[me.value()];
    LOFT_ASSERT(mine.waiting.load() == 0);
    mine.call.store(call);
    mine.argument.store(argument);
    u32 waiting = 0;
    others.for_each([&](CpuId cpu) { waiting |= bit(cpu); });
    mine.waiting.store(waiting);

    remote_stats.add<&RemoteStats::calls>(1);
    others.for_each([&](CpuId cpu) {
        if (asked[cpu.value()].fetch_or(bit(me)) != 0) return;
        remote_stats.add<&RemoteStats::interrupts>(1);
        hal::interrupt_cpu(cpu);
    });

    const hal::Deadline deadline = hal::deadline(kRemotePatienceMs);
    while ((waiting = mine.waiting.load()) != 0) {
        hal::cpu_relax();
        if (deadline.expired()) nobody_answers(waiting);
    }
    hal::irq_restore(flags);
}

void remote_answer() {
    const u32 flags = hal::irq_save();
    const CpuId me = hal::this_cpu();
    u32 who = asked[me.value()].load();
    if (who != 0) who = asked[me.value()].exchange(0);
    for (; who != 0; who &= who - 1) {
        Call& call = calls[std::countr_zero(who)];
        call.call.load()(call.argument.load());
        remote_stats.add<&RemoteStats::answers>(1);
        call.waiting.fetch_and(~bit(me));
    }
    hal::irq_restore(flags);
}

void remote_leave() {
    run_on(
        hal::online_cpus(), [](void*) {}, nullptr);
    // A request may have come after the last look of that wait, and before the answer that ended it.
    remote_answer();
}

void remote_init() {
    for (u32 cpu = 0; cpu < config::kMaxCpus; ++cpu) {
        calls[cpu].waiting.store(0);
        asked[cpu].store(0);
    }
}

} // namespace loft
