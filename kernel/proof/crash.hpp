// crash=NAME: commits one deliberate misuse, to check that it is caught and reported.
#pragma once

#include <string_view>

namespace loft {

// Commits the misuse and never returns. It ends in the panic that semantics.md promises, or prints one of: "crash: NAME
// was reported" (as an error in the log; status passed), "crash: NAME was not caught" (status failed), or a refusal
// (status refused) if this kernel or machine cannot show it, or if there is no such misuse; then all names are listed.
// Boot thread, interrupts on.
[[noreturn]] void commit_misuse(std::string_view name);

} // namespace loft
