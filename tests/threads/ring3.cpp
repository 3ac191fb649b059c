// Ring 3. Contract: ring3.hpp.
#include "tests/threads/ring3.hpp"

#include "arch/i386/irq/traps.hpp"
#include "arch/i386/irq/user_mode.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/programs/programs.hpp"
#include "kernel/threads/clock.hpp"
#include "kernel/threads/scheduler.hpp"
#include "tests/sim/explorer.hpp"
#include "tests/sim/kernel/arch.hpp"

#include <array>
#include <cstring>

namespace loft {

namespace {
constinit bool ring3[config::kMaxCpus]{}; // of a CPU; begins anew with each schedule
}

namespace test {
namespace {

const std::function<const ProgramFunction&(u32)>* functions;

// The ELF header and one program header (System V ABI, chapter 4): one segment, the whole file.
constexpr u32 kFileBytes = 0x100;
std::array<u8, kFileBytes> make_file() {
    std::array<u8, kFileBytes> file{};
    const auto put = [&](u32 at, u32 value, u32 bytes) { std::memcpy(file.data() + at, &value, bytes); };
    constexpr u32 kHeaderBytes = 52, kProgramHeaderBytes = 32;
    put(0, 0x464c'457f, 4); // magic
    put(4, 0x01'01'01, 4);  // 32 bits, little endian, version 1
    put(16, 2, 2);          // an executable
    put(18, 3, 2);          // i386
    put(20, 1, 4);
    put(24, entry_point(0), 4);
    put(28, kHeaderBytes, 4);
    put(40, kHeaderBytes, 2);
    put(42, kProgramHeaderBytes, 2);
    put(44, 1, 2);
    put(kHeaderBytes, 1, 4); // to be loaded
    put(kHeaderBytes + 8, kProgramPage, 4);
    put(kHeaderBytes + 12, kProgramPage, 4);
    put(kHeaderBytes + 16, kFileBytes, 4);
    put(kHeaderBytes + 20, kPageSize, 4);
    put(kHeaderBytes + 24, 7, 4); // readable, writable, executable
    put(kHeaderBytes + 28, kPageSize, 4);
    return file;
}

} // namespace

std::span<const u8> program_file() {
    static const auto file = make_file();
    return file;
}
void run_programs_by(const std::function<const ProgramFunction&(u32)>* find) { functions = find; }

bool& in_ring3() { return ring3[sim::machine().current().value()]; }

Ring3::Ring3(const TrapFrame& registers) : frame_{registers}, thread_{current_user_thread()->tid} {
    sim::fpu_register() = static_cast<u8>(thread_);
    check_registers();
}

void Ring3::check_registers() const {
    sim::expect(current_user_thread()->tid == thread_ && in_ring3(), "a thread returns to its own program");
    sim::expect(sim::fpu_register() == static_cast<u8>(thread_), "a thread has its own FPU registers");
    sim::expect(std::memcmp(&sim::tls_registers(), &current_user_thread()->tls, sizeof(TlsDescriptors)) == 0,
                "a thread has its own segments");
}

// The gate turns interrupts off; IRET turns them on.
void Ring3::enter_kernel() {
    static_cast<void>(hal::irq_save());
    in_ring3() = false;
}
void Ring3::leave_kernel() {
    in_ring3() = true;
    hal::irq_restore(hal::kIrqsOn);
    check_registers();
}

int Ring3::trap(u32 vector, u32 error) {
    enter_kernel();
    TrapFrame frame = frame_;
    frame.vector = vector;
    frame.error = error;
    trap_dispatch(&frame);
    leave_kernel();
    return static_cast<int>(frame.eax);
}

int Ring3::call(u32 number, u32 a, u32 b, u32 c, u32 d, u32 e, u32 f) {
    frame_.eax = number;
    frame_.ebx = a;
    frame_.ecx = b;
    frame_.edx = c;
    frame_.esi = d;
    frame_.edi = e;
    frame_.ebp = f;
    return trap(vector::system_call, 0);
}

int Ring3::fork(u32 function) {
    frame_.eip = entry_point(function);
    return call(nr::fork);
}
int Ring3::clone_thread(u32 function, u32 clear_tid) {
    constexpr u32 kThread = 0x1'0f00, kChildClearTid = 0x20'0000; // VM, FS, FILES, SIGHAND, THREAD
    frame_.eip = entry_point(function);
    return call(nr::clone, kThread | (clear_tid != 0 ? kChildClearTid : 0), frame_.user_esp, 0, 0, clear_tid);
}

// A fault is resolved after the catch block has ended: a fiber must not be switched away inside one.
template <typename F> void Ring3::access(u32 address, bool write, sim::Point step, F&& one) {
    for (;;) {
        sim::schedule_point(step);
        u32 error = page_fault_error::user | (write ? page_fault_error::write : 0);
        try {
            one(VirtAddr{address});
            break;
        } catch (const sim::PageFault& fault) {
            if (fault.present) error |= page_fault_error::present;
        }
        write_cr2(address);
        static_cast<void>(trap(vector::page_fault, error));
    }
    check_registers();
}

void Ring3::in_kernel(const std::function<void()>& what) {
    enter_kernel();
    hal::irq_restore(hal::kIrqsOn);
    what();
    static_cast<void>(hal::irq_save());
    leave_kernel();
}
void Ring3::tell(hal::Plain<u32>& word, ThreadId thread) {
    in_kernel([&] {
        word.store(1);
        hal::unpark(thread);
    });
}
void Ring3::wait_for(hal::Plain<u32>& word) {
    in_kernel([&] {
        while (word.load() == 0)
            hal::park();
    });
}

u32 Ring3::load(u32 address) {
    u32 value = 0;
    access(address, false, sim::Point::memory, [&](VirtAddr va) { value = sim::user_read<u32>(va); });
    return value;
}
void Ring3::store(u32 address, u32 value) {
    access(address, true, sim::Point::memory, [&](VirtAddr va) { sim::user_write(va, value); });
}
u32 Ring3::exchange(u32 address, u32 value) {
    u32 before = 0;
    access(address, true, sim::Point::atomic, [&](VirtAddr va) {
        u8* const word = sim::machine().access(va, sizeof value, sim::Access::user_write);
        std::memcpy(&before, word, sizeof before);
        std::memcpy(word, &value, sizeof value);
    });
    return before;
}

} // namespace test

// IRET: from here on the stack of the kernel is empty.
void enter_user(const TrapFrame* frame) {
    test::in_ring3() = true;
    hal::irq_restore(hal::kIrqsOn);
    {
        test::Ring3 me{*frame};
        (*test::functions)(frame->eip - test::entry_point(0))(me);
        me.call(test::nr::exit, 0);
    }
    panic("a thread goes on after its exit");
}

// The scene starts programs from its own file: there are no modules. There is no clock with a date either.
const Program* find_program(std::string_view) { return nullptr; }
MemoryObject* open_program(const Program&) { return nullptr; }
u64 boot_date_us() { return 0; }

} // namespace loft
