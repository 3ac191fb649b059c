# Goals that boot a kernel: run, iso, run-iso, gdb.

RUN_OPTIONS = --mem '$(MEM)' --smp '$(if $(filter 0,$(SMP)),1,$(SMP))' --accel '$(ACCEL)' \
    $(if $(QEMU),--qemu '$(QEMU)') $(if $(ICOUNT),--icount '$(ICOUNT)') \
    $(foreach disk,$(DISK),--disk $(call quoted,$(disk)))

ifneq ($(filter run run-iso gdb,$(MAKECMDGOALS)),)
WRONG_OPTIONS := $(shell scripts/run-qemu $(RUN_OPTIONS) --print kernel 2>&1 >/dev/null)
ifneq ($(WRONG_OPTIONS),)
$(error $(WRONG_OPTIONS))
endif
endif

# The programs are loaded as multiboot modules.
MODULES = $(addprefix --module ,$(USER_PROGRAMS))

# --judge maps QEMU's status to make's: 33 means that everything passed (docs/interface.md, "Exit status").
run: $(KERNEL) $(BUILD)/user/programs
	$(Q)scripts/run-qemu $(RUN_OPTIONS) $(MODULES) --append $(call quoted,$(APPEND)) --judge $(KERNEL)

iso: $(ISO)

run-iso: $(ISO)
	$(Q)scripts/run-qemu $(RUN_OPTIONS) --judge --iso $(ISO)

gdb: $(KERNEL) $(BUILD)/user/programs
	$(Q)scripts/gdb $(RUN_OPTIONS) $(MODULES) --append $(call quoted,$(APPEND)) $(KERNEL)
