// The choice of the program. Contract: last_resort.hpp, and address_space.hpp for end_largest_program.
#include "mm/reclaim/last_resort.hpp"

#include "mm/ground/context.hpp"
#include "mm/ground/mutex.hpp"

#include <utility>

namespace loft {

// The look at all spaces. Other threads turn the ring meanwhile, so each space has the number of the look that has come
// to it; else one could be left out.
class LastResort {
  public:
    bool end_largest(u32 since);

  private:
    struct Choice {
        AddressSpace* space = nullptr; // with a reference; null: there is none
        SpaceStats has{};
        u32 size = 0;
        SpaceUse use = SpaceUse::none;
    };
    Choice look() LOFT_REQUIRES(one_at_a_time_);
    AddressSpace* next() const LOFT_REQUIRES(one_at_a_time_);

    Mutex one_at_a_time_{"of the choice of a program to end"};
    u32 number_ LOFT_GUARDED_BY(one_at_a_time_) = near_wrap<u32>(); // of the look; 0 is that of a new space
};

// The largest space of those whose programs end; if they have nothing, the largest one that a program uses.
LastResort::Choice LastResort::look() {
    if (++number_ == 0) ++number_;
    Choice best;
    while (AddressSpace* space = next()) {
        const SpaceUse use = space->use();
        const SpaceStats has = space->stats();
        const u32 size = has.resident + has.swapped + has.tables;
        if (use != SpaceUse::none && size != 0 && std::pair{use, size} > std::pair{best.use, best.size}) {
            best.has = has;
            best.size = size;
            best.use = use;
            std::swap(best.space, space);
        }
        if (space != nullptr) space->put();
    }
    return best;
}

// A space that this look has not come to, with a reference; null: there is none.
AddressSpace* LastResort::next() const {
    return all_spaces().first_of([number = number_](AddressSpace& space) {
        if (space.compared_ == number) return false;
        space.compared_ = number;
        return true;
    });
}

bool LastResort::end_largest(u32 since) {
    MutexGuard guard{one_at_a_time_};
    ProgramEnd end = ProgramEnd::none;
    while (end == ProgramEnd::none && spaces_cleared() == since) {
        const Choice choice = look();
        if (choice.space == nullptr) return spaces_cleared() != since;
        // The look may have found a space empty that another thread was emptying: that is counted then.
        if (spaces_cleared() == since) end = program_end(*choice.space, choice.has);
        if (end == ProgramEnd::other) choice.space->reap();
        choice.space->put();
    }
    return end != ProgramEnd::own;
}

namespace {

constinit LastResort last_resort;

} // namespace

bool end_largest_program(u32 since) {
    might_sleep("the last resort");
    return last_resort.end_largest(since);
}

} // namespace loft
