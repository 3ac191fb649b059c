# Builds loft. `make help` lists the goals and variables; make/README.md says what each included file has.
#
# The name of a kernel is its configuration, which is also the name of its folder:
#     build/<highmem>[-highpte]-<up|smp>[-preempt][-debug][-clang]/loft.elf
# The name determines all of a kernel's options, so one make can build any set of kernels. The host tests (mm on the
# simulated machine) are built the same way: build/host-<highmem>[-debug][-asan][-clang]/host-tests, or
# build/host-<highmem>[-debug]-races/host-tests. Beside host-tests is thread-tests: threads and programs on that machine.
# With BUILD=folder make writes there instead, and nothing among the sources.

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS  += --no-builtin-rules --no-builtin-variables --no-print-directory
Q          := $(if $(filter 1,$(V)),,@)
MAKE_FILES := Makefile $(wildcard make/*.mk tests/*/*.mk)

include make/choices.mk
include make/checks.mk
include make/sources.mk
include make/flags.mk

# Files that are built.
include make/kernel.mk
include make/programs.mk
include make/host.mk
# The shim enters loft with forged registers and a forged memory map: tests/shim/README.md.
include tests/shim/shim.mk
# mm in a kernel that is not loft: tests/embed/README.md.
include tests/embed/embed.mk

# Goals.
include make/setup.mk
include make/run.mk
include make/test.mk
include make/bench.mk
include make/help.mk

.PHONY: $(GOALS) FORCE

all: $(KERNEL) $(BUILD)/loft.elf $(BUILD)/user/programs $(COMPILE_COMMANDS)

$(COMPILE_COMMANDS): $(MAKE_FILES) scripts/compile-commands $(BUILD)/$(DEFAULT)/flags
	@scripts/compile-commands --kernel '$(call kernel-cxx,$(DEFAULT))' --host '$(call host-cxx,64g)' >$@

format: setup
	$(Q)find arch mm kernel tests -name '*.[ch]pp' -exec clang-format -i {} +

tidy: setup
	$(Q)scripts/check-tidy

# For scripts that compile a file with make's flags.
print-compiler-%:
	@echo '$(call kernel-cxx,$*)'
print-host-compiler-%:
	@echo '$(call host-cxx,$*)'

clean:
	scripts/build-folder --remove $(BUILD)
	rm -f $(COMPILE_COMMANDS)
