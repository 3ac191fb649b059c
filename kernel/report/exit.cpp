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
    // A refusal writes its status whatever the command line says; so does everything that ends before the
    // command line is known: a test that waits for `exit` must not wait for ever.
    console_flush(); // an emulator that ends takes what is still on its way with it
    if (wish != Wish::halt || status == ExitStatus::refused) exit_qemu(static_cast<u8>(status));
    // Still here: nobody listens.
    if (wish == Wish::exit)
        console_write(
            "exit: this machine has nothing that ends it (in QEMU: -device isa-debug-exit,iobase=0xf4,iosize=4)\n");
    console_write("halted (in QEMU, Ctrl-A X leaves)\n");
    console_flush();
    halt_forever();
}

} // namespace loft
