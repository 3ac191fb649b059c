// Prints to all three outputs. Contract: console.hpp.
#include "arch/i386/io/console.hpp"

#include "arch/i386/io/serial.hpp"
#include "arch/i386/io/vga.hpp"
#include "arch/i386/isa/control.hpp"

namespace loft {
namespace {
constexpr u16 kDebugPort = 0xe9; // Bochs, QEMU's -debugcon
}

void console_init() {
    serial::init();
    vga::init();
}

void console_write(std::string_view text) {
    for (char c : text) {
        out8(kDebugPort, static_cast<u8>(c));
        if (c == '\n') serial::put('\r');
        serial::put(c);
    }
    vga::write(text);
}

void console_flush() { serial::flush(); }
int console_getc() { return serial::get(); }

} // namespace loft
