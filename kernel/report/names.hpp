// Names on the command line: which existing name is closest to an unknown one; and the end of a boot whose command line
// asks for something that does not exist.
#pragma once

#include "arch/base/format.hpp"
#include "arch/base/types.hpp"

#include <span>
#include <string_view>

namespace loft {

// The number of letters to insert, delete, replace, or transpose with their neighbour to turn `a` into `b` (optimal
// string alignment). Only the first 63 characters are compared. Pure.
u32 name_distance(std::string_view a, std::string_view b);

// As name_distance, but 0 if `name` contains `wanted`.
u32 name_rank(std::string_view wanted, std::string_view name);

// True if a name of this rank may be the intended one.
constexpr bool is_near(u32 rank, std::string_view wanted) { return rank <= 1 || rank <= wanted.size() / 3; }

// Keeps the closest of the names that it is offered; the first of equals.
class Closest {
  public:
    explicit Closest(std::string_view wanted) : wanted_{wanted} {}
    void offer(std::string_view name);
    // Empty if no name is near.
    std::string_view name() const { return is_near(rank_, wanted_) ? best_.view() : std::string_view{}; }

  private:
    std::string_view wanted_;
    u32 rank_ = ~0u;
    BufferSink<96> best_;
};

// Prints "Did you mean PREFIXname?" if a name is near, then all names in lines that fit a screen, the closest first.
// Sorts `names`. Any context but NMI.
void offer_names(std::string_view prefix, std::string_view wanted, std::string_view what,
                 std::span<std::string_view> names);

// Ends the boot with the status "refused". Before, the caller has printed a line that begins with kCannotDo and says
// what was asked for and why it cannot be done, and further lines with the valid names.
inline constexpr std::string_view kCannotDo = "loft: cannot do what was asked: ";
[[noreturn]] void refuse_request();

} // namespace loft
