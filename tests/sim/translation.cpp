// Translations as text, for messages.
#include "tests/sim/translation.hpp"

#include "tests/sim/errors.hpp"

namespace loft::sim {

const char* access_name(Access access) {
    switch (access) {
    case Access::read:
        return "reads";
    case Access::write:
        return "writes";
    case Access::execute:
        return "executes";
    case Access::user_read:
        return "reads (user)";
    case Access::user_write:
        return "writes (user)";
    }
    return "?";
}

std::string describe(const Translation& t) {
    return text("frame {:x} ({}{}{}{})", t.pfn, t.write ? "RW" : "RO", t.no_execute ? ",NX" : "", t.user ? ",U" : "",
                t.global ? ",G" : "");
}

} // namespace loft::sim
