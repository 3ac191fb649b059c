# Builds loft. `make help` lists the goals and variables.
#
# The name of a kernel is its configuration, which is also the name of its folder:
#     build/<highmem>[-highpte]-<up|smp>[-preempt][-debug][-clang]/loft.elf
# The name determines all of a kernel's options, so one make can build any set of kernels. The host tests (mm on the
# simulated machine) are built the same way: build/host-<highmem>[-debug][-asan]/host-tests.

# ---------------------------------------------------------------------------------------------- what can be chosen
HIGHMEM ?= 64g
HIGHPTE ?= $(if $(filter off,$(HIGHMEM)),0,1)
SMP     ?= 1
PREEMPT ?= 1
DEBUG   ?= 0
MEM     ?= 4G
APPEND  ?=
ACCEL   ?= tcg
QEMU    ?=
ICOUNT  ?=
BENCH   ?= boot,paths

# CXX is used only from make's command line; one in the environment is meant for the host.
ifneq ($(origin CXX),command line)
CXX := i686-linux-gnu-g++
endif
ifeq ($(origin CXX)$(filter i686-linux-gnu-g++ clang++,$(CXX)),command line)
# A compiler that setup does not install: check that it exists, and its target. clang has all targets.
ifeq ($(shell command -v '$(firstword $(CXX))'),)
$(error CXX=$(CXX): there is no such program; give i686-linux-gnu-g++ or clang++)
endif
ifeq ($(findstring clang,$(CXX)),)
ifeq ($(filter i386-% i486-% i586-% i686-%,$(shell $(CXX) -dumpmachine 2>/dev/null)),)
$(error CXX=$(CXX) compiles for $(or $(shell $(CXX) -dumpmachine 2>/dev/null),an unknown machine), and loft runs on i386: give i686-linux-gnu-g++ or clang++)
endif
endif
endif
GCC      := $(if $(findstring clang,$(CXX)),i686-linux-gnu-g++,$(CXX))
CLANG    := $(if $(findstring clang,$(CXX)),$(CXX),clang++)
HOST_CXX := g++
NASM     := nasm

# Report unknown names before the build. An unknown goal may be the name of a folder, which make would call up to date. An
# unknown variable would be set, and never used.
GOALS     := all help setup run run-iso gdb iso check test test-host test-guest test-matrix test-alone test-cpus test-flushes \
    test-mutants bench bench-linux bench-cost linux-answers bench-listing bench-update format clean
VARIABLES := HIGHMEM HIGHPTE SMP PREEMPT DEBUG CXX MEM APPEND ACCEL QEMU CPU ICOUNT ISO BENCH V
UNKNOWN   := $(filter-out $(GOALS) build/% print-compiler-% compile_commands.json Makefile FORCE,$(MAKECMDGOALS))
ifneq ($(UNKNOWN),)
$(error $(or $(shell scripts/closest goal '$(firstword $(UNKNOWN))' $(GOALS)),make $(firstword $(UNKNOWN)): there is no such goal))
endif
UNKNOWN   := $(filter-out $(VARIABLES),$(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name))))
ifneq ($(UNKNOWN),)
# The other variables of this Makefile may be set, too.
UNKNOWN   := $(filter-out $(shell sed -nE 's/^([A-Za-z_-]+) *[?:+]*=.*/\1/p' Makefile),$(UNKNOWN))
endif
ifneq ($(UNKNOWN),)
$(error $(or $(shell scripts/closest variable '$(firstword $(UNKNOWN))' $(VARIABLES)),$(firstword $(UNKNOWN))=: nothing here reads it))
endif
# Goals that write need a writable folder.
ifneq ($(filter-out help clean format,$(or $(MAKECMDGOALS),all)),)
ifeq ($(shell mkdir -p build 2>/dev/null && test -w build && echo yes),)
$(error $(CURDIR)/build cannot be written, and all goals write there: work in a copy of this folder that you own)
endif
endif

without-digits = $(subst 0,,$(subst 1,,$(subst 2,,$(subst 3,,$(subst 4,,$(subst 5,,$(subst 6,,$(subst 7,,$(subst \
    8,,$(subst 9,,$(1)))))))))))
