# Builds the host tests: mm on the simulated machine, in the configurations that are named as goals.

# Tests are compiled without optimization, mm and the simulated machine with it: so there are two precompiled headers.
# FAST_COMPILE: an exception inside a CHECK ends its test case; the tests compile in two thirds of the time.
TEST_FLAGS := -O0 -DCATCH_CONFIG_FAST_COMPILE

# The sources of a configuration. -races has only the explorer's tests: the others run one CPU at a time. Without high memory, and
# under the sanitizers, the explorer does not run.
host-sources = $(filter-out $(if $(call has,races,$(1)),$(filter-out tests/host/explorer/%,$(filter %_test.cpp,$(HOST_SOURCES)))) \
    $(if $(call has,off asan,$(1)),tests/host/explorer/%_test.cpp),$(HOST_SOURCES))
# Rooms whose files are one unit by g++ (sources.mk).
ALL_HOST_SOURCES := $(sort $(HOST_SOURCES) $(THREAD_SOURCES))
TEST_ROOMS    := $(sort $(patsubst %/,%,$(filter tests/host/%/ tests/threads/,$(dir $(ALL_HOST_SOURCES)))))
LIBRARY_ROOMS := $(sort $(patsubst %/,%,$(filter arch/i386/firmware/ mm/%/ kernel/tree/ kernel/ext2/ kernel/threads/ kernel/files/ kernel/programs/ tests/sim/,$(dir \
    $(ALL_HOST_SOURCES)))))
host-units    = $(if $(call has,clang,$(1)),$(2),$(call units,$(TEST_ROOMS) $(LIBRARY_ROOMS),$(2)))
# For a file: the precompiled header, or the calls by which the machine sees it; the header is compiled without them.
host-file    = $(if $(and $(call has,races,$(1)),$(filter-out tests/sim/%,$(2))),$(call host-seen,$(1)),$(if \
    $(call has,clang,$(1)),,-include $(BUILD)/host-$(1)/library.hpp))
# The compiler of tests.
host-test-cxx = $(call host-cxx,$(1)) $(call host-seen,$(1)) $(TEST_FLAGS) $(instead) -include $(BUILD)/host-$(1)/catch.hpp -MMD -MP -MF $(@:.o=.d) -c

define host-rules
objects-host-$(1) := $$(patsubst %,$(BUILD)/host-$(1)/%.o,$$(call host-units,$(1),$$(call host-sources,$(1))))
objects-threads-$(1) := $$(patsubst %,$(BUILD)/host-$(1)/%.o,$$(call host-units,$(1),$$(THREAD_SOURCES)))

# The headers of arch/i386 that have instructions are found here first.
$(patsubst %,$(BUILD)/host-$(1)/%.o,$(filter arch/i386/% kernel/% tests/threads% tests/sim/kernel/%,$(THREAD_SOURCES) \
    $(patsubst %,%.unit,$(TEST_ROOMS) $(LIBRARY_ROOMS)))): instead := -iquote tests/sim/kernel

$(BUILD)/host-$(1)/flags: FORCE
	@mkdir -p $$(@D)
	@echo '$$(call host-cxx,$(1)) $$(call host-seen,$(1)) $(TEST_FLAGS)' | scripts/update-file $$@

$(BUILD)/host-$(1)/link-flags: FORCE
	@mkdir -p $$(@D)
	@echo '$$(call host-sources,$(1)) $$(THREAD_SOURCES)' | scripts/update-file $$@

$(BUILD)/host-$(1)/catch.hpp.gch: $(BUILD)/host-$(1)/flags | setup
	@mkdir -p $$(@D)
	@echo '  PCH    host-$(1)  catch.hpp'
	@echo '#include <catch2/catch.hpp>' >$$(@:.gch=)
	$$(Q)$$(call host-cxx,$(1)) $$(call host-seen,$(1)) $(TEST_FLAGS) -x c++-header $$(@:.gch=) -o $$@

