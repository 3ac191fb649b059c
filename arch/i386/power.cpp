// Stopping. Contract: power.hpp.
#include "arch/i386/power.hpp"

#include "arch/i386/control.hpp"

#include <string_view>

namespace loft {
namespace {
constexpr u16 kQemuExitPort = 0xf4; // -device isa-debug-exit,iobase=0xf4
constexpr u16 kBochsShutdownPort = 0x8900;
constexpr std::string_view kBochsShutdown = "Shutdown"; // a byte at a time
} // namespace

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
