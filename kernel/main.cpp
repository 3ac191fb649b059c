// From the first C++ line to the self-tests: the boot in order.
#include "arch/base/panic.hpp"
#include "arch/i386/cpu/descriptors.hpp"
#include "arch/i386/cpu/features.hpp"
#include "arch/i386/cpu/image.hpp"
#include "arch/i386/firmware/find.hpp"
#include "arch/i386/io/console.hpp"
#include "arch/i386/io/power.hpp"
#include "arch/i386/irq/irq.hpp"
#include "arch/i386/irq/lapic.hpp"
#include "arch/i386/irq/smp.hpp"
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/boot/cmdline.hpp"
#include "kernel/boot/multiboot.hpp"
#include "kernel/boot/physical.hpp"
#include "kernel/boot/reach_probe.hpp"
#include "kernel/boot/report.hpp"
#include "kernel/boot/smp.hpp"
#include "kernel/boot/table_probe.hpp"
#include "kernel/boot/topology.hpp"
#include "kernel/devices/disks.hpp"
#include "kernel/files/archive.hpp"
#include "kernel/files/mounts.hpp"
#include "kernel/files/reclaim_thread.hpp"
#include "kernel/files/swap.hpp"
#include "kernel/files/write_back.hpp"
#include "kernel/programs/faults.hpp"
#include "kernel/programs/process.hpp"
#include "kernel/programs/programs.hpp"
#include "kernel/proof/bench.hpp"
#include "kernel/proof/crash.hpp"
#include "kernel/proof/selftest.hpp"
#include "kernel/report/exit.hpp"
#include "kernel/report/log.hpp"
#include "kernel/report/nmi.hpp"
#include "kernel/threads/clock.hpp"
#include "kernel/threads/scheduler.hpp"
#include "mm/frames/page.hpp"
#include "mm/init.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/fixmap.hpp"

