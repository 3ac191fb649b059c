# Goals that measure.

# Measurements have their own default memory size, unless MEM is set for make.
given         = $(if $(filter command line environment,$(origin $(1))),$($(1)))
BENCH_OPTIONS = --accel '$(ACCEL)' $(if $(QEMU),--qemu '$(QEMU)')

bench: $(KERNEL)
	$(Q)scripts/bench $(BENCH_OPTIONS) --what '$(BENCH)' $(if $(call given,MEM),--mem '$(MEM)') \
	    --smp '$(if $(filter 0,$(SMP)),1,$(SMP))' $(if $(ICOUNT),--icount '$(ICOUNT)') $(KERNEL)

bench-linux: setup $(BUILD)/loft.elf
	$(Q)scripts/make-linux
	$(Q)scripts/bench-linux $(BENCH_OPTIONS)

# Records the answers of Debian's i386 kernel to the system calls of $(BUILD)/user/arguments: the self-test expects them.
linux-answers: setup $(BUILD)/user/programs
	$(Q)scripts/make-linux
	$(Q)scripts/linux-answers --update

COST_KERNELS := $(foreach memory,off 4g 4g-highpte 64g 64g-highpte,$(BUILD)/$(memory)-smp-preempt/loft.elf)
bench-cost: setup
	$(Q)$(MAKE) $(COST_KERNELS)
	$(Q)scripts/bench-cost $(BENCH_OPTIONS) $(COST_KERNELS)

# Operations on files, beside Linux's figures: DISK_BUS=virtio measures with a disk, too.
bench-files: $(BUILD)/loft.elf $(BUILD)/user/filecosts
	$(Q)scripts/bench-files $(if $(call given,DISK_BUS),--disk '$(DISK_BUS)')

# Lists the instructions of a path: BENCH="kmap.hot vmap16".
bench-listing: $(KERNEL)
	$(Q)scripts/bench-listing --kernel $(KERNEL) $(if $(call given,BENCH),$(BENCH),kmap_local.same kmap.hot)

bench-update: $(BUILD)/loft.elf $(BUILD)/user/filecosts
	$(Q)scripts/bench --update
	$(Q)scripts/bench-files --update
