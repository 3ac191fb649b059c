// The choice of the program. Contract: last_resort.hpp, and address_space.hpp for end_largest_program.
#include "mm/reclaim/last_resort.hpp"

#include "mm/ground/context.hpp"
#include "mm/ground/mutex.hpp"

#include <utility>

namespace loft {

// The look at all spaces. Other threads turn the ring meanwhile, so each space has the number of the choice that has
// looked at it; else one could be left out.
class LastResort {
  public:
    struct Choice {
        AddressSpace* space = nullptr; // with a reference; null: there is none
        SpaceStats has{};
        u32 size = 0;
    };

    // The largest space whose size is below `limit`.
    Choice largest_below(u32 limit) {
        MutexGuard guard{one_at_a_time_};
        ++number_;
        Choice best;
        while (AddressSpace* space = next()) {
            const SpaceStats has = space->stats();
            const u32 size = has.resident + has.swapped + has.tables;
            if (size > best.size && size < limit) {
                best.has = has;
                best.size = size;
                std::swap(best.space, space);
            }
            if (space != nullptr) space->put();
        }
        return best;
    }

  private:
    // A space that this choice has not looked at, with a reference; null: there is none.
    AddressSpace* next() LOFT_REQUIRES(one_at_a_time_) {
        return all_spaces().first_of([number = number_](AddressSpace& space) {
            if (space.compared_ == number) return false;
            space.compared_ = number;
            return true;
        });
    }

    Mutex one_at_a_time_{"of the choice of a program to end"};
    u32 number_ LOFT_GUARDED_BY(one_at_a_time_) = near_wrap<u32>();
};

namespace {

constinit LastResort last_resort;

} // namespace

bool end_largest_program(u32 since) {
    might_sleep("the last resort");
    for (u32 limit = ~0u;;) {
        const LastResort::Choice choice = last_resort.largest_below(limit);
        if (choice.space == nullptr) return spaces_cleared() != since;
        const ProgramEnd end = program_end(*choice.space, choice.has, since);
        choice.space->put();
        if (end != ProgramEnd::none) return end == ProgramEnd::other;
        limit = choice.size; // a space that is being made, or freed
    }
}

} // namespace loft
