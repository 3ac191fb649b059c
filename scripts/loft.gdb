# Configures gdb for a kernel in QEMU; scripts/gdb and scripts/gdb-test load it. `help user-defined` lists loft's commands.
set architecture i386
set pagination off
set confirm off
set print pretty on
set print static-members off
set disassembly-flavor intel
# Backtraces end at the entry of the kernel, not in the boot code.
set backtrace past-main off
source scripts/loft-gdb.py