namespace loft {
namespace {

#if defined(__clang__)
constexpr const char* kCompiler = "clang " __clang_version__;
#else
constexpr const char* kCompiler = "g++ " __VERSION__;
#endif

void say_hello() {
    log(LogLevel::info, "loft", "high memory {}, page tables in {}, {}, {}preemptible{}; {}", config::kHighMemName,
        config::kHighPte ? "high memory" : "lowmem", config::kSmp ? "SMP" : "one CPU", config::kPreempt ? "" : "not ",
        config::kDebug ? ", DEBUG" : "", kCompiler);
    log(LogLevel::info, "loft", "command line: {}", command_line());
    for (const BootModule& module : multiboot_modules())
        log(LogLevel::info, "loft", "module [{:08x}-{:08x}) {}", module.begin.value(), module.end.value(),
            module.command);
}

// The pages below the stacks: a stack overflow faults there instead of overwriting memory.
VirtAddr guard_pages[2];

// The page from which the other CPUs start.
PhysAddr trampoline;

// The physical address of a symbol of the image.
PhysAddr image_phys(const void* symbol) { return PhysAddr{u64{image_addr(symbol).value() - layout::kPageOffset}}; }

void read_loader(u32 magic, u32 info) {
    const auto at = [](PhysAddr from, u32) -> void* {
        return hal::lowmem_ptr<char>(VirtAddr{layout::kPageOffset + static_cast<u32>(from.value())});
    };
    read_multiboot({read_below_4g, at}, magic, info, image_phys(__image_begin), image_phys(__image_end));
}

BootInfo boot_info() {
    guard_pages[0] = image_addr(__boot_stack_guard);
    guard_pages[1] = image_addr(__df_stack_guard);
    // Now also tables above 4 GiB.
    find_firmware_tables(
        read_physical, [](PhysAddr begin, u32 bytes, const char* what) { reserve_memory(begin, begin + bytes, what); });
    // At this address the CPU accesses the registers of its local APIC, not memory, whatever the firmware reports.
    if (identify_cpu().apic)
        reserve_memory(lapic_phys_base(), lapic_phys_base() + kPageSize, "registers of the local APIC");
    if constexpr (config::kSmp) {
        trampoline = choose_trampoline(multiboot_memory_map(), multiboot_reserved());
        if (trampoline != PhysAddr{}) reserve_memory(trampoline, trampoline + kPageSize, "start of other CPUs");
    }
    return {
        .firmware = multiboot_memory_map(),
        .reserved = multiboot_reserved(),
        .room = multiboot_map_room(),
        .stored_end = multiboot_stored_end(),
        .text = {image_addr(__text_begin), image_addr(__text_end)},
        .rodata = {image_addr(__rodata_begin), image_addr(__rodata_end)},
        .data = {image_addr(__data_begin), image_addr(__data_end)},
        .guard_pages = guard_pages,
        .highmem_bytes = options().highmem,
        .vmalloc_bytes = options().vmalloc,
        .userpte_nohigh = options().user_tables_low,
    };
}

// Logs the cost of the frame descriptors: 16 million with 64 GiB. Under QEMU's `-icount shift=0` a tick is an
// instruction.
void start_mm() {
    const u64 begin = read_tsc();
    mm_init(boot_info());
    log(LogLevel::info, "mm", "ready after {} ticks: {} frame descriptors, {} KiB", read_tsc() - begin, mem_map_count,
        mem_map_count / (KiB / u32{sizeof(Page)}));
}

void start_lapic() {
    if (!identify_cpu().apic) return;
    lapic_init(fixmap_set(layout::Fix::lapic, lapic_phys_base().pfn(), kernel_prot.device));
    smp_init();
}

void mount_disks() {
    any_item(options().mounts, [](std::string_view item) {
        const std::size_t colon = item.find(':');
        static_cast<void>(mount_disk(item.substr(0, colon), item.substr(colon + 1))); // it logs what it does
        return false;
    });
}

void start_cpus() { start_other_cpus(cpu_topology(), options().maxcpus, trampoline); }

[[noreturn]] void finish(const selftest::Totals& totals, bool measured) {
    const bool failed = totals.failed != 0 || !measured;
    const ExitStatus status = failed ? ExitStatus::failed : ExitStatus::passed;
    unmount_disks();
    report_counters(); // with the costs of the tests
    report_cpus();
    report_disks();
    // The last lines say which requests were not fulfilled (scripts/runner/verdict.py reads them).
    if (totals.passed + totals.failed + totals.skipped == 0)
        print("loft: no self-test ran: selftest={}", options().selftest);
    else if (totals.passed + totals.failed == 0)
        print("loft: no self-test ran: all {} were skipped", totals.skipped);
    if (!ignored_words().empty()) print("loft: not understood and ignored: {}", ignored_words());
    if (options().exit) end_of_boot(status);

    log(LogLevel::notice, "loft", "nothing is left to do. To leave QEMU press Ctrl-A, then X.");
    for (;;)
        sleep_ms(1000);
}

} // namespace

// boot/ jumps here: in the higher half, on the boot stack and the boot page tables, interrupts off.
extern "C" [[noreturn]] void kernel_main(u32 magic, u32 info) {
    nmi_init();                                    // the handler: an NMI may come as soon as there is an IDT
    descriptors_init();                            // before this, an NMI is ignored, an exception a triple fault
    console_init();                                // from here on errors can be printed
    faults_init();                                 // exception reports; interrupt-context accounting
    pagetable_early(boot_fixmap_table);            // boot slots of fixmap, to read memory below 4 GiB
    read_loader(magic, info);                      // copied and checked: the originals are not needed later
    parse_command_line(multiboot_command_line());  // the options are known from here on
    set_loglevel(options().loglevel);              // from here on the log has the level that was asked for
    say_hello();                                   // kernel configuration, command line, modules
    enable_features(options().nopse);              // NX and global pages, before the first entry that uses them
    report_cpu();                                  // processor and paging features
    probe_reach();                                 // its physical-address width
    start_mm();                                    // own page tables, zones, object cache, all kinds of mapping
    report_address_map();                          // the kernel's address ranges
    set_double_fault_root(kernel_root());          // the boot page tables are no longer used
    choose_table_memory();                         // whether user page tables may lie in high memory
    irq_init();                                    // moves the vectors of the 8259s away from the exceptions
    start_lapic();                                 // its registers are mapped in fixmap
    read_topology();                               // finds the CPUs; routes interrupts through the I/O APIC
    timer_init();                                  // from here on log lines have times
    clock_init();                                  // from here on programs have a date
    hal::irq_restore(eflags::interrupt);           // interrupts on: the tick runs
    scheduler_init();                              // from here on this context is a thread
    start_cpus();                                  // all of them, or as many as maxcpus= allows
    mounts_init();                                 // the root of the files, in memory
    write_back_init();                             // a thread writes dirty pages
    reclaim_thread_init();                         // a thread frees frames when they run short
    unpack_archives();                             // the files that the loader has brought
    disks_init();                                  // finds and starts the disks; a thread watches them
    mount_disks();                                 // those that mount= names
    swap_start(options().swap);                    // the swap areas of swap=
    process_init();                                // from here on processes can be started
    programs_init();                               // finds the programs among the loader's modules
    report_counters();                             // with the costs of the boot
    report_meminfo();                              // before the tests, which use memory
    selftest::check_selection(options().selftest); // refuses names that do not exist
    bench::check_selection(options().bench);
    if (!options().crash.empty()) commit_misuse(options().crash);
    const selftest::Totals totals = selftest::run(options().selftest);
    const bool measured = options().bench.empty() || bench::run(options().bench);
    finish(totals, measured); // leaves QEMU, or sleeps forever
}
// clang-format on

} // namespace loft
