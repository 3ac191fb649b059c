// The misuses that the run-time checks must catch: one function each, in one table.
#include "kernel/proof/crash.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/cpu/image.hpp"
#include "arch/i386/irq/lapic.hpp"
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/irq/traps.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/boot/cmdline.hpp"
#include "kernel/boot/table_probe.hpp"
#include "kernel/files/bytes_file.hpp"
#include "kernel/programs/process.hpp"
#include "kernel/report/exit.hpp"
#include "kernel/report/log.hpp"
#include "kernel/report/names.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "kernel/threads/scheduler.hpp"
#include "kernel/threads/sync.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/init.hpp"
#include "mm/spaces/highpte.hpp"
#include "mm/spaces/user_copy.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/highmem.hpp"
#include "mm/windows/page_walk.hpp"

#include <array>
#include <cstring>
#include <span>

namespace loft {
namespace {

// What a misuse requires of kernel or machine; null if it is present.
using Need = const char* (*)();

const char* nothing() { return nullptr; }
// Only a DEBUG kernel maps lowmem pages in slots.
const char* local_slots() {
    if (!config::kHighMem) return "a kernel with high memory";
    return config::kDebug || meminfo().high_total != 0 ? nullptr : "a machine with high memory, or a DEBUG=1 kernel";
}
const char* debug_slots() {
    if (!config::kDebug) return "a DEBUG=1 kernel";
    return local_slots();
}
const char* no_execute() { return hal::cpu_features().no_execute ? nullptr : "a 64g kernel and a CPU with NX"; }

const char* smap() { return read_cr4() & cr4_bit::smap ? nullptr : "a CPU with SMAP"; }
const char* smep() { return read_cr4() & cr4_bit::smep ? nullptr : "a CPU with SMEP"; }

Page* take_page() {
    Page* page = alloc_page(Gfp::high);
    if (page == nullptr) panic("crash: no page is left to misuse");
    return page;
}

void kunmap_order() {
    const LocalAddr first = kmap_local_page(take_page());
    const LocalAddr second = kmap_local_page(take_page());
    kunmap_local(first);
    kunmap_local(second);
}

void kunmap_foreign() {
    const LocalAddr mine = kmap_local_page(take_page());
    kunmap_local(LocalAddr{layout::pkmap_addr(1)}); // an address that kmap_local_page never gave out
    kunmap_local(mine);
}

void kmap_depth() {
    for (u32 i = 0; i != layout::kLocalThreadSlots + 1; ++i)
        static_cast<void>(kmap_local_page(take_page()));
}

void kunmap_twice() {
    const LocalAddr mapped = kmap_local_page(take_page());
    kunmap_local(mapped);
    kunmap_local(mapped);
}

void use_after_kunmap() {
    const LocalAddr mapped = kmap_local_page(take_page());
    hal::store<u32>(mapped, 1);
    kunmap_local(mapped);
    hal::store<u32>(mapped, 2);
}

void overrun() {
    const LocalAddr mapped = kmap_local_page(take_page());
    for (u32 offset = 0; offset <= kPageSize; offset += sizeof(u32))
        hal::store<u32>(mapped + offset, offset);
}

void sleep_in_atomic_context() {
    Page* page = take_page();
    const PreemptGuard atomic;
    static_cast<void>(kmap(page));
}

Mutex crash_mutex{"crash"};
void mutex_in_atomic() LOFT_UNCHECKED { // misuse is the purpose
    const PreemptGuard atomic;
    crash_mutex.lock();
}
void mutex_twice() LOFT_UNCHECKED {
    crash_mutex.lock();
    crash_mutex.lock();
}

Page* page_for_interrupt;
void map_in_tick(TrapFrame&) { static_cast<void>(kmap(page_for_interrupt)); }

void kmap_in_irq() {
    page_for_interrupt = take_page();
    const u32 start = ticks();
    const TickHandler before = timer_set_tick_handler(map_in_tick);
    const u64 deadline = now_us() + 1'000'000;
    while (ticks() - start < 2 && now_us() < deadline)
        hal::cpu_relax();
    timer_set_tick_handler(before);
}

void double_free() {
    Page* page = take_page();
    free_page(page);
    free_page(page);
}

void free_mapped() {
    Page* page = take_page();
    if (is_highmem(page))
        static_cast<void>(kmap(page));
    else
        static_cast<void>(kmap_local_page(page));
    free_page(page);
}

volatile u32 recursion_limit = ~0u; // keeps the compiler from proving the recursion endless
[[gnu::noinline]] u32 recurse(u32 depth) {
    volatile u32 frame[64];
    frame[depth % 64] = depth;
    if (depth == recursion_limit) return 0;
    return recurse(depth + 1) + frame[(depth + 1) % 64];
}
void stack_overflow() {
    volatile u32 result = recurse(0);
    static_cast<void>(result);
}

// On a stack in the vmap area, on the highest online CPU: its own double-fault task must report the overflow.
void thread_stack_overflow() {
    const u32 last = 31 - static_cast<u32>(std::countl_zero(hal::online_cpus().bits()));
    auto overflow = [] { stack_overflow(); };
    Thread* thread = thread_create("deep", overflow, CpuSet::only(CpuId{last}));
    if (thread != nullptr) thread_join(thread);
}

void write_rodata() { hal::store<u32>(image_addr(__rodata_begin), 0); }

alignas(16) u8 code_in_data[16] = {0xc3}; // ret
void exec_data() { reinterpret_cast<void (*)()>(code_in_data)(); }

volatile u32 null_word = 0; // not a constant: the compiler could remove the access
void null_deref() { static_cast<void>(hal::load<u32>(VirtAddr{u32{null_word}})); }

const char* nmis_that_panic() {
    return options().nmi_panics && hal::online_cpus().count() > 1 ? nullptr : "nmi=panic and two CPUs";
}

// No misuse, but what a button does: an NMI comes to all CPUs (but the one that sends them), here while one of them is
// printing. The first CPU that panics waits for its line, so the others are in their NMI handlers when it stops them.
void nmi_on_all_cpus() {
    static constinit hal::Atomic<u32> printing{};
    auto press = [] {
        while (printing.load() == 0)
            hal::cpu_relax();
        const IrqGuard no_tick;
        const auto send = [](CpuId cpu) { lapic_send(cpu_lapic_id(cpu), IpiKind::nmi, 0); };
        hal::online_cpus().without(hal::this_cpu()).for_each(send);
        for (;;)
            hal::cpu_relax();
    };
    const u32 last = 31 - static_cast<u32>(std::countl_zero(hal::online_cpus().bits()));
    static_cast<void>(thread_create("press", press, CpuSet::only(CpuId{last})));
    static char text[2000];
    std::memset(text, '.', sizeof text);
    printing.store(1);
    for (;;)
        print("{}", std::string_view{text, sizeof text});
}

// --- Misuse in a thread that then enters ring 3, in a program that only calls exit_group(0).

constexpr u32 kCodeAt = 0x1000'0000;
constexpr u8 kExit[]{0xb8, 252, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80};

class ExitImage {
  public:
    // A file header, one program header, and the code behind them (System V ABI, chapters 4 and 5).
    ExitImage() {
        constexpr u32 kCode = 84, kHeaders = 52;
        const u32 header[]{0x464c457f, 0x0001'0101, 0, 0,           0x0003'0002, 1, kCodeAt + kCode,
                           kHeaders,   0,           0, 0x0020'0034, 1,           0};
        const u32 program[]{1, 0, kCodeAt, 0, sizeof bytes_, sizeof bytes_, 5, kPageSize};
        std::memcpy(bytes_, header, kHeaders);
        std::memcpy(bytes_ + kHeaders, program, sizeof program);
        std::memcpy(bytes_ + kCode, kExit, sizeof kExit);
    }
    std::span<const u8> bytes() const { return bytes_; }

  private:
    u8 bytes_[84 + sizeof kExit];
};

void in_program(void (*misuse)(void*)) {
    const ExitImage image;
    BytesFile file{image.bytes()};
    const Started started = process_start({.name = "crash", .watch = {.at_start = misuse}}, file);
    if (started.process == nullptr) panic("crash: no program could be started: {}", started.problem);
    static_cast<void>(process_wait(started.process));
}

void leak_to_user() {
    in_program([](void*) { static_cast<void>(kmap_local_page(take_page())); });
}

// The first page of the program's text, which a user copy has made present.
VirtAddr text_of_program() {
    char byte;
    if (copy_from_user(&byte, UserAddr{kCodeAt}, 1) != 0) panic("crash: the program has no text");
    return VirtAddr{kCodeAt};
}
void read_user() {
    in_program([](void*) { static_cast<void>(hal::load<u32>(text_of_program())); });
}
void exec_user() {
    in_program([](void*) { reinterpret_cast<void (*)()>(text_of_program().value())(); });
}

// Maps an entry of the program's own page table and does not unmap it.
void pte_unmap_missing() {
    in_program([](void*) {
        const VirtAddr va = text_of_program(); // its page table exists from now on
        const Walk walk = page_walk(active_space()->root(), va);
        static_cast<void>(pte_offset_map(walk.directory, va));
    });
}

const char* table_slots() {
    if (!config::kHighPte) return "a HIGHPTE=1 kernel";
    if (config::kDebug) return nullptr;
    return tables_may_be_high() && meminfo().high_free != 0 ? nullptr
                                                            : "page tables in high memory, or a DEBUG=1 kernel";
}

struct Misuse {
    std::string_view name;
    void (*commit)();
    Need need;
    bool is_reported = false; // as an error in the log; the kernel goes on
};
constexpr Misuse kMisuses[] = {
    {"kunmap-order", kunmap_order, local_slots},
    {"kunmap-foreign", kunmap_foreign, local_slots},
    {"kmap-depth", kmap_depth, local_slots},
    {"kunmap-twice", kunmap_twice, local_slots},
    {"use-after-kunmap", use_after_kunmap, debug_slots},
    {"overrun", overrun, debug_slots},
    {"sleep-in-atomic", sleep_in_atomic_context, nothing},
    {"mutex-in-atomic", mutex_in_atomic, nothing},
    {"mutex-twice", mutex_twice, nothing},
    {"kmap-in-irq", kmap_in_irq, nothing},
    {"double-free", double_free, nothing},
    {"free-mapped", free_mapped, local_slots},
    {"stack-overflow", stack_overflow, nothing},
    {"thread-stack-overflow", thread_stack_overflow, nothing},
    {"leak-to-user", leak_to_user, local_slots, true},
    {"pte-unmap-missing", pte_unmap_missing, table_slots, true},
    {"nmi-on-all-cpus", nmi_on_all_cpus, nmis_that_panic},
    {"write-rodata", write_rodata, nothing},
    {"exec-data", exec_data, no_execute},
    {"null-deref", null_deref, nothing},
    {"read-user", read_user, smap},
    {"exec-user", exec_user, smep},
};

} // namespace

void commit_misuse(std::string_view name) {
    for (const Misuse& misuse : kMisuses) {
        if (misuse.name != name) continue;
        if (const char* missing = misuse.need()) {
            print("{}crash={} needs {}", kCannotDo, name, missing);
            refuse_request();
        }
        print("crash: {}", name);
        const u32 leaks = thread_leaks();
        misuse.commit();
        if (misuse.is_reported && thread_leaks() == leaks + 1) {
            print("crash: {} was reported", name);
            end_of_boot(ExitStatus::passed);
        }
        print("crash: {} was not caught", name);
        end_of_boot(ExitStatus::failed);
    }
    std::array<std::string_view, std::size(kMisuses)> names;
    for (std::size_t i = 0; i != names.size(); ++i)
        names[i] = kMisuses[i].name;
    print("{}crash={}: no misuse has this name", kCannotDo, name);
    offer_names("crash=", name, "There are", names);
    refuse_request();
}

} // namespace loft
