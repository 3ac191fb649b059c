// The CPUs and interrupt controllers that the firmware lists.
//
// There are two sources: ACPI's MADT (acpi.hpp), and on machines without it the older MP tables (mp_table.hpp). Both
// are untrusted input: checksums are verified, lengths are bounded, and a malformed item is ignored with a warning.
// This code does not access the machine: the caller supplies a function that reads physical memory, because tables may
// lie above the direct map, and host tests supply forged ones.
#pragma once

#include "arch/base/config.hpp"
#include "arch/base/fixed_list.hpp"
#include "arch/base/types.hpp"

namespace loft {

// Copies `bytes` (4 KiB at most) of physical memory; false if this kernel cannot reach them.
using PhysicalReader = bool (*)(PhysAddr from, void* to, u32 bytes);

// Called for each memory range that holds firmware data.
using RangeFound = void (*)(PhysAddr begin, u32 bytes, const char* what);

// The signal mode of an interrupt line (MultiProcessor Specification 1.4, table 4-10; ACPI 6.5, table 5.26): two bits
// each for polarity and trigger; 0 means the bus's default.
struct LineMode {
    u16 flags = 0;
    constexpr bool active_low() const { return (flags & 3) == 3; }
    constexpr bool level() const { return (flags >> 2 & 3) == 3; }
    // The same with the defaults of the PCI bus, level and active low, in place of those of the ISA bus.
    constexpr LineMode of_pci() const {
        return {static_cast<u16>(flags | ((flags & 3) == 0 ? 3 : 0) | ((flags >> 2 & 3) == 0 ? 3 << 2 : 0))};
    }
};

struct CpuTopology {
    struct IoApic {
        u8 id = 0;
        PhysAddr address{};
        u32 first_gsi = 0; // the global system interrupt of input 0
    };
    // An ISA interrupt that differs from the default: the input of its number, edge triggered, active high.
    struct Override {
        u8 irq = 0;
        u32 gsi = 0;
        LineMode mode{};
    };
    // A pin of a local APIC, 0 or 1, that receives NMIs.
    struct LocalNmi {
        static constexpr u32 kEvery = 0xffff'ffff;
        u32 lapic_id = kEvery; // kEvery: of all CPUs
        u8 pin = 1;
        LineMode mode{};
    };
    // An I/O APIC input that delivers an NMI.
    struct NmiSource {
        u32 gsi = 0;
        LineMode mode{};
    };

    const char* source = "nothing";            // "ACPI", "MP tables"
    FixedList<u8, config::kMaxCpus> lapic_ids; // index: CpuId; the boot CPU first, then in the firmware's order
    FixedList<IoApic, 8> io_apics;             // those with global system interrupt 0: ISA interrupts arrive there
    FixedList<PhysAddr, 32> other_io_apics;    // not used; their inputs are masked
    u32 io_apics_listed = 0;
    FixedList<Override, 16> overrides;
    FixedList<LocalNmi, 2 * (config::kMaxCpus + 1)> local_nmis;
    FixedList<NmiSource, 16> nmi_sources;
    bool has_imcr = false;    // "PIC mode": the 8259 bypasses the local APIC until the IMCR is written
    u32 disabled_cpus = 0;    // listed as not usable
    u32 unreachable_cpus = 0; // APIC ids from 255 on: they need x2APIC mode
    u32 surplus_cpus = 0;     // more than config::kMaxCpus

    // Each ignores duplicates and unusable items; what remains always fits.
    void add_io_apic(const IoApic& io_apic);
    void add_override(const Override& over);                    // the first one for an interrupt counts
    void add_local_nmi(const LocalNmi& nmi);                    // of a CPU in lapic_ids, or of all CPUs
    [[nodiscard]] bool add_nmi_source(const NmiSource& source); // false: the list is full

    // The input at which an ISA interrupt (0 to 15) arrives, and its signal mode.
    struct IsaLine {
        static constexpr u32 kNowhere = 0xffff'ffff; // as gsi: another interrupt uses the input of this number
        u32 gsi = kNowhere;
        LineMode mode{};
    };
    IsaLine isa_line(u32 irq) const;

    // The boot CPU is CPU 0 whatever the firmware lists; duplicate ids are ignored.
    void add_cpu(u32 lapic_id, bool enabled);
};

} // namespace loft
