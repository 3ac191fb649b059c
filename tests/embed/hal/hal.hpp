// The HAL of a kernel that is not loft: one CPU, one thread. What each of these must do stands in
// arch/base/hal_contract.hpp and docs/porting.md. None calls another one, so the symbols of mm's objects show which of
// them mm calls (scripts/check-porting).
#pragma once

#include "arch/base/cpu_set.hpp"
#include "arch/base/hal_contract.hpp"
#include "arch/base/panic.hpp"
#include "arch/i386/isa/pte.hpp"
#include "tests/embed/machine.hpp"

#include <atomic>
#include <cstring>
#include <utility>

#define LOFT_PERCPU constinit
#define LOFT_REGPARM

namespace loft::hal {

// --- Memory. Each access goes through the CPU's TLB and the page tables.
template <typename T> T load(VirtAddr va) {
    T value;
    std::memcpy(&value, &embed::at(va, false), sizeof value);
    return value;
}
template <typename T> void store(VirtAddr va, T value) { std::memcpy(&embed::at(va, true), &value, sizeof value); }
inline void copy_bytes(VirtAddr to, VirtAddr from, u32 bytes) {
    for (u32 i = 0; i != bytes; ++i)
        embed::at(to + i, true) = embed::at(from + i, false);
}
inline void copy_words(VirtAddr to, VirtAddr from, u32 bytes) {
    for (u32 i = 0; i != bytes; ++i)
        embed::at(to + i, true) = embed::at(from + i, false);
}
inline void zero_words(VirtAddr to, u32 bytes) {
    for (u32 i = 0; i != bytes; ++i)
        embed::at(to + i, true) = 0;
}
inline void fill(VirtAddr to, u8 value, u32 bytes) {
    for (u32 i = 0; i != bytes; ++i)
        embed::at(to + i, true) = value;
}
inline void copy_in(void* object, VirtAddr from, u32 bytes) {
    for (u32 i = 0; i != bytes; ++i)
        static_cast<u8*>(object)[i] = embed::at(from + i, false);
}
inline void copy_out(VirtAddr to, const void* object, u32 bytes) {
    for (u32 i = 0; i != bytes; ++i)
        embed::at(to + i, true) = static_cast<const u8*>(object)[i];
}
// A pointer to an object of lowmem is its place in the array. One to an entry of a page table may come from any
// mapping: what lies above lowmem is only turned back into an address (entry, below).
template <typename T> T* lowmem_ptr(VirtAddr va) {
    return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(embed::memory) + (va.value() - embed::kDirectMap));
}
inline VirtAddr lowmem_addr(const void* object) {
    const auto offset = reinterpret_cast<std::uintptr_t>(object) - reinterpret_cast<std::uintptr_t>(embed::memory);
    return VirtAddr{embed::kDirectMap + static_cast<u32>(offset)};
}
inline void note_frame_free(Pfn, u32 /*order*/) {}
inline void note_frame_used(Pfn, u32 /*order*/) {}
inline void note_object_free(const void* /*object*/, u32 /*bytes*/) {}
inline void note_object_used(const void* /*object*/, u32 /*bytes*/) {}
inline bool out_of_memory() { return false; }

