// The root that each CPU has loaded. Contract: space_root.hpp.
#include "mm/tables/space_root.hpp"

#include "mm/ground/context.hpp"
#include "mm/ground/remote.hpp"
#include "mm/tables/flush_clock.hpp"
#include "mm/tables/pagetable.hpp"

namespace loft {
namespace {

struct Loaded {
    SpaceRoot* root = nullptr; // null: the kernel's
    bool lazy = false;         // the thread that runs on this CPU does not need it
};
LOFT_PERCPU hal::PerCpu<Loaded> loaded;

u32 my_bit() { return CpuSet::only(hal::this_cpu()).bits(); }

} // namespace

void SpaceRoot::use(SpaceRoot* next) {
    Loaded& mine = loaded.mine();
    mine.lazy = next == nullptr;
    if (next == nullptr || next == mine.root) return;
    // Join the new CPU set before loading the root; leave the old one after.
    next->cpus_.fetch_or(my_bit());
    tlb_load_root(next->address_);
    if (mine.root != nullptr) mine.root->cpus_.fetch_and(~my_bit());
    mine.root = next;
}

bool SpaceRoot::leave() {
    Loaded& mine = loaded.mine();
    if (mine.root != this) return true;
    if (!mine.lazy) return false;
    tlb_load_root(kernel_root());
    cpus_.fetch_and(~my_bit());
    mine.root = nullptr;
    return true;
}

void SpaceRoot::leave_all() {
    SpaceRoot* const root = loaded.mine().root;
    if (root != nullptr && !root->leave()) panic("CPU {} leaves the space in which its thread runs", hal::this_cpu());
}

void SpaceRoot::drop() {
    const auto leave_here = [](void* root) {
        if (!static_cast<SpaceRoot*>(root)->leave())
            panic("the last reference to an address space was put while CPU {} runs in it", hal::this_cpu());
    };
    IrqGuard guard;
    leave_here(this);
    run_on(cpus(), leave_here, this);
    LOFT_ASSERT(cpus().empty());
}

void space_root_init_cpu(CpuId cpu) { loaded.of(cpu) = Loaded{}; }

} // namespace loft
