// Stacks of a kernel that switches them itself (arch/i386/cpu/switch.hpp): each is a fiber.
//
// A stack that waits has a pointer, which no other stack ever has; a stack in use has none. So a switch to a stack that
// a CPU still uses, or to a place that has been left since, finds no stack and is an error.
#pragma once

#include "tests/sim/fiber.hpp"

#include <vector>

namespace loft::sim {

struct Stack {
    u32 number = 0; // from 1
    u32 end = 0;    // its end in the kernel's memory; 0: none
    u32 pointer = 0;
    std::function<void()> body;
    Fiber fiber;
};

// Makes the stack that ends at `end` begin with entry(argument), and returns its pointer. In an exploration an error if
// a CPU uses it.
u32 prepare_stack(u32 end, void (*entry)(void*), void* argument);
// The running fiber of this CPU waits, *from is its pointer, and the CPU goes on at `to`. Interrupts are off.
void switch_stack(u32* from, u32 to);
// The stack with which this CPU would enter the kernel from ring 3. A switch checks that it is the new one.
void set_kernel_stack(u32 end);
// Turns interrupts on and waits until one has been handled; none can come before it waits.
void wait_for_interrupt();

void forget_stacks(); // for the next machine

// All stacks, and those that existed at the begin of an exploration as they were then.
class Stacks {
  public:
    Stack& prepare(u32 end, void (*entry)(void*), void* argument);
    Stack* waiting_at(u32 pointer);
    Stack* ending_at(u32 end);
    // The stack waits; its pointer is a new one.
    u32 leave(Stack& stack) { return stack.pointer = ++last_pointer_; }

    void save();
    void restore(); // stacks made since save() are dropped
    void clear() { *this = Stacks{}; }

  private:
    struct Prepared {
        u32 end, pointer;
        void (*entry)(void*);
        void* argument;
    };
    void begin(Stack& stack, void (*entry)(void*), void* argument);

    std::vector<std::unique_ptr<Stack>> stacks_;
    std::vector<Prepared> prepared_, saved_; // prepared_[i] is about stacks_[i]
    u32 last_pointer_ = 0, saved_pointer_ = 0;
};
Stacks& stacks();

} // namespace loft::sim
