# Builds kernels: the selected one, the default one, and all that are named as goals.

# scripts/mutants links kernels that this would refuse, by INSPECT=true: there the self-tests have to notice.
INSPECT := scripts/check-instructions

# The rooms, each of which is one unit by g++ (sources.mk).
KERNEL_ROOMS := $(sort $(patsubst %/,%,$(filter-out tests/%,$(dir $(filter %.cpp,$(KERNEL_SOURCES))))))
# The self-tests are three units, of the files with these numbers: one would take three times as long after a change of a line.
GUEST_TESTS  := $(filter tests/guest/%,$(KERNEL_SOURCES))
GUEST_UNITS  := 1-13 14-26 27-99
of-guest     = $(wordlist $(firstword $(subst -, ,$(1))),$(lastword $(subst -, ,$(1))),$(GUEST_TESTS))
# gdb knows the lines of the self-tests, and not their variables, which compiles faster. They are optimised as the kernel is: the
# inline functions that they count the instructions of, or step through, are those of the kernel.
GUEST_TEST_FLAGS := -g1

kernel-units = $(if $(call has,clang,$(1)),$(KERNEL_SOURCES),$(call units,$(KERNEL_ROOMS),$(filter-out \
    $(GUEST_TESTS),$(KERNEL_SOURCES))) $(GUEST_UNITS:%=tests/guest/%.unit))

define kernel-rules
objects-$(1) := $$(patsubst %,$(BUILD)/$(1)/%.o,$$(call kernel-units,$(1)))
# Not linked: the operations of the HAL, for scripts/check-instructions.
inspected-$(1) := $(BUILD)/$(1)/tests/instructions/hal.cpp.o

$(BUILD)/$(1)/flags: FORCE
	@mkdir -p $$(@D)
	@echo '$$(call kernel-cxx,$(1)) $$(NASM_FLAGS) $(GUEST_TEST_FLAGS)' | scripts/update-file $$@

$(BUILD)/$(1)/link-flags: FORCE
	@mkdir -p $$(@D)
	@echo '$$(GCC) $$(LINK_FLAGS) $$(KERNEL_SOURCES)' | scripts/update-file $$@

$(BUILD)/$(1)/library.hpp.gch: $(BUILD)/$(1)/flags | $(BUILD)/include setup
	@echo '  PCH    $(1)  library.hpp'
	$$(Q)$$(call library,arch mm kernel tests/guest) >$$(@:.gch=)
	$$(Q)$$(call kernel-cxx,$(1)) -x c++-header $$(@:.gch=) -o $$@

$(BUILD)/$(1)/tests/guest/%.o: of-tests := $(GUEST_TEST_FLAGS)

$(BUILD)/$(1)/tests/guest/%.unit.o: $(BUILD)/$(1)/tests/guest/%.cpp $(BUILD)/$(1)/flags | $(BUILD)/include setup
	@echo '  CXX    $(1)  tests/guest/*.cpp $$*'
	$$(Q)$$(call kernel-cxx,$(1)) $$(of-tests) -MMD -MP -MF $$(@:.o=.d) -c $$< -o $$@

$(BUILD)/$(1)/%.unit.o: $(BUILD)/$(1)/%.cpp $(BUILD)/$(1)/flags $(BUILD)/$(1)/library.hpp.gch | $(BUILD)/include setup
	@echo '  CXX    $(1)  $$*/*.cpp'
	$$(Q)$$(call kernel-cxx,$(1)) -include $(BUILD)/$(1)/library.hpp -MMD -MP -MF $$(@:.o=.d) -c $$< -o $$@

$(BUILD)/$(1)/%.cpp.o: %.cpp $(BUILD)/$(1)/flags $$(if $$(call has,clang,$(1)),,$(BUILD)/$(1)/library.hpp.gch) | $(BUILD)/include setup
	@mkdir -p $$(@D)
	@echo '  CXX    $(1)  $$<'
	$$(Q)$$(call kernel-cxx,$(1)) $$(of-tests) $$(if $$(call has,clang,$(1))$$(filter %/runtime.cpp,$$<),,-include \
	    $(BUILD)/$(1)/library.hpp) -MMD -MP -MF $$(@:.o=.d) -c $$< -o $$@

$(BUILD)/$(1)/%.asm.o: %.asm $(BUILD)/$(1)/flags | setup
	@mkdir -p $$(@D)
	@echo '  NASM   $(1)  $$<'
	$$(Q)$$(NASM) $$(NASM_FLAGS) $$(call nasm-defines,$(1)) -MD $$(@:.o=.d) -MP -MT $$@ -o $$@ $$<

