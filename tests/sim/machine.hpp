// The simulated machine: CPUs with TLBs that go stale, memory, page-table walks. One at a time; each test makes its
// own.
//
//     sim::Machine m{{.cpus = 2, .ram = 2 * GiB}};
//     pagetable_early(m.boot_last_table());
//     mm_init(m.make_boot_info());
//     m.finish_boot(mm_init_cpu);          // the other CPUs run, on this CPU's root; interrupts are on
//     sim::on_cpu(CpuId{1}, [&] { ... });
//
// mm uses it through tests/sim/hal only. README.md has the rules of the model and the list of functions for tests.
#pragma once

#include "arch/base/cpu_set.hpp"
#include "arch/base/not_copyable.hpp"
#include "mm/ground/boot_info.hpp"
#include "tests/sim/device.hpp"
#include "tests/sim/errors.hpp"
#include "tests/sim/flush_sites.hpp"
#include "tests/sim/may_set.hpp"
#include "tests/sim/schedule.hpp"
#include "tests/sim/store_buffer.hpp"
#include "tests/sim/translation.hpp"

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

namespace loft::sim {

struct RamRange {
    u64 base = 0;
    u64 size = 0;
};

// The answer to: an accessed bit is read and is clear; has the CPU just set it, by a speculative walk? Until
// finish_boot() `random` means never, so that boot's test of the accessed bit has the same result in every test.
enum class Fills : u8 { random, never, always };

struct Options {
    u32 cpus = config::kMaxCpus < 4 ? config::kMaxCpus : 4;
    u32 off = 0;                           // the last so many CPUs: the kernel starts them itself, in an exploration
    u64 ram = 1 * GiB;                     // the layout of QEMU's `pc`: RAM beyond 3 or 3.5 GiB begins at 4 GiB
    std::vector<RamRange> ranges{};        // RAM, instead of `ram`
    std::vector<FirmwareRange> firmware{}; // the firmware's map, instead of the one that describes the RAM
    std::vector<ReservedRange> modules{};  // reserved besides the kernel's image
    Features features{};
    Fills fills = Fills::random;
    u64 seed = 1;
    u64 patience = 1'000'000; // iterations of a waiting loop until it counts as endless
};

struct Counters {
    u64 invlpg = 0;
    u64 flush_non_global = 0; // without load_root
    u64 flush_all = 0;
    u64 load_root = 0;
    u64 ipis_sent = 0; // CPUs that this one has interrupted
    u64 ipis_received = 0;
    u64 reschedules = 0; // outside of the explorer
};

// The tables that CPUs with the same root walk, and for each page table the directory slots that point at it.
struct Space {
    static constexpr u32 kNone = ~0u;
    std::array<u32, paging::kDirectories> directory{}; // frames, kNone where the PDPTE is not present
    std::unordered_map<u32, std::vector<u16>> tables;  // page table -> slots that point at it
    u32 users = 0;

    RawPte entry(u32 slot) const {
        const u32 frame = directory[slot / paging::kPtesPerTable];
        return frame == kNone ? RawPte{0} : RawPte{*raw::cell(frame, slot % paging::kPtesPerTable)};
    }
    void link(u32 slot, RawPte entry);
    void unlink(u32 slot, RawPte entry);
};

struct Cpu {
    bool online = false;
    bool interrupts = false;
    u32 cr2 = 0;            // in thread-tests
    u64 root = 0;           // CR3
    Space* space = nullptr; // with PAE: as latched when CR3 was loaded (SDM 4.4.1)
    MaySet stale;
    StoreBuffer buffer;
    Counters counters;
};

class Machine : NotCopyable<Machine> {
  public:
    explicit Machine(Options options = {});
    ~Machine();

    const Options& options() const { return options_; }
    const Features& features() const { return options_.features; }

    // --- booting
    // The kernel's image at 1 MiB, boot's page tables in it and loaded on CPU 0, and the map of the firmware. The spans
    // are valid as long as the machine. A test may change the result before it passes it to mm.
    BootInfo make_boot_info();
    // The table of the last addresses, linked by boot. (A hal::PteCell*; any pointer type takes it.)
    struct AnyPointer {
        void* to;
        template <typename T> operator T*() const { return static_cast<T*>(to); }
    };
    AnyPointer boot_last_table() const { return {ram_at(boot_last_table_)}; }
    u64 boot_root() const { return boot_root_; }
    void bring_up(CpuId cpu); // on the root of the current CPU, with interrupts on and an empty TLB
    // Brings up all CPUs, except those that stay off, and turns interrupts on here, too. Before that this CPU calls
    // `prepare` for each of them (mm_init_cpu, for example).
    void finish_boot(const std::function<void(CpuId)>& prepare = {});
    // By this CPU, which was off: its paging is on now. Interrupts are off.
    void start_here(u64 root);
    u64 usable_bytes() const; // the usable bytes of the firmware's map, overlaps not removed

