// Programs. Contract: program.hpp.
#include "tests/host/spaces/program.hpp"

#include "mm/ground/context.hpp"
#include "tests/host/spaces/program_memory.hpp"

namespace loft::test {
namespace {

const char* name_of(FaultResult why) {
    switch (why) {
    case FaultResult::resolved:
        return "resolved";
    case FaultResult::bad_address:
        return "bad address";
    case FaultResult::no_access:
        return "no access";
    case FaultResult::no_memory:
        return "no memory";
    case FaultResult::no_page:
        return "no page";
    case FaultResult::lost:
        return "lost";
    }
    return "?";
}

constexpr u32 kMostFaults = 100;

// Repeats `access` until it does not fault. The fault is resolved after the catch block has ended: a fiber of an
// exploration must not be switched away inside one.
template <typename F> void with_faults(VirtAddr va, FaultAccess kind, F&& access) {
    ProgramMemory* const model = ProgramMemory::current();
    u32 number = 0;
    for (u32 faults = 0;; ++faults) {
        if (faults == kMostFaults) throw std::logic_error{sim::text("faults at {:08x} again and again", va.value())};
        sim::schedule_point(sim::Point::memory);
        if (model != nullptr && faults == 0) number = model->begin_access(va, kind);
        bool faulted = false;
        try {
            access();
        } catch (const sim::PageFault&) {
            faulted = true;
        }
        if (!faulted) {
            if (model != nullptr) model->end_access(number);
            return;
        }
        AddressSpace* const space = active_space();
        const FaultResult result = space != nullptr ? space->handle_fault(va, kind) : FaultResult::bad_address;
        if (result == FaultResult::resolved) continue;
        if (model != nullptr) model->killed(number);
        throw Killed{result, va};
    }
}

bool allowed(VirtAddr va, sim::Access kind) {
    try {
        sim::machine().access(va, 4, kind);
        return true;
    } catch (const sim::PageFault&) {
        return false;
    }
}

std::function<ProgramEnd(AddressSpace&, const SpaceStats&)> at_end;

} // namespace

OnProgramEnd::OnProgramEnd(std::function<ProgramEnd(AddressSpace&, const SpaceStats&)> what) {
    at_end = std::move(what);
}
OnProgramEnd::~OnProgramEnd() { at_end = nullptr; }

Killed::Killed(FaultResult result, VirtAddr at)
    : std::runtime_error{sim::text("killed at {:08x}: {}", at.value(), name_of(result))}, why{result} {}

void run_in(AddressSpace* space) {
    IrqGuard guard;
    space_switch(space);
}

u32 user_load(VirtAddr va) {
    u32 value = 0;
    with_faults(va, FaultAccess::read, [&] {
        value = sim::user_read<u32>(va);
        if (ProgramMemory* const model = ProgramMemory::current()) model->loaded(va, value);
    });
    return value;
}

void user_store(VirtAddr va, u32 value) {
    with_faults(va, FaultAccess::write, [&] {
        u8* const to = sim::machine().access(va, 4, sim::Access::user_write);
        ProgramMemory* const model = ProgramMemory::current();
        sim::machine().store(to, &value, sizeof value, model != nullptr ? model->stored(va, value) : 0);
    });
}

void user_exec(VirtAddr va) {
    with_faults(va, FaultAccess::exec, [&] {
        sim::machine().access(va, 4, sim::Access::user_read);
        sim::exec(va);
    });
}

bool user_can_read(VirtAddr va) { return allowed(va, sim::Access::user_read); }
bool user_can_write(VirtAddr va) { return allowed(va, sim::Access::user_write); }

void Owned::end() {
    AddressSpace* const space = std::exchange(space_, nullptr);
    if (space == nullptr) return;
    sim::machine().online().for_each([space](CpuId cpu) {
        sim::on_cpu(cpu, [space] {
            if (active_space() == space) run_in(nullptr);
        });
    });
    space->put();
}

VirtAddr map_pages(AddressSpace& space, u32 at, u32 pages, Prot prot, MapKind kind) {
    const Result<VirtAddr> where = space.map(VirtAddr{at}, pages * kPageSize, prot, kind, at != 0);
    REQUIRE(where);
    return *where;
}

AddressSpace* space_with_pages(u32 pages) {
    AddressSpace* const space = AddressSpace::create();
    REQUIRE(space != nullptr);
    const VirtAddr begin = map_pages(*space, kBase, pages);
    run_in(space);
    for (u32 i = 0; i < pages; ++i)
        user_store(begin + i * kPageSize, i + 1);
    run_in(nullptr);
    // The flush makes this CPU leave the root, which it has lazily.
    REQUIRE(space->protect(begin, kPageSize, kRead));
    REQUIRE(space->protect(begin, kPageSize, kReadWrite));
    REQUIRE(space->cpus().empty());
    return space;
}

Owned fork_of(AddressSpace& space) {
    const Result<AddressSpace*> child = space.fork();
    REQUIRE(child);
    return Owned{*child};
}

void warm_up() {
    Owned space;
    map_pages(*space, 0x10'0000, 1, kReadWrite, MapKind::shared);
}

bool one_failed() {
    sim::machine().allow_allocations();
    return sim::machine().allocation_failed();
}

u32 for_every_failure(const std::function<void(const std::function<void()>& arm)>& run, bool and_later) {
    warm_up();
    const Books before = books();
    const SpaceTotals objects = space_totals();
    for (u32 nth = 0;; ++nth) {
        run([nth, and_later] { sim::machine().fail_allocation(nth, and_later); });
        const bool failed = one_failed();
        INFO("with allocation number " << nth << " failing");
        REQUIRE(books() == before);
        REQUIRE(space_totals() == objects);
        if (!failed) return nth;
    }
}

} // namespace loft::test

loft::ProgramEnd loft::program_end(AddressSpace& space, const SpaceStats& has) {
    return test::at_end ? test::at_end(space, has) : ProgramEnd::own;
}
