# Included by the Makefile: a kernel that is not loft, with mm and arch/base as they are.
# Not optimised, so that the functions of its HAL that mm calls are symbols of mm's objects (scripts/check-porting).
EMBED_SOURCES := $(call sources-of,arch/base mm tests/embed)
# Rooms of mm, each of which is one unit (make/sources.mk).
EMBED_ROOMS   := $(sort $(patsubst %/,%,$(filter mm/%/,$(dir $(EMBED_SOURCES)))))
EMBED_CXX     := $(HOST_CXX) -std=c++20 -O0 -g1 $(WARNINGS) -I. -Itests/embed

define embed-rules
objects-embed-$(1) := $$(patsubst %,$(BUILD)/embed-$(1)/%.o,$$(call units,$(EMBED_ROOMS),$(EMBED_SOURCES)))

$(BUILD)/embed-$(1)/flags: FORCE
	@mkdir -p $$(@D)
	@echo '$$(EMBED_CXX) $$(call host-defines,$(1)) $$(EMBED_SOURCES)' | scripts/update-file $$@

$(BUILD)/embed-$(1)/library.hpp.gch: $(BUILD)/embed-$(1)/flags | setup
	@echo '  PCH    embed-$(1)  library.hpp'
	$$(Q)$$(call library,arch/base mm) >$$(@:.gch=)
	$$(Q)$$(EMBED_CXX) $$(call host-defines,$(1)) -x c++-header $$(@:.gch=) -o $$@

$(BUILD)/embed-$(1)/%.cpp.o: %.cpp $(BUILD)/embed-$(1)/flags $(BUILD)/embed-$(1)/library.hpp.gch | setup
	@mkdir -p $$(@D)
	@echo '  CXX    embed-$(1)  $$<'
	$$(Q)$$(EMBED_CXX) $$(call host-defines,$(1)) -include $(BUILD)/embed-$(1)/library.hpp -MMD -MP -MF $$(@:.o=.d) -c $$< -o $$@

$(BUILD)/embed-$(1)/%.unit.o: $(BUILD)/embed-$(1)/%.cpp $(BUILD)/embed-$(1)/flags $(BUILD)/embed-$(1)/library.hpp.gch | setup
	@echo '  CXX    embed-$(1)  $$*/*.cpp'
	$$(Q)$$(EMBED_CXX) $$(call host-defines,$(1)) -include $(BUILD)/embed-$(1)/library.hpp -MMD -MP -MF $$(@:.o=.d) -c $$< -o $$@

$(BUILD)/embed-$(1)/embed: $$(objects-embed-$(1))
	@echo '  LINK   embed-$(1)  embed'
	$$(Q)$$(HOST_CXX) -o $$@ $$^

-include $$(wildcard $$(objects-embed-$(1):.o=.d))
endef

$(foreach name,64g 64g-debug,$(eval $(call embed-rules,$(name)))$(foreach room,$(EMBED_ROOMS),$(eval $(call \
    unit-rules,embed-$(name),$(room),$(call of-room,$(room),$(EMBED_SOURCES))))))