// --- Memory of programs. What faults asks mm; the result is the number of bytes that are not copied.
namespace detail {
template <typename F> u32 each_byte(VirtAddr va, u32 bytes, bool write, F&& visit) {
    for (u32 i = 0; i != bytes; ++i) {
        u8* const byte = embed::user(va + i, write);
        if (byte == nullptr) return bytes - i;
        visit(*byte, i);
    }
    return 0;
}
} // namespace detail
inline u32 user_copy_in(void* to, VirtAddr from, u32 bytes) {
    return detail::each_byte(from, bytes, false, [to](u8& byte, u32 i) { static_cast<u8*>(to)[i] = byte; });
}
inline u32 user_copy_out(VirtAddr to, const void* from, u32 bytes) {
    return detail::each_byte(to, bytes, true, [from](u8& byte, u32 i) { byte = static_cast<const u8*>(from)[i]; });
}
inline u32 user_copy_to_map(VirtAddr to, VirtAddr from, u32 bytes) {
    return detail::each_byte(from, bytes, false, [to](u8& byte, u32 i) { embed::at(to + i, true) = byte; });
}
inline u32 user_copy_from_map(VirtAddr to, VirtAddr from, u32 bytes) {
    return detail::each_byte(to, bytes, true, [from](u8& byte, u32 i) { byte = embed::at(from + i, false); });
}
inline u32 user_clear(VirtAddr to, u32 bytes) {
    return detail::each_byte(to, bytes, true, [](u8& byte, u32) { byte = 0; });
}

// --- Entries of page tables. One thread and no other CPU: nothing comes between two plain accesses.
struct PteCell {
    PteHalves halves;
};
static_assert(sizeof(PteCell) == sizeof(RawPte), "this machine walks the tables of PAE");
namespace detail {
inline PteHalves& entry(const PteCell* cell) {
    const auto offset = reinterpret_cast<std::uintptr_t>(cell) - reinterpret_cast<std::uintptr_t>(embed::memory);
    return reinterpret_cast<PteHalves&>(embed::at(VirtAddr{embed::kDirectMap + static_cast<u32>(offset)}, true));
}
} // namespace detail
inline u32 pte_low(const PteCell* cell) { return detail::entry(cell).low; }
inline u32 pte_high(const PteCell* cell) { return detail::entry(cell).high; }
inline Pte pte_read(const PteCell* cell) { return Pte::from(detail::entry(cell)); }
inline bool pte_is(const PteCell* cell, PteHalves want) { return Pte::from(detail::entry(cell)) == Pte::from(want); }
inline void pte_set(PteCell* cell, PteHalves value) { detail::entry(cell) = value; }
inline void pte_set(PteCell* cell, Pte value) { detail::entry(cell) = {value.low(), value.high()}; }
inline void pte_clear(PteCell* cell) { detail::entry(cell) = {}; }
inline void pte_clear_low(PteCell* cell) { detail::entry(cell).low = 0; }
inline u32 pte_take_low(PteCell* cell) { return std::exchange(detail::entry(cell).low, 0); }
inline Pte pte_take(PteCell* cell) { return Pte::from(std::exchange(detail::entry(cell), {})); }
inline Pte pte_exchange(PteCell* cell, Pte value) {
    return Pte::from(std::exchange(detail::entry(cell), {value.low(), value.high()}));
}

// --- The TLB.
struct Site {
    static constexpr Site current() { return {}; }
};
inline void invlpg(VirtAddr va, Site = {}) { embed::forget(va); }
inline void flush_non_global(Site = {}) { embed::forget_all(false); }
inline void flush_all(Site = {}) { embed::forget_all(true); }
inline void load_root(PhysAddr root) {
    embed::root = root.value();
    embed::forget_all(false);
}

// --- The CPU.
struct CpuFeatures {
    bool large_pages, global, no_execute;
    u32 phys_bits;
};
inline CpuFeatures cpu_features() {
    return {.large_pages = false, .global = true, .no_execute = true, .phys_bits = 36};
}
inline CpuId this_cpu() { return CpuId{0}; }
inline constexpr u32 kIrqsOn = 1;
inline u32 irq_save() { return std::exchange(embed::interrupts, false) ? kIrqsOn : 0; }
inline void irq_off() { embed::interrupts = false; }
inline void irq_restore(u32 flags) { embed::interrupts |= flags == kIrqsOn; }
inline bool irqs_enabled() { return embed::interrupts; }
inline void cpu_relax() { remote_answer(); }
template <typename T> T opaque(T value) { return value; }
[[gnu::always_inline]] inline u32 return_address() {
    return static_cast<u32>(reinterpret_cast<std::uintptr_t>(__builtin_return_address(0)));
}