    // --- CPUs
    Cpu& cpu(CpuId id) { return cpus_.at(id.value()); }
    Cpu& here() { return cpus_[current_]; }
    CpuId current() const { return CpuId{current_}; }
    void switch_to(CpuId id); // prefer on_cpu()
    CpuSet online() const { return online_; }
    Counters& counters(CpuId id) { return cpu(id).counters; }
    Counters total() const;

    // --- memory, as the current CPU sees it. Throws PageFault, StaleAccess, ReleasedAccess, BadAccess.
    // The host address of `va`; `size` bytes from there must lie in one page. Sets A and D.
    u8* access(VirtAddr va, u32 size, Access kind);
    // Writes to RAM that access() returned; writes to page tables are tracked. store(): in an exploration, through the
    // store buffer. `note`: see PendingStore.
    void store(u8* to, const void* from, u32 bytes, u32 note = 0);
    void write(u8* to, const void* from, u32 bytes) {
        touch(ram_at(u64{frame_of(to)} << kPageShift), true);
        if (detail::exploring) [[unlikely]]
            frame_state_of(frame_of(to)) |= frame_state::dirty;
        if (frame_state_of(frame_of(to)) & frame_state::table) [[unlikely]]
            write_table(to, from, bytes);
        else
            std::memcpy(to, from, bytes);
    }
    // The translation in the tables now, without side effects.
    std::optional<Translation> translate(VirtAddr va) { return look(here(), va); }
    // All translations that this CPU may use, that of the tables first if there is one.
    std::vector<Translation> possible(VirtAddr va);
    bool may_reach_free_frame(CpuId cpu) const; // by an old translation of a program's page
    bool stale(VirtAddr va);                    // a possible translation differs from that of the tables

    // --- page-table entries (for hal/pte.hpp)
    u32 cell_half(const void* cell, u32 half);
    RawPte cell_read(const void* cell);
    void cell_store_half(void* cell, u32 half, u32 value, Where where);
    RawPte cell_exchange(void* cell, RawPte value, Where where);
    u32 cell_exchange_low(void* cell, u32 value, Where where);

    // --- TLB (for hal/tlb.hpp)
    void invlpg(VirtAddr va, const Site& site);
    void flush_non_global(const Site& site);
    void flush_all(const Site& site);
    void load_root(u64 root);

    // --- interrupts
    void set_interrupts(bool on); // of this CPU
    void interrupt_cpu(CpuId cpu);

    // --- devices. They add and remove themselves.
    void add(Device& device);
    void remove(Device& device);
    const std::vector<Device*>& devices() const { return devices_; }
    // Outside an exploration: one step of the first device that can take one. False: none can.
    bool step_a_device();

    // --- for explorations
    // From now on an access of the kernel chooses between an old translation and the tables, as an access of a program
    // does, instead of throwing StaleAccess. For tests in which a model judges the outcome.
    void choose_translations() { kernel_chooses_ = true; }
    void drain(CpuId cpu); // the oldest store of its buffer becomes memory
    // Empties TLBs, store buffers, counters and log, restarts the random numbers from the seed, and gives the CPUs that
    // are online these roots; the others are off.
    void rewind(CpuSet online, const std::vector<u64>& roots);

    // --- choices
    // The next answers to "was it filled speculatively?"; after them, Options::fills decides.
    void script_fills(std::initializer_list<bool> answers) { script_.insert(script_.end(), answers); }
    void set_fills(Fills fills) { options_.fills = fills; }
    u64 fills_asked() const { return fills_asked_; } // the number of such questions so far
    u64 random();

    // --- frames
    void frame_free(u32 pfn, u32 order);
    void frame_used(u32 pfn, u32 order);
    // The `nth` allocation from now on fails; 0 is the next one. Frames, blocks, and objects of a cache count.
    // `and_later`: so do all after it, until allow_allocations().
    void fail_allocation(u32 nth, bool and_later = false) {
        fail_after_ = nth;
        later_fail_ = and_later;
        allocation_failed_ = false;
    }
    void allow_allocations() { fail_after_.reset(); }
    bool allocation_failed() const { return allocation_failed_; } // that allocation has been made
    bool allocation_fails();

