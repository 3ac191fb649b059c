# Included by the Makefile: the shim is a kernel of its own.
SHIM_SOURCES := tests/shim/entry.asm tests/shim/shim.cpp
SHIM_FLAGS   := -std=c++20 -ffreestanding -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-stack-protector \
    -fno-pic -fno-pie -fno-asynchronous-unwind-tables -fno-strict-aliasing -O2 -g -march=i686 -mgeneral-regs-only \
    $(WARNINGS) -isystem $(BUILD)/include

$(BUILD)/shim/%.asm.o: tests/shim/%.asm | setup
	@mkdir -p $(@D)
	@echo '  NASM   shim  $<'
	$(Q)$(NASM) $(NASM_FLAGS) -o $@ $<

$(BUILD)/shim/%.cpp.o: tests/shim/%.cpp | $(BUILD)/include setup
	@mkdir -p $(@D)
	@echo '  CXX    shim  $<'
	$(Q)$(GCC) $(SHIM_FLAGS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

$(BUILD)/shim/shim.elf: $(SHIM_SOURCES:tests/shim/%=$(BUILD)/shim/%.o) tests/shim/shim.ld
	@echo '  LINK   shim  shim.elf'
	$(Q)$(GCC) -nostdlib -static -no-pie -T tests/shim/shim.ld -Wl,-z,noexecstack -Wl,--fatal-warnings \
	    -Wl,--build-id=none -o $@ $(filter %.o,$^) -lgcc

-include $(wildcard $(BUILD)/shim/*.d)
