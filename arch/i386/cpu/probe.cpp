// Probes and the exception tables. Contracts: probe.hpp, extable.hpp.
#include "arch/i386/cpu/probe.hpp"

#include "arch/i386/cpu/trap_frame.hpp"
#include "arch/i386/isa/control.hpp"
#include "arch/i386/isa/extable.hpp"
#include "arch/i386/isa/vectors.hpp"

namespace loft {
namespace {

extern "C" const Fixup __extable_begin[], __extable_end[], __probes_begin[], __probes_end[]; // linker.ld

const Fixup* find(const Fixup* begin, const Fixup* end, u32 eip) {
    for (const Fixup* f = begin; f != end; ++f)
        if (f->at == eip) return f;
    return nullptr;
}

constinit u32 last_error = 0;

} // namespace

u32 probe_error() { return last_error; }

const Fixup* find_user_copy_fixup(u32 eip) { return find(__extable_begin, __extable_end, eip); }
const Fixup* find_probe_fixup(u32 eip) { return find(__probes_begin, __probes_end, eip); }

[[gnu::noinline]] bool probe_read32(VirtAddr address, u32& value) {
    u32 done = 0, found = 0;
    asm volatile("1:\tmovl (%2), %0\n\t"
                 "movl $1, %1\n"
                 "2:\n\t" LOFT_EXTABLE_PROBE("1b", "2b")
                 : "+r"(found), "+r"(done)
                 : "r"(address.value())
                 : "memory");
    if (done) value = found;
    return done;
}

[[gnu::noinline]] bool probe_write32(VirtAddr address, u32 value) {
    u32 done = 0;
    asm volatile("1:\tmovl %2, (%1)\n\t"
                 "movl $1, %0\n"
                 "2:\n\t" LOFT_EXTABLE_PROBE("1b", "2b")
                 : "+r"(done)
                 : "r"(address.value()), "r"(value)
                 : "memory");
    return done;
}

[[gnu::noinline]] bool probe_read_msr(u32 reg, u64& value) {
    u32 done = 0;
    u64 found = 0;
    asm volatile("1:\trdmsr\n\t"
                 "movl $1, %0\n"
                 "2:\n\t" LOFT_EXTABLE_PROBE("1b", "2b")
                 : "+r"(done), "+A"(found)
                 : "c"(reg));
    if (done) value = found;
    return done;
}

[[gnu::noinline]] bool probe_write_msr(u32 reg, u64 value) {
    u32 done = 0;
    asm volatile("1:\twrmsr\n\t"
                 "movl $1, %0\n"
                 "2:\n\t" LOFT_EXTABLE_PROBE("1b", "2b")
                 : "+r"(done)
                 : "c"(reg), "A"(value)
                 : "memory");
    return done;
}

// The faulting instruction, at `address`, is in no table. But the return address on the stack is this function's:
// apply_fixup looks that one up.
[[gnu::noinline]] bool probe_exec(VirtAddr address) {
    u32 done = 0, target = address.value();
    asm volatile("call *%1\n"
                 "1:\tmovl $1, %0\n\t"
                 "jmp 3f\n"
                 "2:\taddl $4, %%esp\n" // drops the unused return address
                 "3:\n\t" LOFT_EXTABLE_PROBE("1b", "2b")
                 : "+b"(done), "+S"(target) // registers that a called function preserves
                 :
                 : "eax", "ecx", "edx", "memory", "cc");
    return done;
}

bool apply_fixup(TrapFrame& frame) {
    const bool fetch = frame.vector == vector::page_fault && read_cr2() == frame.eip;
    const Fixup* fixup = find_probe_fixup(fetch ? *reinterpret_cast<const u32*>(frame.esp()) : frame.eip);
    if (fixup == nullptr) return false;
    last_error = frame.error;
    frame.eip = fixup->to;
    return true;
}

} // namespace loft
