// Starting the other CPUs. Contract: smp.hpp.
#include "kernel/boot/smp.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/cpu/image.hpp"
#include "arch/i386/cpu/percpu.hpp"
#include "arch/i386/firmware/topology.hpp"
#include "arch/i386/irq/smp.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/init.hpp"

#include <algorithm>
#include <bit>

namespace loft {
namespace {

bool overlaps(PhysAddr page, u64 begin, u64 end) { return begin < page.value() + kPageSize && end > page.value(); }

// Allocates what a CPU needs before its first instruction. False: no memory.
bool prepare(CpuId cpu, CpuBirth& birth) {
    const u32 order = static_cast<u32>(std::bit_width(pages_for(percpu_bytes()) - 1));
    Page* area = alloc_pages(Gfp::kernel, order);
    if (area == nullptr) return false;
    percpu_adopt(cpu, direct_addr(page_to_pfn(area)));
    mm_init_cpu(cpu);
    const KernelStack idle = scheduler_prepare_cpu(cpu);
    const KernelStack double_fault = make_stack(kDoubleFaultStackBytes);
    if (!idle.exists() || !double_fault.exists()) return false;
    set_double_fault_stack(cpu, double_fault);
    birth = {cpu, idle.end, double_fault.end};
    return true;
}

void start(CpuId cpu) {
    CpuBirth birth;
    if (!prepare(cpu, birth)) {
        log(LogLevel::error, "smp", "CPU {} is left out: no memory for its stacks", cpu);
        return;
    }
    // start_cpu reports a CPU that does not come up. Its memory is not freed: it may come up late, and then halts.
    static_cast<void>(start_cpu(birth));
}

} // namespace

PhysAddr choose_trampoline(std::span<const FirmwareRange> firmware, std::span<const ReservedRange> reserved) {
    const auto is_usable = [&](PhysAddr page) {
        bool covered = false;
        for (const FirmwareRange& range : firmware) {
            const u64 end = range.base + range.length < range.base ? ~u64{0} : range.base + range.length;
            if (!overlaps(page, range.base, end)) continue;
            if (range.type != 1) return false;
            covered |= range.base <= page.value() && end >= page.value() + kPageSize;
        }
        for (const ReservedRange& range : reserved)
            if (overlaps(page, range.begin.value(), range.end.value())) return false;
        return covered;
    };
    if (is_usable(kTrampolinePage)) return kTrampolinePage;
    // The BIOS keeps its variables in the first page.
    for (Pfn pfn{1u}; pfn < Pfn{u32{MiB} >> kPageShift}; pfn = pfn + 1)
        if (is_usable(pfn.phys())) return pfn.phys();
    return PhysAddr{};
}

void start_other_cpus(const CpuTopology& topology, u32 most, PhysAddr trampoline) {
    const u32 wanted = std::min(most, topology.lapic_ids.size());
    if (config::kSmp && wanted > 1) {
        if (trampoline == PhysAddr{}) {
            log(LogLevel::error, "smp", "no free page below 1 MiB to start other CPUs from: one CPU is used");
        } else {
            smp_prepare(topology, trampoline, wanted);
            for (u32 cpu = 1; cpu < wanted; ++cpu)
                start(CpuId{cpu});
        }
    }
    const u32 online = hal::online_cpus().count();
    log(LogLevel::info, "smp", "{} {}", online, online == 1 ? "CPU" : "CPUs");
}

void ap_main(CpuId cpu) { scheduler_run(cpu); }

} // namespace loft