$(BUILD)/host-$(1)/library.hpp.gch: $(BUILD)/host-$(1)/flags | setup
	@echo '  PCH    host-$(1)  library.hpp'
	$$(Q)$$(call library,arch/base mm tests/sim) >$$(@:.gch=)
	$$(Q)$$(call host-cxx,$(1)) -x c++-header $$(@:.gch=) -o $$@

$(BUILD)/host-$(1)/%.cpp.o: %.cpp $(BUILD)/host-$(1)/flags $$(if $$(call has,clang,$(1)),,$(BUILD)/host-$(1)/library.hpp.gch) | setup
	@mkdir -p $$(@D)
	@echo '  CXX    host-$(1)  $$<'
	$$(Q)$$(call host-cxx,$(1)) $$(instead) $$(call host-file,$(1),$$<) -MMD -MP -MF $$(@:.o=.d) -c $$< -o $$@

$(BUILD)/host-$(1)/host-tests: $$(objects-host-$(1)) $(BUILD)/host-$(1)/link-flags
	@echo '  LINK   host-$(1)  host-tests'
	$$(Q)$$(call host-cxx,$(1)) -o $$@ $$(objects-host-$(1)) -lCatch2WithMain

$(BUILD)/host-$(1)/thread-tests: $$(objects-threads-$(1)) $(BUILD)/host-$(1)/link-flags
	@echo '  LINK   host-$(1)  thread-tests'
	$$(Q)$$(call host-cxx,$(1)) -o $$@ $$(objects-threads-$(1)) -lCatch2WithMain

-include $$(wildcard $$(sort $$(objects-host-$(1):.o=.d) $$(objects-threads-$(1):.o=.d)))
endef

# The tests of mm, or of the threads.
define host-test-rules
$(BUILD)/host-$(1)/tests/$(2)%.o: tests/$(2)% $(BUILD)/host-$(1)/flags $(BUILD)/host-$(1)/catch.hpp.gch
	@mkdir -p $$(@D)
	@echo '  CXX    host-$(1)  $$<'
	$$(Q)$$(call host-test-cxx,$(1)) -o $$@ $$<
endef

# A unit has the sources of its room that are in this configuration.
define host-unit-rules
$(call unit-rules,host-$(1),$(2),$$(call of-room,$(2),$$(sort $$(call host-sources,$(1)) $$(THREAD_SOURCES))))

$(BUILD)/host-$(1)/$(2).unit.o: $(BUILD)/host-$(1)/$(2).cpp $(BUILD)/host-$(1)/flags $(BUILD)/host-$(1)/$(3).hpp.gch
	@echo '  CXX    host-$(1)  $(2)/*.cpp'
	$$(Q)$$(if $$(filter catch,$(3)),$$(call host-test-cxx,$(1)),$$(call host-cxx,$(1)) $$(instead) $$(call \
	    host-file,$(1),$(2)/) -MMD -MP -MF $$(@:.o=.d) -c) -o $$@ $$<
endef

HOSTS      := $(sort $(patsubst host-%,%,$(filter host-%,$(GOAL_NAMES))))
ALL_HOSTS  := $(foreach memory,off 4g 64g,$(foreach debug,- -debug,$(foreach asan,- -asan,$(foreach \
    clang,- -clang,$(memory)$(debug:-=)$(asan:-=)$(clang:-=))) $(memory)$(debug:-=)-races))
ifneq ($(filter-out $(ALL_HOSTS),$(HOSTS)),)
$(error $(BUILD)/host-$(firstword $(filter-out $(ALL_HOSTS),$(HOSTS))): host tests are called \
    host-<off|4g|64g>[-debug][-asan][-clang], in this order, or host-<off|4g|64g>[-debug]-races)
endif

$(foreach name,$(HOSTS),$(eval $(call host-rules,$(name)))$(foreach kind,host/ threads/,$(eval $(call \
    host-test-rules,$(name),$(kind))))$(foreach room,$(TEST_ROOMS),$(eval $(call \
    host-unit-rules,$(name),$(room),catch)))$(foreach room,$(LIBRARY_ROOMS),$(eval $(call host-unit-rules,$(name),$(room),library))))
