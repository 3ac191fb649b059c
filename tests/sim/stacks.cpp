// Stacks as fibers. Contract: stacks.hpp. The switch itself: world.cpp.
#include "tests/sim/stacks.hpp"

#include "tests/sim/errors.hpp"

namespace loft::sim {

Stacks& stacks() {
    static Stacks all;
    return all;
}
void forget_stacks() { stacks().clear(); }

void Stacks::begin(Stack& stack, void (*entry)(void*), void* argument) {
    stack.body = [entry, argument] {
        try {
            entry(argument);
        } catch (const std::exception& error) {
            explore_stop(error.what());
        }
        explore_stop("the first function of a stack has returned");
    };
    stack.fiber.start(&stack.body);
}

Stack& Stacks::prepare(u32 end, void (*entry)(void*), void* argument) {
    Stack* stack = ending_at(end);
    if (stack == nullptr) {
        stacks_.push_back(std::make_unique<Stack>());
        prepared_.emplace_back();
        stack = stacks_.back().get();
        stack->number = static_cast<u32>(stacks_.size());
        stack->end = end;
    } else if (stack->pointer == 0) {
        throw BadAccess{text("the stack that ends at {:08x} is made again while a CPU uses it", end)};
    }
    begin(*stack, entry, argument);
    prepared_[stack->number - 1] = {end, leave(*stack), entry, argument};
    return *stack;
}

Stack* Stacks::waiting_at(u32 pointer) {
    for (const auto& stack : stacks_)
        if (pointer != 0 && stack->pointer == pointer) return stack.get();
    return nullptr;
}
Stack* Stacks::ending_at(u32 end) {
    for (const auto& stack : stacks_)
        if (stack->end == end) return stack.get();
    return nullptr;
}

void Stacks::save() {
    saved_ = prepared_;
    saved_pointer_ = last_pointer_;
}

void Stacks::restore() {
    stacks_.resize(saved_.size());
    prepared_ = saved_;
    last_pointer_ = saved_pointer_;
    for (std::size_t i = 0; i < saved_.size(); ++i) {
        begin(*stacks_[i], saved_[i].entry, saved_[i].argument);
        stacks_[i]->pointer = saved_[i].pointer;
    }
}

} // namespace loft::sim
