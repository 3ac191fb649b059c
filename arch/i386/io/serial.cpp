// COM1. Contract: serial.hpp.
#include "arch/i386/io/serial.hpp"

#include "arch/base/format.hpp"
#include "arch/i386/isa/control.hpp"

#include <hal/clock.hpp>
#include <hal/cpu.hpp>

namespace loft::serial {
namespace {

// Registers of the 16550 (TI PC16550D data sheet, table 1).
constexpr u16 kCom1 = 0x3f8;
constexpr u16 kData = kCom1, kInterrupts = kCom1 + 1, kFifo = kCom1 + 2, kLine = kCom1 + 3, kModem = kCom1 + 4,
              kStatus = kCom1 + 5;
constexpr u16 kDivisorLow = kCom1, kDivisorHigh = kCom1 + 1; // while kDivisorAccess is set
constexpr u8 kDivisorAccess = 0x80, k8N1 = 0x03, kDtrRts = 0x03, kFifoOnAndEmpty = 0x07, kHasFifo = 0xc0;
constexpr u8 kReceived = 1 << 0, kSendEmpty = 1 << 5, kAllSent = 1 << 6;
constexpr u8 kNothingThere = 0xff; // value read from a bus without a device
constexpr u32 kFifoBytes = 16;

// At 115200 baud a full FIFO takes 1.4 ms; a read of the port takes a microsecond.
constexpr u32 kPolls = 20'000;
constexpr u32 kPatienceMs = 5'000;

constinit bool present = false;
constinit u32 fifo_bytes = 1;
constinit u32 room = 0;         // bytes that may be written before the status must be checked again
constinit bool stalled = false; // the time limit has expired
constinit bool line_begins = true;
constinit u32 lost = 0; // bytes lost since the stall; stays at its limit

bool has(u8 bit) { return (in8(kStatus) & bit) != 0; }

bool wait_for(u8 bit) {
    for (u32 i = 0; i < kPolls; ++i)
        if (has(bit)) return true;
    if (stalled) return false;
    const hal::Deadline patience = hal::deadline(kPatienceMs);
    while (!has(bit)) {
        if (patience.expired()) return false;
        hal::cpu_relax(); // meanwhile answers flush requests of other CPUs
    }
    return true;
}

void count_lost() { lost += lost != ~u32{0}; }

void send(char c) {
    if (room == 0) {
        if (!wait_for(kSendEmpty)) {
            stalled = true;
            count_lost();
            return;
        }
        room = fifo_bytes;
    }
    --room;
    out8(kData, static_cast<u8>(c));
}

class Line final : public Sink {
  public:
    void write(std::string_view text) override {
        for (const char c : text)
            send(c);
    }
};

void tell_what_was_lost() {
    const u32 count = lost;
    lost = 0;
    stalled = false;
    Line line;
    format(line, "\r\n[serial: {} bytes are lost here: the reader took none for {} seconds]\r\n", count,
           kPatienceMs / 1000);
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
    // After its FIFO was emptied a UART is ready to send; otherwise it is missing or broken.
    present = in8(kStatus) != kNothingThere;
    for (u32 i = 0; present && !has(kSendEmpty); ++i)
        present = i < kPolls;
    fifo_bytes = (in8(kFifo) & kHasFifo) == kHasFifo ? kFifoBytes : 1;
}

void put(char c) {
    if (!present) return;
    if (stalled && line_begins && has(kSendEmpty)) {
        room = fifo_bytes;
        tell_what_was_lost();
    }
    line_begins = c == '\n';
    if (stalled)
        count_lost();
    else
        send(c);
}

void flush() {
    if (!present) return;
    const u32 count = lost;
    stalled = false; // wait again, with the full limit
    if (count != 0 && wait_for(kSendEmpty)) {
        room = fifo_bytes;
        tell_what_was_lost();
    }
    static_cast<void>(wait_for(kAllSent));
}

int get() { return present && has(kReceived) ? in8(kData) : -1; }

} // namespace loft::serial
