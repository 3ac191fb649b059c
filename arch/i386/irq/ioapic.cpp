// The I/O APIC. Contract: ioapic.hpp.
#include "arch/i386/irq/ioapic.hpp"

namespace loft {
namespace {

// Two memory-mapped registers: the index of another register, and its contents (data sheet, 3.1).
constexpr u32 kSelect = 0x00, kWindow = 0x10;
constexpr u32 kVersion = 0x01; // bits 16-23: number of the last input
constexpr u32 low_of(u32 input) { return 0x10 + 2 * input; }
constexpr u32 high_of(u32 input) { return low_of(input) + 1; }

// An entry of the redirection table, low half (3.2.4).
constexpr u32 kInputNmi = 4 << 8, kInputActiveLow = 1 << 13, kInputLevel = 1 << 15, kInputMasked = 1 << 16;

constinit VirtAddr io_registers{};
constinit u32 inputs = 0;

volatile u32& at(u32 offset) { return *reinterpret_cast<volatile u32*>(io_registers.value() + offset); }
u32 read(u32 reg) {
    at(kSelect) = reg;
    return at(kWindow);
}
void write(u32 reg, u32 value) {
    at(kSelect) = reg;
    at(kWindow) = value;
}

// Masked while the two halves are inconsistent.
void route(u32 input, u32 low, u32 lapic_id) {
    write(low_of(input), kInputMasked);
    write(high_of(input), lapic_id << 24);
    write(low_of(input), low);
}

u32 mode_bits(LineMode mode) { return (mode.active_low() ? kInputActiveLow : 0) | (mode.level() ? kInputLevel : 0); }

} // namespace

// Checks that the select register keeps eight bits, that the version's reserved bits are 0 (3.2.2), and that an entry
// keeps its vector.
bool io_apic_answers(VirtAddr mapped) {
    constexpr u32 kReservedOfVersion = 0xff00'7f00, kMostInputs = 240;
    const VirtAddr before = io_registers;
    io_registers = mapped;
    at(kSelect) = kVersion;
    const bool selects = (at(kSelect) & 0xff) == kVersion;
    const u32 version = at(kWindow), last = version >> 16 & 0xff;
    bool answers = selects && version != 0 && (version & kReservedOfVersion) == 0 && last < kMostInputs;
    for (u32 vector = 0x55; answers && vector <= 0xaa; vector += 0x55) {
        write(low_of(last), kInputMasked | vector);
        answers = (read(low_of(last)) & (kInputMasked | 0xff)) == (kInputMasked | vector);
    }
    io_registers = before;
    return answers;
}

void io_apic_init(VirtAddr mapped) {
    io_registers = mapped;
    inputs = (read(kVersion) >> 16 & 0xff) + 1;
    for (u32 input = 0; input < inputs; ++input)
        write(low_of(input), kInputMasked);
}

u32 io_apic_inputs() { return inputs; }

void io_apic_route(u32 input, LineMode mode, u32 lapic_id, u8 vector) {
    route(input, kInputMasked | mode_bits(mode) | vector, lapic_id);
}

// Edge triggered whatever the firmware says: NMI delivery requires it (3.2.4, bits 8-10).
void io_apic_route_nmi(u32 input, LineMode mode, u32 lapic_id) {
    route(input, kInputNmi | (mode_bits(mode) & kInputActiveLow), lapic_id);
}

void io_apic_mask(u32 input) { write(low_of(input), read(low_of(input)) | kInputMasked); }
void io_apic_unmask(u32 input) { write(low_of(input), read(low_of(input)) & ~kInputMasked); }

} // namespace loft