ifneq ($(if $(SMP),$(call without-digits,$(SMP)),x),)
$(error SMP=$(SMP): 0 builds a uniprocessor kernel, any other number an SMP kernel; `make run` starts that many processors)
endif
ifeq ($(filter $(HIGHMEM),off 4g 64g),)
$(error HIGHMEM=$(HIGHMEM): choose off, 4g or 64g)
endif
ifneq ($(filter-out 0 1,$(HIGHPTE) $(PREEMPT) $(DEBUG)),)
$(error HIGHPTE, PREEMPT and DEBUG are 0 or 1)
endif
ifeq ($(HIGHMEM)$(HIGHPTE),off1)
$(error HIGHPTE=1 puts page tables into high memory: it needs HIGHMEM=4g or 64g)
endif

# Names. SMP=0 is a uniprocessor kernel, any other number an SMP kernel.
word-if  = $(if $(filter 1,$(2)),-$(1))
NAME    := $(HIGHMEM)$(call word-if,highpte,$(HIGHPTE))-$(if $(filter 0,$(SMP)),up,smp)$(call \
           word-if,preempt,$(PREEMPT))$(call word-if,debug,$(DEBUG))$(if $(findstring clang,$(CXX)),-clang)
DEFAULT := 64g-highpte-smp-preempt
KERNEL  := build/$(NAME)/loft.elf
ISO     := $(if $(filter $(DEFAULT),$(NAME)),build/loft.iso,build/$(NAME)/loft.iso)

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-builtin-variables --no-print-directory
Q         := $(if $(filter 1,$(V)),,@)

