# Goals that test. scripts/run-tests builds the kernels and host tests that its tests need, by name.

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

test-nmi: setup
	$(Q)scripts/run-tests --accel '$(ACCEL)' $(if $(QEMU),--qemu '$(QEMU)') --nmis '$(NMIS)' --only 'nmis/*'

test-load: setup
	$(Q)scripts/run-tests --accel '$(ACCEL)' $(if $(QEMU),--qemu '$(QEMU)') --minutes '$(MINUTES)' --only 'load/*'

test-large: setup
	$(Q)scripts/run-tests --jobs 1 --accel '$(ACCEL)' $(if $(QEMU),--qemu '$(QEMU)') --only 'large/*'

test-flushes: setup
	$(Q)scripts/flush-mutants

test-mutants: setup
	$(Q)scripts/mutants host $(if $(SHARD),--shard $(SHARD))
	$(Q)scripts/mutants explorer $(if $(SHARD),--shard $(SHARD))
	$(Q)scripts/mutants guest $(if $(SHARD),--shard $(SHARD))
	$(Q)scripts/mutants generated $(if $(SHARD),--shard $(SHARD))
