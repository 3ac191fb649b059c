// The 8254 (Intel 8254 data sheet). Contract: pit.hpp.
#include "arch/i386/io/pit.hpp"

#include "arch/i386/isa/control.hpp"

namespace loft {
namespace {
constexpr u16 kChannel0 = 0x40, kChannel2 = 0x42, kCommand = 0x43;
constexpr u8 kRateGenerator = 0x34;           // channel 0, low then high byte, mode 2: periodic
constexpr u8 kSelect2 = 0x80, kLatch2 = 0x80; // latch: hold the count until both bytes are read

constexpr u16 kGatePort = 0x61; // gate of channel 2, and speaker
constexpr u8 kGate2 = 1 << 0, kSpeaker = 1 << 1;

void load_divisor(u16 channel, u8 command, u16 divisor) {
    out8(kCommand, command);
    out8(channel, static_cast<u8>(divisor));
    out8(channel, static_cast<u8>(divisor >> 8));
}
} // namespace

void pit_start_counter() {
    const u8 control = in8(kGatePort);
    out8(kGatePort, static_cast<u8>((control & ~kSpeaker) | kGate2));
    load_divisor(kChannel2, kRateGenerator | kSelect2, 0); // 0 means 65536
}

u16 pit_read_counter() {
    out8(kCommand, kLatch2);
    const u8 low = in8(kChannel2);
    return static_cast<u16>(low | in8(kChannel2) << 8);
}

void pit_start_tick(u16 divisor) { load_divisor(kChannel0, kRateGenerator, divisor); }

} // namespace loft
