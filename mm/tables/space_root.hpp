// The set of CPUs that may hold translations of an address space.
//
// A CPU joins the set of a root before it loads the root, and leaves it after it has loaded another one. A CPU that
// flushes changes the entries, then reads the set, and asks only the CPUs in it. A CPU that joins later loads the root,
// which flushes, and so it finds the new entries.
//
// Lazy switching: a CPU that switches from a program to a kernel thread keeps the program's root loaded, so the program
// finds its TLB entries when it runs again. The CPU stays in the set. When it is asked to flush, it loads the kernel's
// root instead and leaves the set, so it is asked only once.
#pragma once

#include "arch/base/cpu_set.hpp"
#include "arch/base/not_copyable.hpp"
#include "mm/frames/page.hpp"
#include <hal/hal.hpp>

namespace loft {

class SpaceRoot : NotCopyable<SpaceRoot> {
  public:
    SpaceRoot() = default;

    void set_address(PhysAddr address) { address_ = address; } // once, before the first use()
    PhysAddr address() const { return address_; }
    // The CPUs that may have the root loaded. A flush calls it after its change and a locked instruction.
    CpuSet cpus() const { return CpuSet::from_bits(cpus_.load()); }

    // Switches this CPU to `next`. Null: the next thread needs no root; the loaded one is kept lazily. Context:
    // interrupts off. Cost: a CR3 load, unless `next` is null or loaded already.
    static void use(SpaceRoot* next);
    // True: this CPU does not have the root loaded after the call. False: the thread on this CPU runs in the space.
    // Context: interrupts off. Cost: a CR3 load if the root was kept lazily.
    bool leave();
    // This CPU loads the kernel's root, if another one is loaded: it is in the set of no space after the call. Context:
    // interrupts off; the thread on this CPU needs no root. Cost: at most one CR3 load.
    static void leave_all();
    // Makes all CPUs leave. Panics if a thread runs in the space. Any context. Cost: one remote call to the CPUs of the
    // set, idle ones included; a CR3 load on each.
    void drop();

  private:
    hal::Atomic<u32> cpus_;
    PhysAddr address_{};
};

void space_root_init_cpu(CpuId cpu); // `cpu` has the kernel's root loaded

} // namespace loft
