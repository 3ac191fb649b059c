// Backtraces by frame pointers. Contract: stacktrace.hpp.
#include "arch/i386/cpu/stacktrace.hpp"

#include "arch/i386/cpu/image.hpp"
#include "arch/i386/cpu/probe.hpp"

namespace loft {
namespace {

// Stacks lie in the direct map or in a vmap area (house.md, "Address map"), not in the fixmap, where a read may have
// side effects. Any page may be unmapped: a guard page, or no RAM.
constexpr u32 kStacksEnd = 0xfffc'0000;

bool plausible(u32 ebp) { return ebp % 4 == 0 && ebp >= kDirectMapBase && ebp < kStacksEnd - 8; }

} // namespace

u32 collect_stack(u32 ebp, std::span<u32> out) {
    u32 count = 0;
    while (count < out.size() && plausible(ebp)) {
        u32 caller_ebp, return_address;
        if (!probe_read32(VirtAddr{ebp}, caller_ebp) || !probe_read32(VirtAddr{ebp + 4}, return_address)) break;
        if (return_address == 0) break;
        out[count++] = return_address;
        if (caller_ebp <= ebp) break; // stacks grow down: frames of callers lie above
        ebp = caller_ebp;
    }
    return count;
}

} // namespace loft
