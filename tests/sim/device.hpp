// A device: it reads and writes memory by itself, and interrupts a CPU. In an exploration it is an agent (agents.hpp);
// otherwise it works when a test lets it (Machine::step_a_device), and while the only thread waits (hal::park).
#pragma once

#include "arch/base/not_copyable.hpp"
#include "arch/base/types.hpp"

#include <string>

namespace loft::sim {

class Device : NotCopyable<Device> {
  public:
    Device(); // becomes a device of the machine
    virtual ~Device();

    virtual bool can_step() const = 0;
    virtual void step() = 0; // reads or writes some memory, or ends a transfer
    // The handler of its interrupt; does nothing if the device has not interrupted this CPU. All devices share a line.
    virtual void interrupt() = 0;
    // The transfer that has not ended and uses this frame, for a message; empty: none.
    virtual std::string use_of(u32 pfn) const = 0;

    u32 number() const { return number_; }

  private:
    friend class Machine;
    u32 number_ = 0;
};

} // namespace loft::sim