# Linked twice: the first kernel, with an empty symbol table, yields the addresses of the functions; the second one has the
# table, and gen-symbols verifies that the addresses are the same.
$(BUILD)/$(1)/loft.elf: $$(objects-$(1)) $$(inspected-$(1)) $(BUILD)/$(1)/link-flags linker.ld scripts/gen-symbols.py \
    scripts/check-kernel scripts/check-instructions
	@echo '  LINK   $(1)  loft.elf'
	$$(Q)scripts/gen-symbols.py --empty >$$(@D)/symbols1.asm
	$$(Q)$$(NASM) -f elf32 -o $$(@D)/symbols1.o $$(@D)/symbols1.asm
	$$(Q)$$(GCC) $$(LINK_FLAGS) -o $$(@D)/pass1.elf $$(objects-$(1)) $$(@D)/symbols1.o -lgcc
	$$(Q)scripts/gen-symbols.py $$(@D)/pass1.elf >$$(@D)/symbols2.asm
	$$(Q)$$(NASM) -f elf32 -o $$(@D)/symbols2.o $$(@D)/symbols2.asm
	$$(Q)$$(GCC) $$(LINK_FLAGS) -Wl,-Map=$$(@D)/loft.map -o $$(@D)/pass2.elf $$(objects-$(1)) $$(@D)/symbols2.o -lgcc
	$$(Q)scripts/gen-symbols.py --same $$(@D)/pass1.elf $$(@D)/pass2.elf
	$$(Q)scripts/check-kernel $$(@D)/pass2.elf
	$$(Q)$$(INSPECT) $(1) $$(@D)/pass2.elf $$(inspected-$(1))
	$$(Q)rm $$(@D)/pass1.elf
	$$(Q)mv $$(@D)/pass2.elf $$@

$(BUILD)/$(1)/loft.iso: $(BUILD)/$(1)/loft.elf $(BUILD)/user/programs $(BUILD)/iso-flags scripts/make-iso
	@echo '  ISO    $$@'
	$$(Q)scripts/make-iso $$(MODULES) --append $$(call quoted,$$(APPEND)) $$< $$@

-include $$(wildcard $$(objects-$(1):.o=.d) $$(inspected-$(1):.o=.d))
endef

GOAL_NAMES := $(sort $(foreach goal,$(patsubst $(BUILD)/%,%,$(filter $(BUILD)/%,$(MAKECMDGOALS))),$(firstword $(subst /, ,$(goal)))))
KERNELS    := $(sort $(NAME) $(DEFAULT) $(foreach name,$(GOAL_NAMES),$(if $(call has,up smp,$(name)),$(name))))
# A name with an unknown word would be built as another kernel.
ALL_NAMES  := $(foreach memory,off 4g 4g-highpte 64g 64g-highpte,$(foreach smp,up smp,$(foreach preempt,- -preempt,$(foreach \
    debug,- -debug,$(foreach clang,- -clang,$(memory)-$(smp)$(preempt:-=)$(debug:-=)$(clang:-=))))))
ifneq ($(filter-out $(ALL_NAMES),$(KERNELS)),)
$(error $(BUILD)/$(firstword $(filter-out $(ALL_NAMES),$(KERNELS))): a kernel is called \
    <off|4g|64g>[-highpte]-<up|smp>[-preempt][-debug][-clang], in this order, and off has no -highpte)
endif

$(foreach name,$(KERNELS),$(eval $(call kernel-rules,$(name)))$(foreach room,$(KERNEL_ROOMS),$(eval $(call \
    unit-rules,$(name),$(room),$(call of-room,$(room),$(KERNEL_SOURCES)))))$(foreach part,$(GUEST_UNITS),$(eval $(call \
    unit-rules,$(name),tests/guest/$(part),$(call of-guest,$(part))))))

$(BUILD)/include: | setup
	@mkdir -p $(BUILD)/include
	@ln -sfn /usr/include/boost $(BUILD)/include/boost
	@ln -sfn /usr/include/multiboot $(BUILD)/include/multiboot

$(BUILD)/loft.elf: $(BUILD)/$(DEFAULT)/loft.elf
	@cp $< $@

$(BUILD)/loft.iso: $(BUILD)/loft.elf $(BUILD)/user/programs $(BUILD)/iso-flags scripts/make-iso
	@echo '  ISO    $@'
	$(Q)scripts/make-iso $(MODULES) --append $(call quoted,$(APPEND)) $< $@

$(BUILD)/iso-flags: FORCE
	@mkdir -p build
	@echo $(call quoted,$(APPEND)) | scripts/update-file $@
