// Counts NMIs; the tick logs them later. Contract: nmi.hpp.
#include "kernel/report/nmi.hpp"

#include "arch/base/format.hpp"
#include "arch/base/near_wrap.hpp"
#include "arch/base/panic.hpp"
#include "arch/i386/io/power.hpp"
#include "arch/i386/irq/traps.hpp"
#include "kernel/report/panic.hpp"
#include "kernel/report/symbols.hpp"

#include <hal/hal.hpp>

namespace loft {
namespace {

struct Nmis {
    u32 count = near_wrap<u32>();
    u32 eip = 0; // of the last one
    const char* reason = "";
    u32 reported = 0; // nmi_count at the last report
};
LOFT_PERCPU hal::PerCpu<Nmis> nmis;
constinit bool stops_the_kernel = false;

// True if the count has doubled since the last report. As a distance: twice a count may have more than 32 bits.
constexpr bool is_due(u32 count, u32 reported) { return count != reported && count - reported >= reported; }
static_assert(is_due(1, 0) && !is_due(1, 1) && !is_due(3, 2) && is_due(4, 2) && !is_due(0x8000'0001, 0x8000'0000));

void on_nmi(TrapFrame& frame) {
    const char* reason = nmi_reason();
    if (stops_the_kernel) panic_in_nmi(frame, reason);
    nmis.store<&Nmis::eip>(frame.eip);
    nmis.store<&Nmis::reason>(reason);
    nmis.add<&Nmis::count>(1);
}

} // namespace

void set_nmi_panics(bool wanted) { stops_the_kernel = wanted; }

void nmi_init() { trap_set_handler(vector::nmi, on_nmi); }

u32 nmi_count(CpuId cpu) { return since_start(const_cast<const volatile Nmis&>(nmis.of(cpu)).count); }

void nmi_report() {
    Nmis& mine = nmis.mine();
    const CpuId cpu = hal::this_cpu();
    const u32 count = nmi_count(cpu);
    if (!is_due(count, mine.reported)) return;
    mine.reported = count;
    BufferSink<80> where;
    print_code_address(where, mine.eip);
    log(LogLevel::warn, "nmi",
        "CPU {}: {} unexpected NMIs so far, the last at {:08x} ({}): {}. With nmi=panic the next one panics", cpu,
        count, mine.eip, where.view(), mine.reason);
}

} // namespace loft
