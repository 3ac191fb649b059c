// Stopping the machine; causes of NMIs. Contract: power.hpp.
#include "arch/i386/io/power.hpp"

#include "arch/i386/isa/control.hpp"

#include <string_view>

namespace loft {
namespace {
constexpr u16 kQemuExitPort = 0xf4; // -device isa-debug-exit,iobase=0xf4
constexpr u16 kBochsShutdownPort = 0x8900;
constexpr std::string_view kBochsShutdown = "Shutdown"; // written byte by byte
constexpr u16 kSystemControl = 0x61;
constexpr u8 kMemoryError = 1 << 7, kIoError = 1 << 6; // status
constexpr u8 kMemoryOff = 1 << 2, kIoOff = 1 << 3;     // control: setting and clearing acknowledges the error
constexpr u8 kControl = 0x0f;
} // namespace

const char* nmi_reason() {
    const u8 status = in8(kSystemControl);
    if (status == 0xff || !(status & (kMemoryError | kIoError))) return "NMI: the board reports no reason";
    out8(kSystemControl, static_cast<u8>((status & kControl) | kMemoryOff | kIoOff));
    out8(kSystemControl, static_cast<u8>(status & kControl & ~(kMemoryOff | kIoOff)));
    return status & kMemoryError ? "NMI: the memory or the bus reports an error (SERR#)"
                                 : "NMI: an I/O card reports an error (IOCHK#)";
}

void halt_forever() {
    for (;;)
        asm volatile("cli; hlt" ::: "memory");
}

void exit_qemu(u8 status) {
    out8(kQemuExitPort, status);
    for (char c : kBochsShutdown)
        out8(kBochsShutdownPort, static_cast<u8>(c));
}

} // namespace loft
