// The two 8259s (Intel 8259A data sheet). Contract: pic.hpp.
#include "arch/i386/irq/pic.hpp"

#include "arch/i386/irq/traps.hpp"
#include "arch/i386/isa/control.hpp"

namespace loft {
namespace {

struct Chip {
    u16 command, data;
};
constexpr Chip kMaster{0x20, 0x21}, kSlave{0xa0, 0xa1};
constexpr u32 kCascade = 2; // the master's input to which the slave is connected

constexpr u8 kIcw1 = 0x11; // edge triggered, cascaded, ICW4 follows
constexpr u8 kIcw4 = 0x01; // 8086 mode, end of interrupt by command
constexpr u8 kEndOfInterrupt = 0x20, kReadRequests = 0x0a, kReadInService = 0x0b;

constinit u16 masked = 0xffff;

void write_masks() {
    out8(kMaster.data, static_cast<u8>(masked));
    out8(kSlave.data, static_cast<u8>(masked >> 8));
}

void initialise(Chip chip, u8 first_vector, u8 cascade) {
    out8(chip.command, kIcw1);
    out8(chip.data, first_vector);
    out8(chip.data, cascade);
    out8(chip.data, kIcw4);
}

// A request that disappeared before the CPU acknowledged it is delivered as the chip's last input, without an
// in-service bit (data sheet, "Spurious interrupts"). It needs no end-of-interrupt; but if it came from the slave, the
// master, which saw a real request, does.
bool in_service(Chip chip, u32 input) {
    out8(chip.command, kReadInService);
    return in8(chip.command) >> input & 1;
}
void last_of_chip(u32 irq) {
    if (!pic_is_real(irq)) return;
    pic_eoi(irq);
    note_spurious_interrupt();
}

} // namespace

void pic_init() {
    initialise(kMaster, vector::pic_base, 1 << kCascade);
    initialise(kSlave, vector::pic_base + 8, kCascade);
    write_masks();
    trap_set_handler(vector::pic_irq7, [](TrapFrame&) { last_of_chip(7); });
    trap_set_handler(vector::pic_irq15, [](TrapFrame&) { last_of_chip(15); });
}

void pic_unmask(u32 irq) {
    masked &= static_cast<u16>(~(1u << irq));
    if (irq >= 8) masked &= static_cast<u16>(~(1u << kCascade));
    write_masks();
}

void pic_mask(u32 irq) {
    masked |= static_cast<u16>(1u << irq);
    write_masks();
}

void pic_eoi(u32 irq) {
    if (irq >= 8) out8(kSlave.command, kEndOfInterrupt);
    out8(kMaster.command, kEndOfInterrupt);
}

bool pic_is_real(u32 irq) {
    if (irq % 8 != 7 || in_service(irq < 8 ? kMaster : kSlave, 7)) return true;
    if (irq >= 8) out8(kMaster.command, kEndOfInterrupt);
    note_spurious_interrupt();
    return false;
}

void pic_make_level(u32 irq) {
    constexpr u16 kEdgeLevelControl = 0x4d0;
    const u16 port = static_cast<u16>(kEdgeLevelControl + irq / 8);
    out8(port, static_cast<u8>(in8(port) | 1u << irq % 8));
}

bool pic_has_pending(u32 irq) {
    const Chip chip = irq < 8 ? kMaster : kSlave;
    out8(chip.command, kReadRequests);
    return in8(chip.command) >> irq % 8 & 1;
}

} // namespace loft
