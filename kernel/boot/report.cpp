// The boot report. Lines that scripts read (meminfo) start at column 0; the others are log lines.
#include "kernel/boot/report.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/cpu/features.hpp"
#include "kernel/report/log.hpp"
#include "kernel/report/nmi.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/cache/memory_object.hpp"
#include "mm/cache/swap_area.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/ground/counters.hpp"
#include "mm/ground/layout.hpp"
#include "mm/ground/remote.hpp"
#include "mm/init.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/pkmap.hpp"
#include "mm/windows/vmap.hpp"

namespace loft {
namespace {

struct Size {
    u32 number;
    const char* unit;
};
// The largest unit in which the size is a whole number.
Size exact_size(u64 bytes) {
    if (bytes != 0 && bytes % GiB == 0) return {static_cast<u32>(bytes / GiB), "GiB"};
    if (bytes != 0 && bytes % MiB == 0) return {static_cast<u32>(bytes / MiB), "MiB"};
    return {static_cast<u32>(bytes / KiB), "KiB"};
}

} // namespace

void report_cpu() {
    const CpuIdentity& cpu = identify_cpu();
    log(LogLevel::info, "cpu", "{} {} ({} physical address bits{})", cpu.vendor, cpu.brand, cpu.phys_bits,
        cpu.phys_bits_known ? "" : ", assumed");
    const hal::CpuFeatures used = hal::cpu_features();
    log(LogLevel::info, "cpu", "paging: {}, lowmem in {} pages, {}, {}",
        config::kPae ? "PAE, 64-bit entries" : "two levels, 32-bit entries", used.large_pages ? "large" : "4 KiB",
        used.global ? "global kernel pages" : "no global pages", used.no_execute ? "NX" : "no NX");
    log(LogLevel::info, "cpu", "between kernel and programs: {}, {}, {}", cpu.smep ? "SMEP" : "no SMEP",
        cpu.smap ? "SMAP" : "no SMAP", cpu.umip ? "UMIP" : "no UMIP");
}

void report_address_map() {
    for (const layout::Region& region : layout::regions()) {
        const Size size = exact_size(u64{region.last} - region.begin + 1);
        log(LogLevel::info, "map", "{:08x}-{:08x} {:5} {} {}", region.begin, region.last, size.number, size.unit,
            region.name);
    }
}

void report_meminfo() {
    const MemInfo info = meminfo();
    const struct {
        const char* name;
        u32 kib;
    } lines[] = {
        {"MemTotal", info.mem_total},     {"MemFree", info.mem_free},
        {"LowTotal", info.low_total},     {"LowFree", info.low_free},
        {"HighTotal", info.high_total},   {"HighFree", info.high_free},
        {"Cached", info.cached},          {"Dirty", info.dirty},
        {"SwapTotal", info.swap_total},   {"SwapFree", info.swap_free},
        {"PageTables", info.page_tables}, {"PageTablesHigh", info.page_tables_high},
        {"Bounce", info.bounce},
    };
    for (const auto& line : lines)
        print("{}:  {} kB", line.name, line.kib);
}

void report_counters() {
    for (u32 i = 0; i != kZones; ++i) {
        const ZoneInfo zone = zone_info(static_cast<ZoneId>(i));
        log(LogLevel::info, "mm", "zone {}: {} frames present, {} managed, {} free, {} in reserve",
            zone_name(static_cast<ZoneId>(i)), zone.present, zone.managed, zone.free, zone.reserve);
    }
    const u32 cpus = counting_cpus().count();
    const AllocStats alloc = since_start(alloc_stats(), cpus);
    log(LogLevel::info, "mm", "pages: {} refills, {} drains, {} fallbacks, {} failures", alloc.refills, alloc.drains,
        alloc.fallbacks, alloc.failures);
    const PkmapStats pool = since_start(pkmap_stats());
    const PkmapUse use = pkmap_use();
    log(LogLevel::info, "mm",
        "pkmap: {} slots free, {} idle, {} used; {} maps, {} wraps, {} flushes, {} reclaimed ({} "
        "never touched), {} waits",
        use.free, use.idle, use.used, pool.maps, pool.wraps, pool.flushes, pool.reclaimed, pool.unused, pool.waits);
    const VmapStats vmap = vmap_stats();
    log(LogLevel::info, "mm", "vmap: {} areas, {} pages, {} lazy pages, {} flushes, {} rounds", vmap.areas, vmap.pages,
        vmap.lazy_pages, since_start(vmap.flushes), since_start(vmap.rounds));
    const TlbStats tlb = since_start(tlb_stats_sum(), cpus);
    log(LogLevel::info, "mm",
        "tlb: {} invlpg, {} CR3 loads, {} full flushes, {} batches, {} rounds, {} remote requests; not "
        "asked: {} idle, "
        "{} clean",
        tlb.invlpg, tlb.non_global, tlb.full, tlb.requests, tlb.rounds, tlb.remote, tlb.skipped_idle,
        tlb.skipped_clean);
    const PageCacheStats cache = page_cache_stats();
    const SwapStats swap = swap_stats();
    log(LogLevel::info, "mm", "cache: {} pages filled, {} stored, {} dropped; swap: {} pages read, {} written",
        since_start(cache.filled), since_start(cache.stored), since_start(cache.dropped), since_start(swap.in),
        since_start(swap.out));
    const MigrateGuard here;
    log(LogLevel::info, "mm", "kmap_local: {} misses, depth {}", since_start(local_maps.load<&LocalMaps::misses>()),
        local_depth());
}

void report_cpus() {
    hal::online_cpus().for_each([](CpuId cpu) {
        const SchedulerStats s = since_start(scheduler_stats(cpu));
        const RemoteStats r = since_start(remote_stats.of(cpu));
        log(LogLevel::info, "cpu",
            "CPU {}: {} ticks, {} switches ({} preemptions), {} pulled, {} wakes, {} kicks sent, {} "
            "received, {} idles; "
            "remote: {} calls, {} interrupts, {} answers",
            cpu, s.ticks, s.switches, s.preemptions, s.pulled, s.wakes, s.kicks, s.kicked, s.idles, r.calls,
            r.interrupts, r.answers);
        if (const u32 nmis = nmi_count(cpu)) log(LogLevel::info, "cpu", "CPU {}: {} unexpected NMIs", cpu, nmis);
    });
}

void report_threads() {
    for_each_thread(
        [](const Thread& thread, void*) {
            log(LogLevel::info, "thread", "{:5} {:-12} {:-7} CPU {:2}, {} switches, {} migrations",
                thread.id.load() & kMaxThreads, thread.name_view(), thread_state_name(thread.state), thread.cpu,
                since_start(thread.switches), since_start(thread.migrations));
        },
        nullptr);
}

} // namespace loft
