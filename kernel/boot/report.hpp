// The boot report: processor, address map, memory, counters.
#pragma once

namespace loft {

void report_cpu();         // name of the processor, and which of its features are used
void report_address_map(); // the kernel's address map
void report_meminfo();     // MemTotal, ... in the names, units and form of /proc/meminfo
void report_counters();    // of every allocator, pool and TLB path
void report_cpus();        // per CPU: scheduler, and requests to other CPUs
void report_threads();     // all threads and their states

} // namespace loft