template <typename T> class PerCpu { // there is one
  public:
    T& mine() { return value_; }
    T& of(CpuId) { return value_; }
    template <auto M> auto load() const { return value_.*M; }
    template <auto M, typename V> void store(V value) { value_.*M = value; }
    template <auto M> void add(u32 n) { value_.*M += n; }
    template <auto M> u32 exchange_add(u32 n) { return std::exchange(value_.*M, value_.*M + n); }
    template <auto M> bool equals(u32 value) const { return value_.*M == value; }
    template <auto M> bool at_most(u32 value) const { return value_.*M <= value; }
    template <auto M> bool decrement_from_zero() { return (value_.*M)-- == 0; }
    template <auto M> bool increment_to_zero() { return ++(value_.*M) == 0; }

  private:
    T value_{};
};

// --- Words that CPUs share.
template <typename T> class Plain {
  public:
    constexpr Plain() = default;
    explicit constexpr Plain(T value) : value_{value} {}
    T load() const { return value_.load(std::memory_order_relaxed); }
    void store(T value) { value_.store(value, std::memory_order_relaxed); }
    void add(T n) { store(load() + n); }

  private:
    std::atomic<T> value_{};
};
template <typename T> class Atomic {
  public:
    constexpr Atomic() = default;
    explicit constexpr Atomic(T value) : value_{value} {}
    T load() const { return value_.load(std::memory_order_acquire); }
    void store(T value) { value_.store(value, std::memory_order_release); }
    T exchange(T value) { return value_.exchange(value); }
    bool compare_exchange(T& expected, T next) { return value_.compare_exchange_strong(expected, next); }
    T fetch_add(T n) { return value_.fetch_add(n); }
    T fetch_sub(T n) { return value_.fetch_sub(n); }
    T fetch_or(T n) { return value_.fetch_or(n); }
    T fetch_and(T n) { return value_.fetch_and(n); }
    bool increment_is_positive() { return static_cast<std::int32_t>(value_.fetch_add(1) + 1) > 0; }

  private:
    std::atomic<T> value_{};
};
class Counter {
  public:
    u64 load() const { return value_.load(); }
    u64 increment() { return value_.fetch_add(1) + 1; }
    void raise_to(u64 value) {
        for (u64 old = value_; old < value && !value_.compare_exchange_weak(old, value);) {
        }
    }

  private:
    std::atomic<u64> value_{};
};

// --- Other CPUs, of which there are none; threads, of which there is one; the bound of a wait, in looks at it.
inline CpuSet online_cpus() { return CpuSet::only(CpuId{0}); }
inline void interrupt_cpu(CpuId cpu) { panic("there is no CPU {}", cpu); }
inline ThreadId current_thread() { return ThreadId{0}; }
inline void park() {
    if (!std::exchange(embed::permit, false)) panic("the only thread waits for another one");
}
inline void unpark(ThreadId) { embed::permit = true; }
inline void reschedule() {}
struct Deadline {
    bool expired() const { return looks == 0 || --looks == 0; }
    mutable u32 looks;
};
inline Deadline deadline(u32 milliseconds) { return {milliseconds}; }

static_assert(PteAccess<PteCell, Pte> && TlbControl<Site> && AtomicWord<Atomic<u32>> && GrowingCount<Counter> &&
              PlainWord<Plain<u32>> && BoundedWait<Deadline>);
static_assert(std::same_as<decltype(user_copy_in), UserCopyIn> && std::same_as<decltype(user_copy_out), UserCopyOut>);
static_assert(std::same_as<decltype(user_copy_to_map), UserCopyMap> && std::same_as<decltype(user_clear), UserClear>);
static_assert(std::same_as<decltype(user_copy_from_map), UserCopyMap>);

} // namespace loft::hal
