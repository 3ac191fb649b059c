// How a boot ends.
#include "kernel/report/exit.hpp"

#include "arch/i386/io/console.hpp"

namespace loft {
namespace {

enum class Wish : u8 { unknown, halt, exit };
constinit Wish wish = Wish::unknown;

} // namespace

void set_exit(bool wanted) { wish = wanted ? Wish::exit : Wish::halt; }

void end_of_boot(ExitStatus status) {
    // Before the command line is known, and for a refusal, write the status anyway: a test runner that waits for QEMU
    // to exit must not wait forever.
    console_flush(); // when an emulator exits, unsent output is lost
    if (wish != Wish::halt || status == ExitStatus::refused) exit_qemu(static_cast<u8>(status));
    // Still running: there is no exit device.
    if (wish == Wish::exit)
        console_write("exit: this machine has no exit device (in QEMU: -device isa-debug-exit,iobase=0xf4,iosize=4)\n");
    console_write("halted (in QEMU, Ctrl-A X leaves)\n");
    console_flush();
    halt_forever();
}

} // namespace loft
