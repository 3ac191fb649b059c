// A simulated program: the test runs in an address space on a CPU, reads and writes in ring 3, and its faults are
// resolved as in the kernel's trap handler.
#pragma once

#include "mm/reclaim/last_resort.hpp"
#include "tests/host/booted.hpp"

#include <stdexcept>

namespace loft::test {

// Thrown if a fault of the program cannot be resolved.
struct Killed : std::runtime_error {
    Killed(FaultResult why, VirtAddr at);
    FaultResult why;
};

// What the kernel does when memory has run out (mm/reclaim/last_resort.hpp), until the end of the scope: the space is
// not that of the caller. Else the caller's own program is the largest.
class OnProgramEnd : NotCopyable<OnProgramEnd> {
  public:
    explicit OnProgramEnd(std::function<ProgramEnd(AddressSpace&, const SpaceStats&)> what);
    ~OnProgramEnd();
};

// From now on this CPU runs the space, or a kernel thread (null).
void run_in(AddressSpace* space);

// Accesses in ring 3 of the space that runs on this CPU. Throw Killed, and the errors of the machine.
u32 user_load(VirtAddr va);
void user_store(VirtAddr va, u32 value);
void user_exec(VirtAddr va);
// One access, its faults resolved; true if it was allowed.
bool user_can_read(VirtAddr va);
bool user_can_write(VirtAddr va);

// A reference to a space until the end of the scope. No CPU may run in the space at the end.
class Owned {
  public:
    Owned() : Owned{AddressSpace::create()} {}
    explicit Owned(AddressSpace* space) : space_{space} { REQUIRE(space != nullptr); }
    Owned(Owned&& other) noexcept : space_{std::exchange(other.space_, nullptr)} {}
    ~Owned() noexcept(false) { end(); }
    void end(); // now
    AddressSpace* operator->() const { return space_; }
    AddressSpace& operator*() const { return *space_; }
    AddressSpace* get() const { return space_; }

  private:
    AddressSpace* space_;
};

inline constexpr Prot kRead = Prot::read, kReadWrite = Prot::read | Prot::write, kAll = kReadWrite | Prot::exec;

inline constexpr u32 kBase = 0x1000'0000; // where most tests map pages
// `pages` pages of private memory at `at`, or at a free address (0).
VirtAddr map_pages(AddressSpace& space, u32 at, u32 pages, Prot prot = kReadWrite, MapKind kind = MapKind::anonymous);

// A new space with `pages` pages from kBase on, which are there; the first word of the n-th is n + 1. No CPU has its
// root.
AddressSpace* space_with_pages(u32 pages);

// The child of a fork; the test fails if fork fails.
Owned fork_of(AddressSpace& space);

// Uses every object cache once: a cache keeps its last slab, which must not count as a difference of books().
void warm_up();

// Calls run(arm) repeatedly. `run` prepares, calls arm(), performs the tested operation, and releases everything. In
// the n-th round the n-th allocation after arm() fails, until all have failed once. Returns the number of allocations.
// Checks after each round that books() is the same. `and_later`: those after the n-th fail, too, for an operation that
// tries again.
u32 for_every_failure(const std::function<void(const std::function<void()>& arm)>& run, bool and_later = false);
// True if the allocation that was to fail has been made since arm(). Disarms.
bool one_failed();

} // namespace loft::test