# ------------------------------------------------------------------------------------------------------- what there is
sources-of     = $(wildcard $(foreach room,$(1),$(room)/*.cpp $(room)/*.asm $(room)/*/*.cpp $(room)/*/*.asm))
KERNEL_SOURCES := $(sort $(call sources-of,boot arch/base arch/i386 mm kernel tests/guest))
# Each program is one file; these two are linked into each of them.
USER_PARTS     := start.asm user.cpp
USER_CXX       := $(sort $(filter-out $(USER_PARTS),$(notdir $(wildcard tests/user/*.cpp))))
USER_ASM       := $(sort $(filter-out $(USER_PARTS),$(notdir $(wildcard tests/user/*.asm))))
USER_LIBC      := $(sort $(notdir $(wildcard tests/user/libc/*.c)))
USER_PROGRAMS  := $(addprefix build/user/,$(basename $(USER_CXX) $(USER_ASM) $(USER_LIBC)))
# Besides mm: the code that reads the tables of loader and firmware.
HOST_SOURCES   := $(sort $(call sources-of,arch/base mm tests/sim tests/host) \
                  $(wildcard arch/i386/firmware/*.cpp) kernel/boot/in_use.cpp kernel/boot/multiboot.cpp)

# ----------------------------------------------------------------------------------------------------------- how: flags
WARNINGS := -Wall -Wextra -Werror

KERNEL_FLAGS := -std=c++20 -ffreestanding -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-stack-protector \
    -fno-pic -fno-pie -fno-asynchronous-unwind-tables -fno-strict-aliasing -freg-struct-return -O2 -g -march=i686 -mtune=generic \
    -fno-omit-frame-pointer -momit-leaf-frame-pointer $(WARNINGS) -I. -Iarch/i386 -isystem build/include
# Objects on the stack need only word alignment: without padding to 16 bytes.
GCC_FLAGS    := -mgeneral-regs-only -mpreferred-stack-boundary=2
# clang's -mgeneral-regs-only (and -mno-80387) reject libstdc++'s headers; scripts/check-kernel detects what these flags
# permit. -Wthread-safety: arch/base/thread_safety.hpp.
CLANG_FLAGS  := --target=i686-linux-gnu -Wthread-safety -mno-implicit-float -mno-sse -mno-mmx
# Without -g: gdb rejects NASM's line numbers for a file with several sections; symbols are sufficient.
NASM_FLAGS   := -f elf32 -I./ -Werror
LINK_FLAGS   := -nostdlib -static -no-pie -T linker.ld -Wl,-z,noexecstack -Wl,--fatal-warnings -Wl,--build-id=none
# Programs: ring 3, no library, linked at the traditional address of i386 programs.
USER_FLAGS   := -std=c++20 -ffreestanding -fno-exceptions -fno-rtti -fno-stack-protector -fno-pic -fno-pie \
    -fno-asynchronous-unwind-tables -fno-threadsafe-statics -O2 -g -march=i686 $(WARNINGS) -I.
USER_LINK    := -nostdlib -static -no-pie -T tests/user/program.ld -Wl,-z,noexecstack -Wl,--build-id=none
# Programs with the C library: ordinary static binaries.
LIBC_FLAGS   := -O2 -static -no-pie -s $(WARNINGS)
HOST_FLAGS   := -std=c++20 -g1 $(WARNINGS) -I. -Itests/sim

# Parsing a name: $(call has,word,name), and the macros for arch/base/config.hpp.
has     = $(filter $(1),$(subst -, ,$(2)))
one-if  = $(if $(1),1,0)
defines = -DLOFT_HIGHMEM=$(if $(call has,64g,$(1)),64,$(if $(call has,4g,$(1)),4,0)) \
    -DLOFT_HIGHPTE=$(call one-if,$(call has,highpte,$(1))) -DLOFT_SMP=$(call one-if,$(call has,smp,$(1))) \
    -DLOFT_PREEMPT=$(call one-if,$(call has,preempt,$(1))) -DLOFT_DEBUG=$(call one-if,$(call has,debug,$(1)))

# NASM does not read config.hpp.
nasm-defines = $(call defines,$(1)) -DLOFT_PAE=$(call one-if,$(call has,64g,$(1)))

kernel-cxx = $(if $(call has,clang,$(1)),$(CLANG) $(CLANG_FLAGS),$(GCC) $(GCC_FLAGS)) $(KERNEL_FLAGS) \
    $(call defines,$(1))

# The host's kernels have every axis on: the simulated machine has several CPUs.
host-defines = $(call defines,$(1)-smp-preempt$(if $(call has,off,$(1)),,-highpte))
# The sanitized builds also count lines, so coverage needs no separate build.
host-mode    = -O1 $(if $(call has,asan,$(1)),-fno-omit-frame-pointer -fsanitize=address$(,)undefined \
    -fno-sanitize-recover=all --coverage)
host-cxx     = $(HOST_CXX) $(HOST_FLAGS) $(call host-mode,$(1)) $(call host-defines,$(1))
,           := ,

# The standard and Boost headers take longer to parse than the files that include them. So they are precompiled once for each
# set of flags, and included first in every file except runtime.cpp. The clang kernel is compiled without this: there, a file
# that misses an include does not compile.
library = grep -hrE --include='*.[ch]pp' '^.include <(boost/.*|[a-z_]+)>' $(1) | LC_ALL=C sort -u

# --------------------------------------------------------------------------------------------------------- how: a kernel
define kernel-rules
objects-$(1) := $$(KERNEL_SOURCES:%=build/$(1)/%.o)

build/$(1)/flags: FORCE
	@mkdir -p $$(@D)
	@echo '$$(call kernel-cxx,$(1)) $$(NASM_FLAGS)' | scripts/update-file $$@

build/$(1)/link-flags: FORCE
	@mkdir -p $$(@D)
	@echo '$$(GCC) $$(LINK_FLAGS) $$(KERNEL_SOURCES)' | scripts/update-file $$@

build/$(1)/library.hpp.gch: build/$(1)/flags | build/include setup
	@echo '  PCH    $(1)  library.hpp'
	$$(Q)$$(call library,arch mm kernel tests/guest) >$$(@:.gch=)
	$$(Q)$$(call kernel-cxx,$(1)) -x c++-header $$(@:.gch=) -o $$@

build/$(1)/%.cpp.o: %.cpp build/$(1)/flags $$(if $$(call has,clang,$(1)),,build/$(1)/library.hpp.gch) | build/include setup
	@mkdir -p $$(@D)
	@echo '  CXX    $(1)  $$<'
	$$(Q)$$(call kernel-cxx,$(1)) $$(if $$(call has,clang,$(1))$$(filter %/runtime.cpp,$$<),,-include \
	    build/$(1)/library.hpp) -MMD -MP -MF $$(@:.o=.d) -c $$< -o $$@

build/$(1)/%.asm.o: %.asm build/$(1)/flags | setup
	@mkdir -p $$(@D)
	@echo '  NASM   $(1)  $$<'
	$$(Q)$$(NASM) $$(NASM_FLAGS) $$(call nasm-defines,$(1)) -MD $$(@:.o=.d) -MP -MT $$@ -o $$@ $$<

# Linked twice: the first kernel, with an empty symbol table, yields the addresses of the functions; the second one has the
# table, and gen-symbols verifies that the addresses are the same.
build/$(1)/loft.elf: $$(objects-$(1)) build/$(1)/link-flags linker.ld scripts/gen-symbols.py scripts/check-kernel
	@echo '  LINK   $(1)  loft.elf'
	$$(Q)scripts/gen-symbols.py --empty >$$(@D)/symbols1.asm
	$$(Q)$$(NASM) -f elf32 -o $$(@D)/symbols1.o $$(@D)/symbols1.asm
	$$(Q)$$(GCC) $$(LINK_FLAGS) -o $$(@D)/pass1.elf $$(objects-$(1)) $$(@D)/symbols1.o -lgcc
	$$(Q)scripts/gen-symbols.py $$(@D)/pass1.elf >$$(@D)/symbols2.asm
	$$(Q)$$(NASM) -f elf32 -o $$(@D)/symbols2.o $$(@D)/symbols2.asm
	$$(Q)$$(GCC) $$(LINK_FLAGS) -Wl,-Map=$$(@D)/loft.map -o $$(@D)/pass2.elf $$(objects-$(1)) $$(@D)/symbols2.o -lgcc
	$$(Q)scripts/gen-symbols.py --same $$(@D)/pass1.elf $$(@D)/pass2.elf
	$$(Q)scripts/check-kernel $$(@D)/pass2.elf
	$$(Q)rm $$(@D)/pass1.elf
	$$(Q)mv $$(@D)/pass2.elf $$@

build/$(1)/loft.iso: build/$(1)/loft.elf build/user/programs build/iso-flags scripts/make-iso
	@echo '  ISO    $$@'
	$$(Q)scripts/make-iso $$(MODULES) --append $$(call quoted,$$(APPEND)) $$< $$@

-include $$(wildcard $$(objects-$(1):.o=.d))
endef

# ------------------------------------------------------------------------------------------------------- how: a program
build/user/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(GCC) $(USER_FLAGS) $(USER_LINK) $(LIBC_FLAGS) $(NASM_FLAGS)' | scripts/update-file $@

build/user/%.cpp.o: tests/user/%.cpp build/user/flags | setup
	@echo '  CXX    user  $<'
	$(Q)$(GCC) $(USER_FLAGS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

build/user/%.asm.o: tests/user/%.asm build/user/flags | setup
	@echo '  NASM   user  $<'
	$(Q)$(NASM) $(NASM_FLAGS) -o $@ $<

$(addprefix build/user/,$(basename $(USER_CXX))): build/user/%: build/user/%.cpp.o \
    $(USER_PARTS:%=build/user/%.o) tests/user/program.ld
	@echo '  LINK   user  $*'
	$(Q)$(GCC) $(USER_LINK) -o $@ $(filter %.o,$^) -lgcc

$(addprefix build/user/,$(basename $(USER_ASM))): build/user/%: build/user/%.asm.o tests/user/program.ld
	@echo '  LINK   user  $*'
	$(Q)$(GCC) $(USER_LINK) -o $@ $<

$(addprefix build/user/,$(basename $(USER_LIBC))): build/user/%: tests/user/libc/%.c build/user/flags | setup
	@echo '  CC     user  $<'
	$(Q)$(patsubst %g++,%gcc,$(GCC)) $(LIBC_FLAGS) -o $@ $<

.SECONDARY: $(USER_CXX:%=build/user/%.o) $(USER_ASM:%=build/user/%.o) $(USER_PARTS:%=build/user/%.o)
-include $(wildcard build/user/*.d)

# The recorded answers of Linux are compiled into this program (tests/user/answers).
build/user/arguments.cpp.o: $(wildcard tests/user/answers/*.txt)

# A file with the names of all programs, for the test runner.
build/user/programs: $(USER_PROGRAMS)
	@echo '$(USER_PROGRAMS)' | scripts/update-file $@

# ------------------------------------------------------------------------------------------------------ how: a host test
# Tests are compiled without optimization, mm and the simulated machine with it: so there are two precompiled headers.
define host-rules
objects-host-$(1) := $$(HOST_SOURCES:%=build/host-$(1)/%.o)

build/host-$(1)/flags: FORCE
	@mkdir -p $$(@D)
	@echo '$$(call host-cxx,$(1))' | scripts/update-file $$@

build/host-$(1)/link-flags: FORCE
	@mkdir -p $$(@D)
	@echo '$$(HOST_SOURCES)' | scripts/update-file $$@

build/host-$(1)/catch.hpp.gch: build/host-$(1)/flags | setup
	@mkdir -p $$(@D)
	@echo '  PCH    host-$(1)  catch.hpp'
	@echo '#include <catch2/catch.hpp>' >$$(@:.gch=)
	$$(Q)$$(call host-cxx,$(1)) -O0 -x c++-header $$(@:.gch=) -o $$@

build/host-$(1)/tests/host/%.cpp.o: tests/host/%.cpp build/host-$(1)/flags build/host-$(1)/catch.hpp.gch
	@mkdir -p $$(@D)
	@echo '  CXX    host-$(1)  $$<'
	$$(Q)$$(call host-cxx,$(1)) -O0 -include build/host-$(1)/catch.hpp -MMD -MP -MF $$(@:.o=.d) -c $$< -o $$@

build/host-$(1)/library.hpp.gch: build/host-$(1)/flags | setup
	@echo '  PCH    host-$(1)  library.hpp'
	$$(Q)$$(call library,arch/base mm tests/sim) >$$(@:.gch=)
	$$(Q)$$(call host-cxx,$(1)) -x c++-header $$(@:.gch=) -o $$@

build/host-$(1)/%.cpp.o: %.cpp build/host-$(1)/flags build/host-$(1)/library.hpp.gch
	@mkdir -p $$(@D)
	@echo '  CXX    host-$(1)  $$<'
	$$(Q)$$(call host-cxx,$(1)) -include build/host-$(1)/library.hpp -MMD -MP -MF $$(@:.o=.d) -c $$< -o $$@

build/host-$(1)/host-tests: $$(objects-host-$(1)) build/host-$(1)/link-flags
	@echo '  LINK   host-$(1)  host-tests'
	$$(Q)$$(call host-cxx,$(1)) -o $$@ $$(objects-host-$(1)) -lCatch2WithMain

-include $$(wildcard $$(objects-host-$(1):.o=.d))
endef

# Rules for the selected kernel, the default one, and all that are named as goals.
GOAL_NAMES := $(sort $(foreach goal,$(filter build/%,$(MAKECMDGOALS)),$(word 2,$(subst /, ,$(goal)))))
KERNELS    := $(sort $(NAME) $(DEFAULT) $(foreach name,$(GOAL_NAMES),$(if $(call has,up smp,$(name)),$(name))))
# A name with an unknown word would be built as another kernel.
ALL_NAMES  := $(foreach memory,off 4g 4g-highpte 64g 64g-highpte,$(foreach smp,up smp,$(foreach preempt,- -preempt,$(foreach \
    debug,- -debug,$(foreach clang,- -clang,$(memory)-$(smp)$(preempt:-=)$(debug:-=)$(clang:-=))))))
ifneq ($(filter-out $(ALL_NAMES),$(KERNELS)),)
$(error build/$(firstword $(filter-out $(ALL_NAMES),$(KERNELS))): a kernel is called \
    <off|4g|64g>[-highpte]-<up|smp>[-preempt][-debug][-clang], in this order, and off has no -highpte)
endif
HOSTS      := $(sort $(patsubst host-%,%,$(filter host-%,$(GOAL_NAMES))))
$(foreach name,$(KERNELS),$(eval $(call kernel-rules,$(name))))
$(foreach name,$(HOSTS),$(eval $(call host-rules,$(name))))

build/include: | setup
	@mkdir -p build/include
	@ln -sfn /usr/include/boost build/include/boost
	@ln -sfn /usr/include/multiboot build/include/multiboot

build/loft.elf: build/$(DEFAULT)/loft.elf
	@cp $< $@

build/loft.iso: build/loft.elf build/user/programs build/iso-flags scripts/make-iso
	@echo '  ISO    $@'
	$(Q)scripts/make-iso $(MODULES) --append $(call quoted,$(APPEND)) $< $@

build/iso-flags: FORCE
	@mkdir -p build
	@echo $(call quoted,$(APPEND)) | scripts/update-file $@

# The shim enters loft with forged registers and a forged memory map: tests/shim/README.md.
include tests/shim/shim.mk
# mm in a kernel that is not loft: tests/embed/README.md.
include tests/embed/embed.mk

# ------------------------------------------------------------------------------------------------------------- the goals
.PHONY: $(GOALS) FORCE

all: $(KERNEL) build/loft.elf build/user/programs compile_commands.json

setup:
	@scripts/setup

compile_commands.json: Makefile scripts/compile-commands build/$(DEFAULT)/flags
	@scripts/compile-commands --kernel '$(call kernel-cxx,$(DEFAULT))' --host '$(call host-cxx,64g)' >$@

# Quotes a text for the shell.
quoted = '$(subst ','\'',$(1))'

RUN_OPTIONS = --mem '$(MEM)' --smp '$(if $(filter 0,$(SMP)),1,$(SMP))' --accel '$(ACCEL)' \
    $(if $(QEMU),--qemu '$(QEMU)') $(if $(ICOUNT),--icount '$(ICOUNT)')

ifneq ($(filter run run-iso gdb,$(MAKECMDGOALS)),)
WRONG_OPTIONS := $(shell scripts/run-qemu $(RUN_OPTIONS) --print kernel 2>&1 >/dev/null)
ifneq ($(WRONG_OPTIONS),)
$(error $(WRONG_OPTIONS))
endif
endif

# The programs are loaded as multiboot modules.
MODULES = $(addprefix --module ,$(USER_PROGRAMS))

# --judge maps QEMU's status to make's: 33 means that everything passed (docs/interface.md, "Exit status").
run: $(KERNEL) build/user/programs
	$(Q)scripts/run-qemu $(RUN_OPTIONS) $(MODULES) --append $(call quoted,$(APPEND)) --judge $(KERNEL)

iso: $(ISO)

run-iso: $(ISO)
	$(Q)scripts/run-qemu $(RUN_OPTIONS) --judge --iso $(ISO)

gdb: $(KERNEL) build/user/programs
	$(Q)scripts/gdb $(RUN_OPTIONS) $(MODULES) --append $(call quoted,$(APPEND)) $(KERNEL)

# The runner builds what its tests need, by the goals above.
test: setup
	$(Q)scripts/run-tests --accel '$(ACCEL)' $(if $(QEMU),--qemu '$(QEMU)')

# For use before a commit.
check: setup
	$(Q)scripts/run-tests --accel '$(ACCEL)' $(if $(QEMU),--qemu '$(QEMU)') $(addprefix --only ,'static/*' host/64g guest/64g-1G bench/page)

test-host: setup
	$(Q)scripts/run-tests --only 'host/*'

test-guest: setup
	$(Q)scripts/run-tests --accel '$(ACCEL)' $(if $(QEMU),--qemu '$(QEMU)') --only 'guest/*'

test-alone: setup
	$(Q)scripts/run-tests --accel '$(ACCEL)' $(if $(QEMU),--qemu '$(QEMU)') --only 'alone/*'

test-matrix: setup
	$(Q)scripts/run-tests --accel '$(ACCEL)' $(if $(QEMU),--qemu '$(QEMU)') --matrix

test-cpus: setup
	$(Q)scripts/run-tests --only 'cpus/*'

test-flushes: setup
	$(Q)scripts/flush-mutants

test-mutants: setup
	$(Q)scripts/mutants host
	$(Q)scripts/mutants explorer
	$(Q)scripts/mutants guest

# Measurements have their own default memory size, unless MEM is set for make.
given         = $(if $(filter command line environment,$(origin $(1))),$($(1)))
BENCH_OPTIONS = --accel '$(ACCEL)' $(if $(QEMU),--qemu '$(QEMU)')

bench: $(KERNEL)
	$(Q)scripts/bench $(BENCH_OPTIONS) --what '$(BENCH)' $(if $(call given,MEM),--mem '$(MEM)') \
	    --smp '$(if $(filter 0,$(SMP)),1,$(SMP))' $(if $(ICOUNT),--icount '$(ICOUNT)') $(KERNEL)

bench-linux: build/loft.elf
	$(Q)scripts/setup --linux
	$(Q)scripts/make-linux
	$(Q)scripts/bench-linux $(BENCH_OPTIONS)

# Records the answers of Debian's i386 kernel to the system calls of build/user/arguments: the self-test expects them.
linux-answers: build/user/programs
	$(Q)scripts/setup --linux
	$(Q)scripts/make-linux
	$(Q)scripts/linux-answers --update

COST_KERNELS := $(foreach memory,off 4g 4g-highpte 64g 64g-highpte,build/$(memory)-smp-preempt/loft.elf)
bench-cost: setup
	$(Q)$(MAKE) $(COST_KERNELS)
	$(Q)scripts/bench-cost $(BENCH_OPTIONS) $(COST_KERNELS)

# Lists the instructions of a path: BENCH="kmap.hot vmap16".
bench-listing: $(KERNEL)
	$(Q)scripts/bench-listing --kernel $(KERNEL) $(if $(call given,BENCH),$(BENCH),kmap_local.same kmap.hot)

bench-update: build/loft.elf
	$(Q)scripts/bench --update

format: setup
	$(Q)find arch mm kernel tests -name '*.[ch]pp' -exec clang-format -i {} +

# For scripts that compile a file with make's flags.
print-compiler-%:
	@echo '$(call kernel-cxx,$*)'

clean:
	rm -rf build compile_commands.json

define HELP
make                build the default kernel: build/loft.elf
make run            install what is missing, build, boot in QEMU; leave with Ctrl-A X
make test           install what is missing, build, run every test; the last line is `N passed, N failed`
make check          run before a commit: layers, format, mm on the host, one boot; two minutes
make test-host      only mm on the simulated machine
make test-guest     only the kernels booted in QEMU
make test-cpus      a boot on each processor that QEMU knows
make test-alone     each self-test in a separate boot, with all programs, eight, one and none
make test-matrix    all 20 kernels, by g++ and by clang, booted and checked
make test-flushes   suppress one flush of mm at a time: a host test has to fail each time
make test-mutants   apply one defect to mm or the kernel at a time: the tests have to detect it (hours)
make bench          the cost of each path of high memory, in instructions: a table, and build/bench.json
make bench-linux    the same on Debian's i386 kernel, side by side; and the start of both with much memory
make linux-answers  record again the answers of Debian's i386 kernel to system calls, for the self-tests
make bench-cost     the cost of high memory: the same work on kernels with and without it; a table and a plot
make bench-listing  list the instructions of a path: BENCH="kmap.hot vmap16"
make bench-update   store the figures of `make bench` as those that `make test` expects
make gdb            gdb attached, with symbols and loft's commands; the machine is stopped at kernel_main
make iso            an ISO with GRUB: build/loft.iso
make run-iso        boot the ISO, through the BIOS
make format         clang-format every C++ file
make setup          only install what is missing (scripts/setup --help)
make clean          remove build/

The kernel (selected now: $(NAME)):
    HIGHMEM=off|4g|64g  memory that the kernel uses: 896 MiB, 4 GiB, 64 GiB by PAE       [64g]
    HIGHPTE=0|1         user page tables may live in high memory                         [1, and 0 with HIGHMEM=off]
    SMP=0|N             a uniprocessor or an SMP kernel; make run starts N processors    [1]
    PREEMPT=0|1         a kernel thread can be preempted                                 [1]
    DEBUG=0|1           expensive checks                                                 [0]
    CXX=...             i686-linux-gnu-g++ or clang++, given on make's command line      [i686-linux-gnu-g++]
The machine (run, run-iso, gdb; test uses ACCEL and QEMU):
    MEM=4G  APPEND="selftest=full exit"  ACCEL=tcg|kvm  QEMU=program  ICOUNT=shift  (scripts/run-qemu --help)
make bench: BENCH=GLOB,... selects the paths; ICOUNT=off, or another ACCEL, measures time instead of instructions.
V=1 shows the commands.
endef

help:
	$(info $(HELP))
	@:
