// How far the physical addresses of this processor go.
//
// CPUID is no good witness: it may have no leaf for it, and then 36 bits are usual with PAE, and not certain (SDM vol.
// 3, 4.1.4: "generally"). QEMU's processors without PSE36, its default one among them, take 32. An entry with a bit
// beyond is a page fault wherever it is used (4.4.2), so it is tried before mm believes in memory up there.
#pragma once

namespace loft {

// Tries each bit above 32 that CPUID lets expect, without touching what is there. From the first that the processor
// does not take, hal::cpu_features() ends, and a line of the log says which memory is left out. Boot CPU, after
// enable_features, before mm_init. Cost: a page fault and an invlpg a bit.
void probe_reach();

} // namespace loft
