// Stacks of a kernel that switches them itself (arch/i386/cpu/switch.hpp): each is a fiber.
//
// A stack that waits has a pointer, which no other stack ever has; a stack in use has none. So a switch to a stack that
// a CPU still uses, or to a place that has been left since, finds no stack and is an error.
#pragma once

#include "arch/base/types.hpp"
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

// Starting CPUs that are off. `apic`: the number of the hardware, which is that of the CPU until two are exchanged.
void reset_cpu(u32 apic); // INIT: of a CPU that is off, was called and has not begun, or has stopped
void call_cpu(u32 apic);  // a start-up interrupt: it begins, if it has been reset and has not begun yet
u32 apic_here();
CpuId cpu_with_apic(u32 apic);
// By a CPU in its first step: it goes on as another one, which is off. Returns when this CPU, with the other's
// hardware, is called in its turn.
void become_cpu(u32 cpu);
// By a CPU that has begun: from here on it is this CPU for good. The function runs on the stack that ends at `end`, and
// does not return.
void begin_on_stack(u32 end, std::function<void()> body);
void listen_to_interrupts(); // its local APIC is on: before, an interrupt to this CPU is an error
void start_ticks();
[[noreturn]] void stop_cpu(); // for ever

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
