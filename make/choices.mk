# The variables that can be given to make, and the names that follow from them. make/checks.mk rejects wrong values.

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
DISK    ?=
DISK_BUS ?= ide
BENCH   ?= boot,paths
SHARD   ?=
NMIS    ?= 100000
MINUTES ?= 30
BUILD   ?= $(or $(LOFT_BUILD),build)

# Quotes a text for the shell.
quoted = '$(subst ','\'',$(1))'

# The folder for all output; scripts read LOFT_BUILD. Goals that build nothing do not create it.
override BUILD := $(shell scripts/build-folder $(if $(filter-out help clean format,$(or $(MAKECMDGOALS),all)),,--name) \
    $(call quoted,$(BUILD)) 2>&1)
ifneq ($(.SHELLSTATUS),0)
$(error $(BUILD))
endif
export LOFT_BUILD := $(BUILD)
export DISK_BUS
# Editors expect it beside the sources.
COMPILE_COMMANDS := $(if $(and $(filter build,$(BUILD)),$(shell test -w . && echo yes)),,$(BUILD)/)compile_commands.json

# CXX is used only from make's command line; one in the environment is meant for the host.
ifneq ($(origin CXX),command line)
CXX := i686-linux-gnu-g++
endif

GCC      := $(if $(findstring clang,$(CXX)),i686-linux-gnu-g++,$(CXX))
CLANG    := $(if $(findstring clang,$(CXX)),$(CXX),clang++)
HOST_CXX := g++
NASM     := nasm

# Names. SMP=0 is a uniprocessor kernel, any other number an SMP kernel.
word-if  = $(if $(filter 1,$(2)),-$(1))
NAME    := $(HIGHMEM)$(call word-if,highpte,$(HIGHPTE))-$(if $(filter 0,$(SMP)),up,smp)$(call \
           word-if,preempt,$(PREEMPT))$(call word-if,debug,$(DEBUG))$(if $(findstring clang,$(CXX)),-clang)
DEFAULT := 64g-highpte-smp-preempt
KERNEL  := $(BUILD)/$(NAME)/loft.elf
ISO     := $(if $(filter $(DEFAULT),$(NAME)),$(BUILD)/loft.iso,$(BUILD)/$(NAME)/loft.iso)
