// crash=NAME: one deliberate misuse, to see that it is caught and what is said about it.
#pragma once

#include <string_view>

namespace loft {

// Commits the misuse and never returns: it ends in the panic that semantics.md promises, or here, with a line that
// says how it did not: "crash: NAME was reported" (by an error in the log; status passed), "crash: NAME was not
// caught" (status failed), or a refusal: this kernel or machine cannot show it, or it is no misuse, and then all names
// are listed (status refused). Boot thread, interrupts on.
[[noreturn]] void commit_misuse(std::string_view name);

} // namespace loft
