// Names that a person has typed: which of those that exist come closest, and how a boot ends that was asked for
// something that there is not.
#pragma once

#include "arch/base/format.hpp"
#include "arch/base/types.hpp"

#include <span>
#include <string_view>

namespace loft {

// How many letters have to be inserted, left out, replaced, or exchanged with their neighbour to make `b` of `a`
// (optimal string alignment). Names of more than 63 characters are compared by their first 63. Pure.
u32 name_distance(std::string_view a, std::string_view b);

// As name_distance, but a name in which all of `wanted` stands counts as a hit: who types a part of it means it.
u32 name_rank(std::string_view wanted, std::string_view name);

// Whether a name of this rank may be what was meant.
constexpr bool is_near(u32 rank, std::string_view wanted) { return rank <= 1 || rank <= wanted.size() / 3; }

// Keeps the closest of the names that it is shown; the first of equals.
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

// Prints "Did you mean PREFIXname?" if a name is near, and then all names in lines that fit a screen, the closest
// first. Sorts `names` for it. Any context but NMI.
void offer_names(std::string_view prefix, std::string_view wanted, std::string_view what,
                 std::span<std::string_view> names);

// Ends the boot with the status "refused". `print` has said before, in a line that begins with kCannotDo, what was
// asked for and why it is not done, and in further lines what there is.
inline constexpr std::string_view kCannotDo = "loft: cannot do what was asked: ";
[[noreturn]] void refuse_request();

} // namespace loft
