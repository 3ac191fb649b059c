# The source files of kernels, programs and host tests.

# The C++ and assembly files of some folders, at any depth.
sources-of     = $(sort $(shell find $(1) -name '.*' -prune -o '(' -name '*.cpp' -o -name '*.asm' ')' -print))
KERNEL_SOURCES := $(sort $(call sources-of,boot arch/base arch/i386 mm kernel tests/guest))
# Each program is one file; these two are linked into each of them.
USER_PARTS     := start.asm user.cpp
USER_CXX       := $(sort $(filter-out $(USER_PARTS),$(notdir $(wildcard tests/user/*.cpp))))
USER_ASM       := $(sort $(filter-out $(USER_PARTS),$(notdir $(wildcard tests/user/*.asm))))
USER_LIBC      := $(sort $(notdir $(wildcard tests/user/libc/*.c)))
USER_PROGRAMS  := $(addprefix $(BUILD)/user/,$(basename $(USER_CXX) $(USER_ASM) $(USER_LIBC)))
# Besides mm: file systems, and the code that reads the tables of loader and firmware.
HOST_SOURCES   := $(sort $(call sources-of,arch/base mm kernel/tree kernel/ext2 $(filter-out tests/sim/kernel,$(wildcard tests/sim/*)) tests/host) \
                  $(wildcard arch/i386/firmware/*.cpp) kernel/boot/in_use.cpp kernel/boot/multiboot.cpp)
# The kernel's threads and programs over the simulated machine: they are the threads of mm there, instead of tests/sim/threads.cpp.
# The date needs a clock chip; there are no boot modules.
THREAD_SOURCES := $(sort $(filter-out tests/sim/threads.cpp kernel/threads/clock.cpp kernel/programs/programs.cpp kernel/files/archive.cpp,$(call \
                  sources-of,arch/base mm tests/sim kernel/threads kernel/tree kernel/ext2 kernel/files kernel/programs tests/threads)) tests/host/booted.cpp \
                  $(addprefix arch/i386/,cpu/tls.cpp irq/smp.cpp irq/traps.cpp irq/user_mode.cpp) $(addprefix kernel/,boot/random.cpp \
                  boot/smp.cpp report/nmi.cpp))
