// Each operation of the HAL in a function of its own, compiled with the options of a kernel. It is never executed:
// scripts/check-instructions compares the instructions of each function with its table, for every kernel that is
// linked. The functions have C names, which are those of the table.
#include <hal/hal.hpp>

namespace loft::hal {

struct Variables {
    u32 word = 0;
};
LOFT_PERCPU PerCpu<Variables> variables;

namespace {
PteHalves halves(Pte entry) { return {entry.low(), entry.high()}; }

// What the compiler may not move across an operation: accesses to `data`, at offset 8. It would omit the first of
// two stores if both were on one side, and the second of two loads.
struct Table {
    u32 half[2], data;
    PteCell* cell() { return reinterpret_cast<PteCell*>(half); }
};
template <typename T> struct alignas(8) Word {
    T value;
    alignas(8) u32 data;
};
template <typename T> void store_around(T& place, auto&& operation) {
    place.data = 1;
    operation();
    const_cast<volatile u32&>(place.data) = 2; // volatile: not moved itself
}
u64 both(u32 first, u32 second) { return u64{second} << 32 | first; }
} // namespace

extern "C" {

// --- hal/pte.hpp
u32 op_pte_low(const PteCell* cell) { return pte_low(cell); }
u32 op_pte_high(const PteCell* cell) { return pte_high(cell); }
PteHalves op_pte_read(const PteCell* cell) { return halves(pte_read(cell)); }
bool op_pte_is(const PteCell* cell, u32 low, u32 high) { return pte_is(cell, {low, high}); }
void op_pte_set(PteCell* cell, u32 low, u32 high) { pte_set(cell, Pte::from({low, high})); }
void op_pte_set_halves(PteCell* cell, u32 low, u32 high) { pte_set(cell, Pte::Halves{low, high}); }
void op_pte_clear(PteCell* cell) { pte_clear(cell); }
void op_pte_clear_low(PteCell* cell) { pte_clear_low(cell); }
PteHalves op_pte_exchange(PteCell* cell, u32 low, u32 high) {
    return halves(pte_exchange(cell, Pte::from({low, high})));
}
PteHalves op_pte_take(PteCell* cell) { return halves(pte_take(cell)); }
u32 op_pte_take_low(PteCell* cell) { return pte_take_low(cell); }
void op_pte_set_between(Table* table, u32 low, u32 high) {
    store_around(*table, [=] { pte_set(table->cell(), Pte::from({low, high})); });
}
void op_pte_set_halves_between(Table* table, u32 low, u32 high) {
    store_around(*table, [=] { pte_set(table->cell(), Pte::Halves{low, high}); });
}
void op_pte_clear_between(Table* table) {
    store_around(*table, [=] { pte_clear(table->cell()); });
}

// --- hal/atomic.hpp
u32 op_atomic_load(const Atomic<u32>* word) { return word->load(); }
void op_atomic_store(Atomic<u32>* word, u32 value) { word->store(value); }
u32 op_atomic_exchange(Atomic<u32>* word, u32 value) { return word->exchange(value); }
bool op_atomic_compare_exchange(Atomic<u32>* word, u32 expected, u32 next) {
    return word->compare_exchange(expected, next);
}
u32 op_atomic_fetch_add(Atomic<u32>* word, u32 n) { return word->fetch_add(n); }
u32 op_atomic_fetch_sub(Atomic<u32>* word, u32 n) { return word->fetch_sub(n); }
u32 op_atomic_fetch_or(Atomic<u32>* word, u32 n) { return word->fetch_or(n); }
u32 op_atomic_fetch_and(Atomic<u32>* word, u32 n) { return word->fetch_and(n); }
// Without a use of the result.
void op_atomic_add(Atomic<u32>* word, u32 n) { word->fetch_add(n); }
void op_atomic_sub(Atomic<u32>* word, u32 n) { word->fetch_sub(n); }
void op_atomic_or(Atomic<u32>* word, u32 n) { word->fetch_or(n); }
void op_atomic_and(Atomic<u32>* word, u32 n) { word->fetch_and(n); }
bool op_atomic_increment_is_positive(Atomic<u32>* word) { return word->increment_is_positive(); }
void op_atomic_store_between(Word<Atomic<u32>>* word, u32 value) {
    store_around(*word, [=] { word->value.store(value); });
}
u64 op_atomic_load_between(const Word<Atomic<u32>>* word) {
    const u32 first = word->data;
    (void)word->value.load();
    return both(first, word->data);
}
u64 op_counter_load_between(const Word<Counter>* word) {
    const u32 first = word->data;
    (void)word->value.load();
    return both(first, word->data);
}
u64 op_counter_load(const Counter* count) { return count->load(); }
u64 op_counter_increment(Counter* count) { return count->increment(); }
void op_counter_raise_to(Counter* count, u32 low, u32 high) { count->raise_to(u64{high} << 32 | low); }

// --- hal/plain.hpp
u32 op_plain_load(const Plain<u32>* word) { return word->load(); }
void op_plain_store(Plain<u32>* word, u32 value) { word->store(value); }
void op_plain_add(Plain<u32>* word, u32 n) { word->add(n); }

// --- hal/cpu.hpp
u32 op_percpu_load() { return variables.load<&Variables::word>(); }
void op_percpu_store(u32 value) { variables.store<&Variables::word>(value); }
void op_percpu_add(u32 n) { variables.add<&Variables::word>(n); }
u32 op_percpu_exchange_add(u32 n) { return variables.exchange_add<&Variables::word>(n); }
bool op_percpu_equals(u32 value) { return variables.equals<&Variables::word>(value); }
bool op_percpu_at_most(u32 value) { return variables.at_most<&Variables::word>(value); }
bool op_percpu_decrement_from_zero() { return variables.decrement_from_zero<&Variables::word>(); }
bool op_percpu_increment_to_zero() { return variables.increment_to_zero<&Variables::word>(); }
u32 op_irq_save() { return irq_save(); }
void op_irq_off() { irq_off(); }
void op_irq_restore(u32 flags) { irq_restore(flags); }
void op_cpu_relax() { cpu_relax(); }

// --- hal/tlb.hpp
void op_invlpg(u32 address) { invlpg(VirtAddr{address}); }
void op_flush_non_global() { flush_non_global(); }
void op_flush_all() { flush_all(); }
void op_load_root(u32 root) { load_root(PhysAddr{u64{root}}); }

// --- hal/user.hpp
u32 op_user_copy_in(void* to, u32 from, u32 bytes) { return user_copy_in(to, VirtAddr{from}, bytes); }
u32 op_user_copy_out(u32 to, const void* from, u32 bytes) { return user_copy_out(VirtAddr{to}, from, bytes); }
u32 op_user_copy_to_map(u32 to, u32 from, u32 bytes) { return user_copy_to_map(VirtAddr{to}, VirtAddr{from}, bytes); }
u32 op_user_copy_from_map(u32 to, u32 from, u32 bytes) {
    return user_copy_from_map(VirtAddr{to}, VirtAddr{from}, bytes);
}
u32 op_user_clear(u32 to, u32 bytes) { return user_clear(VirtAddr{to}, bytes); }

} // extern "C"
} // namespace loft::hal
