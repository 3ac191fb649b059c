// COM1. Contract: serial.hpp.
#include "arch/i386/serial.hpp"

#include "arch/i386/control.hpp"

namespace loft::serial {
namespace {

// Registers of the 16550 (TI PC16550D data sheet, table 1).
constexpr u16 kCom1 = 0x3f8;
constexpr u16 kData = kCom1, kInterrupts = kCom1 + 1, kFifo = kCom1 + 2, kLine = kCom1 + 3,
              kModem = kCom1 + 4, kStatus = kCom1 + 5;
constexpr u16 kDivisorLow = kCom1, kDivisorHigh = kCom1 + 1; // while kDivisorAccess is set
constexpr u8 kDivisorAccess = 0x80, k8N1 = 0x03, kDtrRts = 0x03, kFifoOnAndEmpty = 0x07, kHasFifo = 0xc0;
constexpr u8 kReceived = 1 << 0, kSendEmpty = 1 << 5;
constexpr u8 kNothingThere = 0xff; // what a bus without a device answers
constexpr u32 kFifoBytes = 16;

// At 115200 baud a full FIFO takes 1.4 ms; a read of the port takes a microsecond.
constexpr u32 kPolls = 20'000;

constinit bool present = false;
constinit u32 fifo_bytes = 1;
constinit u32 room = 0; // bytes that the transmitter takes without being asked again

bool wait_until_empty() {
    for (u32 i = 0; i < kPolls; ++i)
        if (in8(kStatus) & kSendEmpty) return true;
    return false;
}

} // namespace

void init() {
    out8(kInterrupts, 0);
    out8(kLine, kDivisorAccess);
    out8(kDivisorLow, 1);
    out8(kDivisorHigh, 0);
    out8(kLine, k8N1);
    out8(kFifo, kFifoOnAndEmpty);
    out8(kModem, kDtrRts);
    present = in8(kStatus) != kNothingThere;
    fifo_bytes = (in8(kFifo) & kHasFifo) == kHasFifo ? kFifoBytes : 1;
}

void put(char c) {
    if (!present) return;
    if (room == 0) {
        present = wait_until_empty();
        if (!present) return;
        room = fifo_bytes;
    }
    --room;
    out8(kData, static_cast<u8>(c));
}

int get() { return present && (in8(kStatus) & kReceived) ? in8(kData) : -1; }

} // namespace loft::serial
