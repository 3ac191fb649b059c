// Does one forbidden action, by name, and is killed for it; exits with 99 if it is not.
//     die NAME
#include "tests/user/user.hpp"

namespace {

bool is(const char* a, const char* b) {
    while (*a != '\0' && *a == *b)
        ++a, ++b;
    return *a == *b;
}

alignas(16) u8 code_in_data[16] = {0xc3}; // ret

} // namespace

int main(int argc, char** argv) {
    const char* how = argc > 1 ? argv[1] : "";
    volatile u32 zero = 0;
    if (is(how, "null-read")) load<u32>(0);
    if (is(how, "null-write")) store<u32>(0, 1);
    if (is(how, "null-call")) reinterpret_cast<void (*)()>(u32{zero})();
    if (is(how, "kernel-read")) load<u32>(0xc010'0000);
    if (is(how, "kernel-write")) store<u32>(0xc010'0000, 1);
    if (is(how, "kernel-call")) reinterpret_cast<void (*)()>(0xc010'0000)();
    if (is(how, "border")) load<u32>(0xbfff'fffe);
    if (is(how, "data-call")) reinterpret_cast<void (*)()>(code_in_data)();
    if (is(how, "divide")) sys::exit(static_cast<int>(100 / zero));
    if (is(how, "undefined")) asm volatile("ud2");
    if (is(how, "breakpoint")) asm volatile("int3");
    if (is(how, "step")) asm volatile("pushf\n\torl $0x100, (%%esp)\n\tpopf\n\tnop" ::: "memory", "cc");
    if (is(how, "cli")) asm volatile("cli");
    if (is(how, "hlt")) asm volatile("hlt");
    if (is(how, "port")) asm volatile("outb %%al, $0xf4" ::"a"(0x55)); // would end QEMU, with an unexpected status
    if (is(how, "interrupt")) asm volatile("int $0x20");
    if (is(how, "double-fault")) asm volatile("int $8");
    if (is(how, "cr3")) asm volatile("mov %%cr3, %%eax" ::: "eax");
    if (is(how, "load-cr0")) asm volatile("mov %0, %%cr0" ::"r"(u32{zero}));
    if (is(how, "msr")) asm volatile("wrmsr" ::"a"(0), "c"(0x1b), "d"(0));
    if (is(how, "segment")) asm volatile("mov %0, %%ds" ::"r"(0x10));
    if (is(how, "per-cpu")) asm volatile("mov %0, %%fs" ::"r"(0x28));
    if (is(how, "task")) asm volatile("ljmp $0x50, $0");
    if (is(how, "sysenter")) asm volatile("sysenter");
    if (is(how, "syscall")) asm volatile("syscall" ::: "ecx", "memory", "cc");
    if (is(how, "nmi")) asm volatile("int $2");
    if (is(how, "local-gate")) asm volatile("lcall $0x07, $0"); // a gate of the local descriptor table
    if (is(how, "local-segment")) asm volatile("mov %0, %%es" ::"r"(0x0f));
    if (is(how, "gate")) asm volatile("lcall $0x08, $0xc0100000");
    if (is(how, "iret")) {
        // An IRET to ring 0.
        asm volatile("pushf\n\tpushl $0x08\n\tpushl $0xc0100000\n\tiret");
    }
    // UMIP: where the kernel's tables are.
    u8 table[8];
    u32 word = 0;
    if (is(how, "sgdt")) asm volatile("sgdt %0" : "=m"(table));
    if (is(how, "sidt")) asm volatile("sidt %0" : "=m"(table));
    if (is(how, "sldt")) asm volatile("sldt %0" : "+r"(word));
    if (is(how, "str")) asm volatile("str %0" : "+r"(word));
    if (is(how, "smsw")) asm volatile("smsw %0" : "+r"(word));
    if (is(how, "overflow")) asm volatile("int $4");
    if (is(how, "nested")) {
        // IRET with NT set, the end of a nested task: ring 3 may set the flag, but there is no such task.
        asm volatile("pushf\n\torl $0x4000, (%%esp)\n\tpopf\n\tint $0x80\n\tiret" ::"a"(20) : "memory", "cc");
    }
    return 99;
}
