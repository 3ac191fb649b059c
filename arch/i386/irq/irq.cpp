// ISA interrupts. Contract: irq.hpp.
#include "arch/i386/irq/irq.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/firmware/topology.hpp"
#include "arch/i386/irq/ioapic.hpp"
#include "arch/i386/irq/lapic.hpp"
#include "arch/i386/irq/pic.hpp"
#include "arch/i386/isa/control.hpp"

#include <algorithm>
#include <array>

namespace loft {
namespace {

constexpr u32 kIrqs = 16;
constexpr u32 kCascadeIrq = 2; // between the two 8259s: no device uses it, and the timer may be on this input
constexpr u32 kNowhere = 0xffff'ffff;

constinit bool through_io_apic = false;
constinit std::array<u32, kIrqs> input_of{}; // of the I/O APIC
constinit std::array<LineMode, kIrqs> mode_of{};

// Leaves "PIC mode" by the interrupt mode configuration register (MultiProcessor Specification 1.4, 3.6.2.1).
void leave_pic_mode() {
    constexpr u16 kImcrSelect = 0x22, kImcrData = 0x23;
    out8(kImcrSelect, 0x70);
    out8(kImcrData, 0x01);
}

// If the firmware assigns an input twice, the first interrupt gets it; the timer comes first.
void route(const CpuTopology& topology, u32 irq) {
    const CpuTopology::IsaLine line = topology.isa_line(irq);
    if (line.gsi >= io_apic_inputs() || std::find(input_of.begin(), input_of.end(), line.gsi) != input_of.end()) return;
    input_of[irq] = line.gsi;
    mode_of[irq] = line.mode;
    io_apic_route(line.gsi, line.mode, lapic_id(), irq_vector(irq));
}

} // namespace

void irq_init() { pic_init(); }

void irq_use_io_apic(const CpuTopology& topology, PhysAddr address) {
    input_of.fill(kNowhere);
    for (u32 irq = 0; irq < kIrqs; ++irq)
        if (irq != kCascadeIrq) route(topology, irq);
    for (const CpuTopology::NmiSource& nmi : topology.nmi_sources)
        if (nmi.gsi < io_apic_inputs() && nmi.gsi != input_of[kTimerIrq])
            io_apic_route_nmi(nmi.gsi, nmi.mode, lapic_id());
    if (topology.has_imcr) leave_pic_mode();
    lapic_leave_virtual_wire(topology); // all inputs of the 8259s are masked
    through_io_apic = true;
    log(LogLevel::info, "irq", "I/O APIC at {}: {} inputs, the timer is on {}", address, io_apic_inputs(),
        input_of[kTimerIrq]);
}

const char* irq_controller() { return through_io_apic ? "I/O APIC" : "8259"; }

void irq_unmask(u32 irq) {
    if (!through_io_apic)
        pic_unmask(irq);
    else if (input_of[irq] != kNowhere)
        io_apic_unmask(input_of[irq]);
}

void irq_mask(u32 irq) {
    if (!through_io_apic)
        pic_mask(irq);
    else if (input_of[irq] != kNowhere)
        io_apic_mask(input_of[irq]);
}

bool irq_is_connected(u32 irq) { return !through_io_apic || input_of[irq] != kNowhere; }

// At the 8259 the signal is active high: the board inverts it.
void irq_make_level(u32 irq) {
    if (!through_io_apic)
        pic_make_level(irq);
    else if (input_of[irq] != kNowhere)
        io_apic_route(input_of[irq], mode_of[irq].of_pci(), cpu_lapic_id(CpuId{0}), irq_vector(irq));
}

bool irq_is_real(u32 irq) { return through_io_apic || pic_is_real(irq); }

void irq_eoi(u32 irq) {
    if (through_io_apic)
        lapic_eoi();
    else
        pic_eoi(irq);
}

bool irq_has_pending(u32 irq) { return through_io_apic ? lapic_has_pending(irq_vector(irq)) : pic_has_pending(irq); }

} // namespace loft
