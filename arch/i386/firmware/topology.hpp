// Which CPUs and interrupt controllers there are, as the firmware tells it.
//
// Two descriptions exist: ACPI's MADT (acpi.hpp), and the older MP tables (mp_table.hpp) on machines without
// it. Both are input that nobody guarantees: checksums are verified, lengths are bounded, and what does not
// hold together is left out with a warning. Nothing in here touches the machine: physical memory is read by a
// function that the caller supplies, because tables may lie above the direct map, and a host test can supply
// forged ones.
#pragma once

#include "arch/base/config.hpp"
#include "arch/base/fixed_list.hpp"
#include "arch/base/types.hpp"

namespace loft {

// Copies `bytes` (4 KiB at most) of physical memory; false if this kernel cannot reach them.
using PhysicalReader = bool (*)(PhysAddr from, void* to, u32 bytes);

// Told of each stretch of memory that the firmware has left something in.
using RangeFound = void (*)(PhysAddr begin, u32 bytes, const char* what);

// How a line signals (MultiProcessor Specification 1.4, table 4-10; ACPI 6.5, table 5.26): two bits each for
// polarity and trigger, 0 is "as its bus does".
struct LineMode {
    u16 flags = 0;
    constexpr bool active_low() const { return (flags & 3) == 3; }
    constexpr bool level() const { return (flags >> 2 & 3) == 3; }
};

struct CpuTopology {
    struct IoApic {
        u8 id = 0;
        PhysAddr address{};
        u32 first_gsi = 0; // its input 0 is this global system interrupt
    };
    // An ISA interrupt that is not where it is by default: its own number, edge triggered, active high.
    struct Override {
        u8 irq = 0;
        u32 gsi = 0;
        LineMode mode{};
    };
    // A pin of the local APIC, 0 or 1, on which NMIs arrive.
    struct LocalNmi {
        static constexpr u32 kEvery = 0xffff'ffff;
        u32 lapic_id = kEvery; // kEvery: of all CPUs
        u8 pin = 1;
        LineMode mode{};
    };
    // An input of an I/O APIC that is an NMI.
    struct NmiSource {
        u32 gsi = 0;
        LineMode mode{};
    };

    const char* source = "nothing";            // "ACPI", "MP tables"
    FixedList<u8, config::kMaxCpus> lapic_ids; // by CpuId: the boot CPU first, then in the firmware's order
    FixedList<IoApic, 8> io_apics;             // whose inputs begin with interrupt 0, where ISA interrupts are
    FixedList<PhysAddr, 32> other_io_apics;    // not used: nothing is to arrive through them
    u32 io_apics_listed = 0;
    FixedList<Override, 16> overrides;
    FixedList<LocalNmi, 2 * (config::kMaxCpus + 1)> local_nmis;
    FixedList<NmiSource, 16> nmi_sources;
    bool has_imcr = false;    // the 8259 reaches the boot CPU past its local APIC until it is told not to
    u32 disabled_cpus = 0;    // listed, but not to be started
    u32 unreachable_cpus = 0; // APIC ids from 255 on: they need x2APIC mode
    u32 surplus_cpus = 0;     // more than config::kMaxCpus

    // Each keeps what is not known yet and what can be used, and has room for all of that.
    void add_io_apic(const IoApic& io_apic);
    void add_override(const Override& over);                    // the first one of an interrupt counts
    void add_local_nmi(const LocalNmi& nmi);                    // of a CPU that is in lapic_ids, or of all
    [[nodiscard]] bool add_nmi_source(const NmiSource& source); // false: there are more than can be kept

    // Where an ISA interrupt (0 to 15) arrives, and how it signals there.
    struct IsaLine {
        static constexpr u32 kNowhere = 0xffff'ffff; // as gsi: another interrupt has been given the input of its number
        u32 gsi = kNowhere;
        LineMode mode{};
    };
    IsaLine isa_line(u32 irq) const;

    // The boot CPU is CPU 0 whatever the firmware says of it; no id is taken twice.
    void add_cpu(u32 lapic_id, bool enabled);
};

} // namespace loft
