# Rules for the programs of tests/user.

build/user/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(GCC) $(USER_FLAGS) $(USER_LINK) $(LIBC_FLAGS) $(NASM_FLAGS)' | scripts/update-file $@

build/user/%.cpp.o: tests/user/%.cpp build/user/flags | setup
	@echo '  CXX    user  $<'
	$(Q)$(GCC) $(USER_FLAGS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

build/user/%.asm.o: tests/user/%.asm build/user/flags | setup
	@echo '  NASM   user  $<'
	$(Q)$(NASM) $(NASM_FLAGS) -o $@ $<

$(addprefix build/user/,$(basename $(USER_CXX))): build/user/%: build/user/%.cpp.o \
    $(USER_PARTS:%=build/user/%.o) tests/user/program.ld
	@echo '  LINK   user  $*'
	$(Q)$(GCC) $(USER_LINK) -o $@ $(filter %.o,$^) -lgcc

$(addprefix build/user/,$(basename $(USER_ASM))): build/user/%: build/user/%.asm.o tests/user/program.ld
	@echo '  LINK   user  $*'
	$(Q)$(GCC) $(USER_LINK) -o $@ $<

$(addprefix build/user/,$(basename $(USER_LIBC))): build/user/%: tests/user/libc/%.c build/user/flags | setup
	@echo '  CC     user  $<'
	$(Q)$(patsubst %g++,%gcc,$(GCC)) $(LIBC_FLAGS) -o $@ $<

.SECONDARY: $(USER_CXX:%=build/user/%.o) $(USER_ASM:%=build/user/%.o) $(USER_PARTS:%=build/user/%.o)
-include $(wildcard build/user/*.d)

# The recorded answers of Linux are compiled into this program (tests/user/answers).
build/user/arguments.cpp.o: $(wildcard tests/user/answers/*.txt)

# A file with the names of all programs, for the test runner.
build/user/programs: $(USER_PROGRAMS)
	@echo '$(USER_PROGRAMS)' | scripts/update-file $@
