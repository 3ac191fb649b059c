// The physical-address width of this processor.
//
// CPUID does not settle it. It may lack the leaf; then 36 bits are usual with PAE but not guaranteed (SDM vol. 3,
// 4.1.4: "generally"). QEMU's processors without PSE36, among them its default one, support 32. Using an entry with an
// unsupported address bit causes a page fault (4.4.2). So each bit is tried before mm uses memory up there.
#pragma once

namespace loft {

// Tries each bit above 32 that CPUID reports, without touching the memory. hal::cpu_features() is limited to the bits
// below the first one that fails, and a log line says which memory is not used. Boot CPU, after enable_features, before
// mm_init. Cost: one page fault and one invlpg per bit.
void probe_reach();

} // namespace loft
