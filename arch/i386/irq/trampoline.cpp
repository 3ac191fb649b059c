// The trampoline's page. Contract: trampoline.hpp.
#include "arch/i386/irq/trampoline.hpp"

#include "arch/i386/cpu/features.hpp"
#include "arch/i386/cpu/image.hpp"
#include "arch/i386/cpu/probe.hpp"
#include "arch/i386/isa/control.hpp"

#include <cstddef>
#include <cstring>

namespace loft {
namespace {

static_assert(offsetof(Ticket, root) == 0 && offsetof(Ticket, stack_top) == 4); // ap_start_high reads them

// The end of the trampoline.
struct TrampolineData {
    hal::Atomic<u32> ticket; // the address of a Ticket, or 0
    u32 cr0, cr4, root, has_efer, efer;
};
extern "C" {
extern const char trampoline[], trampoline_end[];
extern const u32 trampoline_data_offset;
extern hal::PteCell boot_root[]; // boot/paging.asm
}

constinit TrampolineData* trampoline_data = nullptr;

hal::PteCell* table_at(PhysAddr phys) {
    return reinterpret_cast<hal::PteCell*>(kDirectMapBase + static_cast<u32>(phys.value()));
}

// The tables on which a CPU turns paging on: the first 16 MiB identity-mapped, as boot/paging.asm made them for the
// boot CPU, and the kernel's part of the current tables.
PhysAddr trampoline_root() {
    hal::PteCell* const kernel = table_at(hal::current_root());
    for (u32 i = paging::kRootEntries * 3 / 4; i < paging::kRootEntries; ++i)
        hal::pte_set(boot_root + i, hal::pte_read(kernel + i));
    return PhysAddr{u64{image_addr(boot_root).value() - kDirectMapBase}};
}

} // namespace

u8 trampoline_prepare(PhysAddr page) {
    char* const to = reinterpret_cast<char*>(table_at(page));
    std::memcpy(to, trampoline, static_cast<u32>(trampoline_end - trampoline));
    trampoline_data = reinterpret_cast<TrampolineData*>(to + trampoline_data_offset);
    trampoline_data->ticket.store(0);
    trampoline_data->cr0 = read_cr0();
    trampoline_data->cr4 = read_cr4() & ~kOptionalCr4; // ap_entry sets them, if the CPU has them
    trampoline_data->root = static_cast<u32>(trampoline_root().value());
    u64 efer = 0;
    trampoline_data->has_efer = probe_read_msr(msr::efer, efer);
    trampoline_data->efer = static_cast<u32>(efer);
    return static_cast<u8>(page.pfn().value());
}

void trampoline_offer(Ticket& ticket) { trampoline_data->ticket.exchange(reinterpret_cast<u32>(&ticket)); }
bool trampoline_withdraw() { return trampoline_data->ticket.exchange(0) != 0; }

} // namespace loft
