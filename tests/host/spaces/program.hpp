// A program, as the tests are one: it runs in an address space on a CPU, reads and writes in ring 3, and has its faults
// resolved as the kernel's trap handler would.
#pragma once

#include "mm/spaces/address_space.hpp"
#include "tests/host/booted.hpp"

#include <stdexcept>

namespace loft::test {

// What becomes of a program whose fault nobody resolves.
struct Killed : std::runtime_error {
    Killed(FaultResult why, VirtAddr at);
    FaultResult why;
};

// This CPU runs the space from now on, or a kernel thread (null).
void run_in(AddressSpace* space);

// Ring 3 of the space that runs here. Throw Killed; what the machine throws comes out too.
u32 user_load(VirtAddr va);
void user_store(VirtAddr va, u32 value);
void user_exec(VirtAddr va);
// One try, faults included: true if it was allowed.
bool user_can_read(VirtAddr va);
bool user_can_write(VirtAddr va);

// A reference to a space for the length of a scope. Ends with no CPU running in it.
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

// `pages` pages of private memory at `at`, or wherever there is room (0).
VirtAddr map_pages(AddressSpace& space, u32 at, u32 pages, Prot prot = kReadWrite, MapKind kind = MapKind::anonymous);

// The child of a fork that has to work.
Owned fork_of(AddressSpace& space);

// Uses every object cache once: a cache keeps its last slab, and the books are about the rest.
void warm_up();

// Calls run(arm) again and again. It prepares, calls arm(), does what is tested, and takes everything back; the first
// time the first allocation after arm() fails, then the second, until all have failed once. Returns how many there
// were. The books are the same after each round.
u32 for_every_failure(const std::function<void(const std::function<void()>& arm)>& run);
// Has the allocation that was to fail been asked for since arm()? Takes the order back.
bool one_failed();

} // namespace loft::test
