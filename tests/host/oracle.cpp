// The simple page-table walker. Contract: oracle.hpp.
#include "tests/host/oracle.hpp"

#include "arch/base/config.hpp"
#include "tests/sim/machine.hpp"

namespace loft::test {
namespace {

constexpr bool kPae = config::kPae;

u64 word_at(u64 at) { return kPae ? sim::peek<u64>(PhysAddr{at}) : sim::peek<u32>(PhysAddr{at}); }
u64 address_in(u64 entry) { return kPae ? entry & 0xf'ffff'f000 : entry & 0xffff'f000; }
bool bit(u64 entry, int n) { return (entry >> n & 1) != 0; }

// The directory entry of an address; 0 if there is no directory.
u64 directory_entry(u64 root, u32 va) {
    if (!kPae) return word_at(root + (va >> 22) * 4);
    const u64 pdpte = word_at(root + (va >> 30) * 8);
    return bit(pdpte, 0) ? word_at(address_in(pdpte) + (va >> 21 & 511) * 8) : 0;
}

} // namespace

std::optional<Mapped> oracle_walk(u64 root, u32 va) {
    const u64 pde = directory_entry(root, va);
    if (!bit(pde, 0)) return {};
    Mapped page;
    u64 entry = pde;
    if (bit(pde, 7)) {
        const u64 size = kPae ? 0x20'0000 : 0x40'0000;
        page.large = true;
        page.phys = (address_in(pde) & ~(size - 1)) + (va & (size - 1) & ~0xfffu);
    } else {
        entry = word_at(address_in(pde) + (kPae ? (va >> 12 & 511) * 8 : (va >> 12 & 1023) * 4));
        if (!bit(entry, 0)) return {};
        page.phys = address_in(entry);
    }
    page.write = bit(pde, 1) && bit(entry, 1);
    page.user = bit(pde, 2) && bit(entry, 2);
    page.uncached = bit(entry, 4);
    page.accessed_dirty = bit(entry, 5) && bit(entry, 6);
    page.global = bit(entry, 8);
    page.execute = !kPae || (!bit(pde, 63) && !bit(entry, 63));
    return page;
}

void oracle_every_page(u64 root, const std::function<void(u32 va, const Mapped&)>& visit) {
    for (u64 va = 0; va < u64{1} << 32;) {
        if (!bit(directory_entry(root, static_cast<u32>(va)), 0)) {
            va += kPae ? 0x20'0000 : 0x40'0000;
            continue;
        }
        if (const auto page = oracle_walk(root, static_cast<u32>(va))) visit(static_cast<u32>(va), *page);
        va += 0x1000;
    }
}

std::set<u64> oracle_tables(u64 root) {
    std::set<u64> frames{root & ~u64{0xfff}};
    for (u64 va = 0; va < u64{1} << 32; va += kPae ? 0x20'0000 : 0x40'0000) {
        if (kPae) {
            const u64 pdpte = word_at(root + (va >> 30) * 8);
            if (bit(pdpte, 0)) frames.insert(address_in(pdpte));
        }
        const u64 pde = directory_entry(root, static_cast<u32>(va));
        if (bit(pde, 0) && !bit(pde, 7)) frames.insert(address_in(pde));
    }
    return frames;
}

bool oracle_has_table(u64 root, u32 va) {
    const u64 pde = directory_entry(root, va);
    return bit(pde, 0) && !bit(pde, 7);
}

} // namespace loft::test
