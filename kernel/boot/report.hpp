// What the person at the screen is told at boot: the processor, the address map, and how much
// memory there is.
#pragma once

namespace loft {

void report_cpu();         // who the processor is and what of it is used
void report_address_map(); // the kernel's address map
void report_meminfo();     // MemTotal, ... in the names, units and form of /proc/meminfo
void report_counters();    // of every allocator, pool and TLB path
void report_cpus();        // of every CPU: its scheduler, and what it asks of others
void report_threads();     // which there are, and what they do

} // namespace loft
