// The functions that code compiled with -fsanitize=thread calls, instead of those of its usual library. The signatures
// are those of the compilers' interface (LLVM: compiler-rt/include/sanitizer/tsan_interface.h).
#include "tests/sim/races.hpp"

namespace {

using loft::sim::detail::exploring;
namespace races = loft::sim::races;

[[gnu::always_inline]] inline void seen(const void* at, loft::u64 bytes, bool write) {
    if (exploring) races::seen(at, bytes, write, __builtin_return_address(0));
}

} // namespace

extern "C" {

void __tsan_init() {}

// Called when the function has made its frame, which lies above that of the callee.
void __tsan_func_entry(void* from) {
    if (exploring) races::function_begins(__builtin_frame_address(0), from);
}
void __tsan_func_exit() {
    if (exploring) races::function_ends(__builtin_return_address(0));
}

#define LOFT_ACCESSES(prefix)                                                                                          \
    void prefix##read1(void* at) { seen(at, 1, false); }                                                               \
    void prefix##read2(void* at) { seen(at, 2, false); }                                                               \
    void prefix##read4(void* at) { seen(at, 4, false); }                                                               \
    void prefix##read8(void* at) { seen(at, 8, false); }                                                               \
    void prefix##read16(void* at) { seen(at, 16, false); }                                                             \
    void prefix##write1(void* at) { seen(at, 1, true); }                                                               \
    void prefix##write2(void* at) { seen(at, 2, true); }                                                               \
    void prefix##write4(void* at) { seen(at, 4, true); }                                                               \
    void prefix##write8(void* at) { seen(at, 8, true); }                                                               \
    void prefix##write16(void* at) { seen(at, 16, true); }
LOFT_ACCESSES(__tsan_)
LOFT_ACCESSES(__tsan_unaligned_)

void __tsan_read_range(void* at, unsigned long bytes) { seen(at, bytes, false); }
void __tsan_write_range(void* at, unsigned long bytes) { seen(at, bytes, true); }
void __tsan_vptr_read(void** at) { seen(at, sizeof *at, false); }
void __tsan_vptr_update(void** at, void*) { seen(at, sizeof *at, true); }

// The guards of static objects of tests, the counts of their shared_ptr, and a barrier for the compiler. The host has
// one thread. Nothing that takes part is a std::atomic.
unsigned char __tsan_atomic8_load(const volatile void* at, int) {
    return *static_cast<const volatile unsigned char*>(at);
}
int __tsan_atomic32_fetch_add(volatile int* at, int more, int) {
    const int old = *at;
    *at = old + more;
    return old;
}
void __tsan_atomic_signal_fence(int) {}
}
