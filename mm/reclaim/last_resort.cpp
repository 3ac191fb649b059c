// The choice of the program. Contract: last_resort.hpp, and address_space.hpp for end_largest_program.
#include "mm/reclaim/last_resort.hpp"

#include "mm/ground/context.hpp"

#include <utility>

namespace loft {
namespace {

struct Choice {
    AddressSpace* space = nullptr; // with a reference; null: there is none
    SpaceStats has{};
    u32 size = 0;
};

u32 size_of(const SpaceStats& has) { return has.resident + has.swapped + has.tables; }

// The largest space whose size is below `limit`.
Choice largest_below(u32 limit) {
    Choice best;
    for (u32 left = all_spaces().size(); left != 0; --left) {
        AddressSpace* space = all_spaces().first();
        if (space == nullptr) break;
        all_spaces().passed(*space);
        const SpaceStats has = space->stats();
        const u32 size = size_of(has);
        if (size > best.size && size < limit) {
            best.has = has;
            best.size = size;
            std::swap(best.space, space);
        }
        if (space != nullptr) space->put();
    }
    return best;
}

} // namespace

bool end_largest_program(u32 since) {
    might_sleep("the last resort");
    for (u32 limit = ~0u;;) {
        const Choice choice = largest_below(limit);
        if (choice.space == nullptr) return spaces_cleared() != since;
        const ProgramEnd end = program_end(*choice.space, choice.has, since);
        choice.space->put();
        if (end != ProgramEnd::none) return end == ProgramEnd::other;
        limit = choice.size; // a space that is being made, or freed
    }
}

} // namespace loft
