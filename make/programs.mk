# Builds the programs of tests/user.

$(BUILD)/user/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(GCC) $(USER_FLAGS) $(USER_LINK) $(LIBC_FLAGS) $(NASM_FLAGS)' | scripts/update-file $@

$(BUILD)/user/%.cpp.o: tests/user/%.cpp $(BUILD)/user/flags | setup
	@echo '  CXX    user  $<'
	$(Q)$(GCC) $(USER_FLAGS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

$(BUILD)/user/%.asm.o: tests/user/%.asm $(BUILD)/user/flags | setup
	@echo '  NASM   user  $<'
	$(Q)$(NASM) $(NASM_FLAGS) -o $@ $<

$(addprefix $(BUILD)/user/,$(basename $(USER_CXX))): $(BUILD)/user/%: $(BUILD)/user/%.cpp.o \
    $(USER_PARTS:%=$(BUILD)/user/%.o) tests/user/program.ld
	@echo '  LINK   user  $*'
	$(Q)$(GCC) $(USER_LINK) -o $@ $(filter %.o,$^) -lgcc

$(addprefix $(BUILD)/user/,$(basename $(USER_ASM))): $(BUILD)/user/%: $(BUILD)/user/%.asm.o tests/user/program.ld
	@echo '  LINK   user  $*'
	$(Q)$(GCC) $(USER_LINK) -o $@ $<

$(addprefix $(BUILD)/user/,$(basename $(USER_LIBC))): $(BUILD)/user/%: tests/user/libc/%.c $(BUILD)/user/flags | setup
	@echo '  CC     user  $<'
	$(Q)$(patsubst %g++,%gcc,$(GCC)) $(LIBC_FLAGS) -o $@ $<

.SECONDARY: $(USER_CXX:%=$(BUILD)/user/%.o) $(USER_ASM:%=$(BUILD)/user/%.o) $(USER_PARTS:%=$(BUILD)/user/%.o)
-include $(wildcard $(BUILD)/user/*.d)

# The recorded answers of Linux are compiled into this program (tests/user/answers).
$(BUILD)/user/arguments.cpp.o: $(wildcard tests/user/answers/*.txt)

# A file with the names of all programs, for the test runner.
$(BUILD)/user/programs: $(USER_PROGRAMS)
	@echo '$(USER_PROGRAMS)' | scripts/update-file $@