    // --- the rest
    std::vector<std::string>& log() { return log_; }
    bool logged(std::string_view part) const;
    void relax(); // cpu_relax: throws BadAccess after `patience` iterations

  private:
    struct Walk {
        RawCell* directory = nullptr; // the entries that gave the translation
        RawCell* table = nullptr;     // null for a large page
        Translation translation;
        bool present = false;
    };
    RawPte seen(const Cpu& cpu, const RawCell* cell) const; // memory, and this CPU's own stores
    void change_half(RawCell* place, u32 half, u32 value, Where where);
    static u32 frame_of(const void* ram) {
        return static_cast<u32>((reinterpret_cast<std::uintptr_t>(ram) - kRamBase) >> kPageShift);
    }
    Walk walk(const Cpu& cpu, u32 va) const;
    std::optional<Translation> look(const Cpu& cpu, VirtAddr va) const;
    u8* by_old_translation(Cpu& cpu, VirtAddr va, const Walk& now, Access kind);
    bool check_stale(Cpu& cpu, VirtAddr va, const Walk& now, Access kind);
    [[noreturn]] void fault(VirtAddr va, Access kind, const Walk& now);
    [[noreturn]] void released(VirtAddr va, u32 pfn, Access kind) const;
    [[noreturn]] void reserved_bits(u32 va, const char* level, u64 entry) const;

    RawCell* cell_address(const void* cell, Access kind);
    bool fill(RawCell* cell);
    bool reachable(const RawCell* cell);
    void note_change(const RawCell* cell, RawPte before, RawPte now, bool never_cached, Where where);
    void directory_changed(Space& space, u32 slot, RawPte before, RawPte now, bool residual, Where where);
    void write_table(u8* to, const void* from, u32 bytes);
    bool chosen();

    std::array<u32, paging::kDirectories> latch(u64 root) const;
    Space* acquire(const std::array<u32, paging::kDirectories>& directory);
    void release(Space* space);
    void keep_globals(Cpu& cpu, const Space& from, const Space& to);
    void build_boot_tables();

    Options options_;
    std::vector<Cpu> cpus_;
    std::vector<Device*> devices_;
    std::vector<std::unique_ptr<Space>> spaces_;
    bool spaces_changed_ = false; // since rewind(): directories, or the root of a CPU
    u32 current_ = 0;
    CpuSet online_;
    std::deque<bool> script_;
    std::optional<u32> fail_after_;
    bool later_fail_ = false;
    bool allocation_failed_ = false;
    u64 random_state_;
    u64 fills_asked_ = 0;
    u64 relaxed_ = 0;
    bool booted_ = false;
    bool kernel_chooses_ = false;
    u64 boot_root_ = 0;
    u64 boot_last_table_ = 0;
    std::vector<RamRange> ram_;
    std::vector<FirmwareRange> firmware_;
    std::vector<FrameRange> map_ranges_;
    std::vector<MapBorder> map_borders_;
    std::vector<ReservedRange> reserved_;
    std::vector<VirtAddr> guards_;
    std::vector<std::string> log_;
};

Machine& machine(); // the machine of the current test
bool has_machine();

// Runs `what` on that CPU and returns to the current one, also after an exception.
template <typename F> decltype(auto) on_cpu(CpuId id, F&& what) {
    struct Back {
        CpuId to = machine().current();
        ~Back() { machine().switch_to(to); }
    } back;
    machine().switch_to(id);
    return what();
}

// Physical memory, without page tables: for tests.
template <typename T> LOFT_UNSEEN T peek(PhysAddr at) {
    T value;
    std::memcpy(&value, ram_at(at.value()), sizeof value);
    return value;
}
template <typename T> LOFT_UNSEEN void poke(PhysAddr at, T value) {
    std::memcpy(ram_at(at.value()), &value, sizeof value);
}

// Fetches an instruction at `va`; throws if the fetch faults.
inline void exec(VirtAddr va) { machine().access(va, 1, Access::execute); }
// Accesses in ring 3.
template <typename T> LOFT_UNSEEN T user_read(VirtAddr va) {
    T value;
    const u8* const from = machine().access(va, sizeof value, Access::user_read);
    std::memcpy(&value, from, sizeof value);
    if (detail::exploring) forward_own(from, &value, sizeof value);
    return value;
}
template <typename T> void user_write(VirtAddr va, T value) {
    machine().write(machine().access(va, sizeof value, Access::user_write), &value, sizeof value);
}

} // namespace loft::sim
