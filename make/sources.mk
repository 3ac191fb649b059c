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

# By g++ the files of a room are one unit: all of them need the same headers, and the same functions of these, so a unit takes
# half of the work, or less. A name may occur once in a room. By clang each file is compiled by itself: there, one that
# misses an include, or a name, does not compile.
# In a unit of their own: what the compiler calls, and what is in one program of the host only.
BY_ITSELF := arch/i386/cpu/runtime.cpp tests/sim/threads.cpp
# $(call of-room,room,files): those of them that lie in that folder itself.
of-room   = $(filter-out $(BY_ITSELF),$(foreach file,$(filter $(1)/%.cpp,$(2)),$(if $(filter $(1)/,$(dir $(file))),$(file))))
# $(call units,rooms,files): the units of the rooms that have some of the files, and the other files.
in-rooms  = $(foreach room,$(1),$(call of-room,$(room),$(2)))
units     = $(filter-out $(call in-rooms,$(1),$(2)),$(2)) $(foreach room,$(1),$(if $(call of-room,$(room),$(2)),$(room).unit))
# $(call unit-rules,folder,unit,files): the text of a unit.
define unit-rules
$(BUILD)/$(1)/$(2).cpp: FORCE
	@mkdir -p $$(@D)
	@printf '#include "%s"\n' $(3) | scripts/update-file $$@
endef
