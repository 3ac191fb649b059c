# The tools that each goal needs: groups of scripts/setup. Every rule that runs a compiler depends on setup.

needs-run           := run
needs-gdb           := gdb
needs-iso           := iso
needs-run-iso       := iso run
needs-check         := check
needs-test          := test
needs-test-host     := host clang
needs-test-guest    := iso gdb clang
needs-test-alone    := run
needs-test-matrix   := run clang
needs-test-cpus     := run
needs-test-nmi      := run
needs-test-load     := run
needs-test-large    := run
needs-test-flushes  := host clang
needs-test-mutants  := check
needs-bench         := run
needs-bench-files   := run
needs-bench-listing := run
needs-bench-update  := run
needs-bench-cost    := run
needs-bench-linux   := linux
needs-linux-answers := linux
needs-format        := format
needs-tidy          := tidy

# For a goal that is a file, its name determines the groups.
NEEDED = $(sort $(foreach goal,$(filter-out setup,$(or $(MAKECMDGOALS),all)),$(or $(needs-$(goal)),$(if $(filter \
    $(BUILD)/host-% $(BUILD)/embed-%,$(goal)),host,build) $(if $(filter %.iso,$(goal)),iso))) \
    $(if $(filter clang++,$(CLANG)),$(if $(filter clang,$(subst -, ,$(KERNELS) $(HOSTS))),clang)))
comma := ,
empty :=

# `make setup` installs the tools for all goals.
setup:
	@scripts/setup $(if $(filter setup,$(MAKECMDGOALS)),,--for $(subst $(empty) $(empty),$(comma),$(strip $(NEEDED))))
