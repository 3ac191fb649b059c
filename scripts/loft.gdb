# Sets gdb up for a kernel in QEMU: scripts/gdb and scripts/gdb-test load this. `help user-defined` lists loft's commands.
set architecture i386
set pagination off
set confirm off
set print pretty on
set print static-members off
set disassembly-flavor intel
# Frames end at the entry of the kernel, not in the boot code.
set backtrace past-main off
source scripts/loft-gdb.py
