# Report unknown names before the build. An unknown goal may be the name of a folder, which make would call up to date. An
# unknown variable would be set, and never used.

GOALS     := all help setup run run-iso gdb iso check test test-host test-guest test-matrix test-alone test-cpus test-nmi test-load test-large test-flushes \
    test-mutants bench bench-files bench-linux bench-cost linux-answers bench-listing bench-update format tidy clean
VARIABLES := HIGHMEM HIGHPTE SMP PREEMPT DEBUG CXX MEM APPEND ACCEL QEMU CPU ICOUNT DISK DISK_BUS ISO BENCH SHARD NMIS MINUTES BUILD V
UNKNOWN   := $(filter-out $(GOALS) $(BUILD)/% print-compiler-% print-host-compiler-% $(COMPILE_COMMANDS) Makefile FORCE,$(MAKECMDGOALS))
ifneq ($(filter build/%,$(UNKNOWN)),)
$(error make $(firstword $(filter build/%,$(UNKNOWN))): with BUILD=$(BUILD) this is $(BUILD)/$(patsubst build/%,%,$(firstword $(filter build/%,$(UNKNOWN)))))
endif
ifneq ($(UNKNOWN),)
$(error $(or $(shell scripts/closest goal '$(firstword $(UNKNOWN))' $(GOALS)),make $(firstword $(UNKNOWN)): there is no such goal))
endif
UNKNOWN   := $(filter-out $(VARIABLES),$(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name))))
ifneq ($(UNKNOWN),)
# The other variables of these files may be set, too.
UNKNOWN   := $(filter-out $(shell sed -nE 's/^([A-Za-z_-]+) *[?:+]*=.*/\1/p' $(MAKE_FILES)),$(UNKNOWN))
endif
ifneq ($(UNKNOWN),)
$(error $(or $(shell scripts/closest variable '$(firstword $(UNKNOWN))' $(VARIABLES)),$(firstword $(UNKNOWN))=: nothing here reads it))
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

# A compiler that setup does not install: check that it exists, and its target. clang has all targets.
ifeq ($(origin CXX)$(filter i686-linux-gnu-g++ clang++,$(CXX)),command line)
ifeq ($(shell command -v '$(firstword $(CXX))'),)
$(error CXX=$(CXX): there is no such program; give i686-linux-gnu-g++ or clang++)
endif
ifeq ($(findstring clang,$(CXX)),)
ifeq ($(filter i386-% i486-% i586-% i686-%,$(shell $(CXX) -dumpmachine 2>/dev/null)),)
$(error CXX=$(CXX) compiles for $(or $(shell $(CXX) -dumpmachine 2>/dev/null),an unknown machine), and loft runs on i386: give i686-linux-gnu-g++ or clang++)
endif
endif
endif
