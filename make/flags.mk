# The options of compilers, NASM and linker. The name of a kernel determines its options.

WARNINGS := -Wall -Wextra -Werror

KERNEL_FLAGS := -std=c++20 -ffreestanding -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-stack-protector \
    -fno-pic -fno-pie -fno-asynchronous-unwind-tables -fno-strict-aliasing -freg-struct-return -O2 -g -march=i686 -mtune=generic \
    -fno-omit-frame-pointer -momit-leaf-frame-pointer $(WARNINGS) -I. -Iarch/i386 -isystem $(BUILD)/include
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
HOST_FLAGS   := -std=c++20 -g1 $(WARNINGS) -I. -Itests/sim -DLOFT_SIMULATED

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
    -fno-sanitize-recover=all --coverage) $(if $(call has,races,$(1)),-DLOFT_RACES)
# -races: the machine sees every access to memory of what it runs (tests/sim/races.hpp). The compiler's calls are answered by
# tests/sim/instrumented.cpp; the library that usually has these functions is not linked.
host-seen    = $(if $(call has,races,$(1)),-fsanitize=thread)
host-cxx     = $(if $(call has,clang,$(1)),$(CLANG) -Wthread-safety,$(HOST_CXX)) $(HOST_FLAGS) $(call host-mode,$(1)) $(call host-defines,$(1))
,           := ,

# The standard and Boost headers take longer to parse than the files that include them. So they are precompiled once for each
# set of flags, and included first in every file except runtime.cpp. By clang, kernels and host tests are compiled without this:
# there, a file that misses an include does not compile.
library = grep -hrE --include='*.[ch]pp' '^.include <(boost/.*|[a-z_]+)>' $(1) | LC_ALL=C sort -u
