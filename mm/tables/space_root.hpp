// Which CPUs may hold translations of an address space.
//
// A CPU is in the set of a root from before it loads the root until after it has loaded another one. A change of the
// space's entries that is visible before the set is read has to be told to the CPUs of the set, and to no others: who
// comes later loads the root, and so begins with nothing.
//
// A kernel thread keeps the root that it finds, lazily: a program that gives way to it and comes back has kept its TLB.
// Such a CPU is in the set. When it is asked to forget something it loads the kernel's root instead and leaves the set:
// it is asked once, not again and again.
#pragma once

#include "arch/base/cpu_set.hpp"
#include "mm/frames/page.hpp"
#include <hal/hal.hpp>

namespace loft {

class SpaceRoot {
  public:
    SpaceRoot() = default;
    SpaceRoot(const SpaceRoot&) = delete;
    SpaceRoot& operator=(const SpaceRoot&) = delete;

    void set_address(PhysAddr address) { address_ = address; } // once, before it is used
    PhysAddr address() const { return address_; }
    // Who may have it loaded. For a flush: after a locked instruction that follows the change.
    CpuSet cpus() const { return CpuSet::from_bits(cpus_.load()); }

    // This CPU goes to `next`; null: whoever runs now needs none, and keeps what is loaded. Interrupts off.
    // Cost: a CR3 load, unless it is loaded already or kept.
    static void use(SpaceRoot* next);
    // This CPU holds nothing of it after the call, and true is returned, unless somebody runs in it here: then false.
    // Interrupts off. Cost: a CR3 load if the root was kept lazily.
    bool leave();
    // No CPU has it loaded after the call. Panics if somebody runs in it. Any context; interrupts CPUs, idle ones too.
    void drop();

  private:
    hal::Atomic<u32> cpus_;
    PhysAddr address_{};
};

void space_root_init_cpu(CpuId cpu); // the kernel's root is loaded there

} // namespace loft
