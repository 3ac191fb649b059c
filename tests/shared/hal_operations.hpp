// What each operation of the HAL does, as tables: the state before, the arguments, the state afterwards, the result.
//
// Both HALs are tested by these rows: the simulated machine, over which mm's host tests run, by
// tests/host/sim/operations_test.cpp, and the real one by tests/guest/hal_test.cpp. So a host test proves something
// about the kernel. The expected values are written out, or follow from plain arithmetic on bytes; neither HAL computes
// them, and the state is set and read without the HAL: by the functions that the caller passes.
//
// Every check calls expect(operation, row, found, expected), for numbers of at most 64 bits.
#pragma once

#include "arch/i386/isa/pte.hpp"

#include <hal/hal.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>
#include <string_view>

namespace loft::operations {

// ------------------------------------------------------------------------------------------ entries of page tables

// Without PAE an entry has its low half only: the high halves of a row are then 0.
struct PteRow {
    const char* operation;
    PteHalves before, argument, after;
    PteHalves result; // of an operation that returns one half, or true or false: in the low half
    PteHalves (*run)(hal::PteCell* cell, PteHalves argument);
    bool needs_pae = false;
};

inline PteHalves one_result(u32 value) { return {value, 0}; }
inline PteHalves entry_result(Pte entry) { return {entry.low(), entry.high()}; }

inline constexpr PteHalves kNone{0, 0};
// Present, with A and D; not present, with a high half that was left; both halves with all bits.
inline constexpr PteHalves kOne{0x1234'5067, 0x8000'0003}, kTwo{0x0fed'c121, 0x0000'000c}, kLeft{0, 0x8000'0003},
    kFull{0xffff'ffff, 0xffff'ffff};

inline constexpr PteRow kPteRows[] = {
    {"pte_low", kOne, kNone, kOne, {0x1234'5067, 0}, [](auto* cell, auto) { return one_result(hal::pte_low(cell)); }},
    {"pte_low", kLeft, kNone, kLeft, {0, 0}, [](auto* cell, auto) { return one_result(hal::pte_low(cell)); }},
    {"pte_high",
     kOne,
     kNone,
     kOne,
     {0x8000'0003, 0},
     [](auto* cell, auto) { return one_result(hal::pte_high(cell)); },
     true},
    {"pte_read", kOne, kNone, kOne, kOne, [](auto* cell, auto) { return entry_result(hal::pte_read(cell)); }},
    {"pte_read", kNone, kNone, kNone, kNone, [](auto* cell, auto) { return entry_result(hal::pte_read(cell)); }},
    {"pte_read", kFull, kNone, kFull, kFull, [](auto* cell, auto) { return entry_result(hal::pte_read(cell)); }},
    {"pte_is", kOne, kOne, kOne, {1, 0}, [](auto* cell, auto want) { return one_result(hal::pte_is(cell, want)); }},
    {"pte_is",
     kOne,
     {0x1234'5066, 0x8000'0003},
     kOne,
     {0, 0},
     [](auto* cell, auto want) { return one_result(hal::pte_is(cell, want)); }},
    {"pte_is",
     kOne,
     {0x1234'5067, 0x8000'0002},
     kOne,
     {0, 0},
     [](auto* cell, auto want) { return one_result(hal::pte_is(cell, want)); },
     true},
    {"pte_is", kNone, kNone, kNone, {1, 0}, [](auto* cell, auto want) { return one_result(hal::pte_is(cell, want)); }},
    {"pte_set", kNone, kOne, kOne, kNone,
     [](auto* cell, auto value) { return hal::pte_set(cell, Pte::from(value)), kNone; }},
    {"pte_set", kLeft, kTwo, kTwo, kNone,
     [](auto* cell, auto value) { return hal::pte_set(cell, Pte::from(value)), kNone; }},
    {"pte_set of halves", kNone, kOne, kOne, kNone,
     [](auto* cell, auto value) { return hal::pte_set(cell, value), kNone; }},
    {"pte_set of halves", kLeft, kTwo, kTwo, kNone,
     [](auto* cell, auto value) { return hal::pte_set(cell, value), kNone; }},
    {"pte_clear", kOne, kNone, kNone, kNone, [](auto* cell, auto) { return hal::pte_clear(cell), kNone; }},
    {"pte_clear", kLeft, kNone, kNone, kNone, [](auto* cell, auto) { return hal::pte_clear(cell), kNone; }},
    {"pte_clear_low", kOne, kNone, kLeft, kNone, [](auto* cell, auto) { return hal::pte_clear_low(cell), kNone; }},
    {"pte_take_low",
     kOne,
     kNone,
     kLeft,
     {0x1234'5067, 0},
     [](auto* cell, auto) { return one_result(hal::pte_take_low(cell)); }},
    {"pte_take", kOne, kNone, kNone, kOne, [](auto* cell, auto) { return entry_result(hal::pte_take(cell)); }},
    {"pte_take", kNone, kNone, kNone, kNone, [](auto* cell, auto) { return entry_result(hal::pte_take(cell)); }},
    {"pte_take", kFull, kNone, kNone, kFull, [](auto* cell, auto) { return entry_result(hal::pte_take(cell)); }},
    {"pte_exchange", kOne, kTwo, kTwo, kOne,
     [](auto* cell, auto value) { return entry_result(hal::pte_exchange(cell, Pte::from(value))); }},
    {"pte_exchange", kNone, kOne, kOne, kNone,
     [](auto* cell, auto value) { return entry_result(hal::pte_exchange(cell, Pte::from(value))); }},
    {"pte_exchange", kFull, kNone, kNone, kFull,
     [](auto* cell, auto value) { return entry_result(hal::pte_exchange(cell, Pte::from(value))); }},
};

// `cell`: an entry that no table of the machine has. `words`: the same memory.
template <typename Expect> void check_entries(hal::PteCell* cell, volatile u32* words, Expect&& expect) {
    const auto cut = [](PteHalves value) { return PteHalves{value.low, config::kPae ? value.high : 0}; };
    const auto number = [](PteHalves value) { return u64{value.high} << 32 | value.low; };
    constexpr u32 kBehind = 0x5a5a'a5a5; // the word behind the entry
    constexpr u32 kWords = sizeof(RawPte) / 4;
    for (u32 row = 0; row != std::size(kPteRows); ++row) {
        const PteRow& one = kPteRows[row];
        if (one.needs_pae && !config::kPae) continue;
        words[0] = one.before.low;
        if constexpr (config::kPae) words[1] = one.before.high;
        words[kWords] = kBehind;
        const PteHalves result = one.run(cell, cut(one.argument));
        const PteHalves after{words[0], config::kPae ? words[1] : 0};
        expect(one.operation, row, number(after), number(cut(one.after)));
        expect(one.operation, row, number(result), number(cut(one.result)));
        expect(one.operation, row, words[kWords], kBehind);
    }
}

// ------------------------------------------------------------------------------- words that CPUs share

using Word = hal::Atomic<u32>;
struct WordRow {
    const char* operation;
    u32 before, argument, second, after;
    u64 result;
    u64 (*run)(Word& word, u32 argument, u32 second);
};

// The word that was found, above whether it was exchanged.
inline u64 compare_exchange(Word& word, u32 expected, u32 next) {
    const bool done = word.compare_exchange(expected, next);
    return u64{expected} << 32 | done;
}

inline constexpr WordRow kWordRows[] = {
    {"load", 0xdead'beef, 0, 0, 0xdead'beef, 0xdead'beef, [](Word& w, u32, u32) { return u64{w.load()}; }},
    {"store", 1, 0x8000'0001, 0, 0x8000'0001, 0, [](Word& w, u32 a, u32) { return w.store(a), u64{0}; }},
    {"exchange", 7, 9, 0, 9, 7, [](Word& w, u32 a, u32) { return u64{w.exchange(a)}; }},
    {"exchange", 0xffff'ffff, 0, 0, 0, 0xffff'ffff, [](Word& w, u32 a, u32) { return u64{w.exchange(a)}; }},
    {"compare_exchange", 5, 5, 6, 6, 0x0000'0005'0000'0001, compare_exchange},
    {"compare_exchange", 5, 4, 6, 5, 0x0000'0005'0000'0000, compare_exchange},
    {"compare_exchange", 0xffff'fffe, 0xffff'ffff, 0, 0xffff'fffe, 0xffff'fffe'0000'0000, compare_exchange},
    {"fetch_add", 40, 2, 0, 42, 40, [](Word& w, u32 a, u32) { return u64{w.fetch_add(a)}; }},
    {"fetch_add", 0xffff'ffff, 3, 0, 2, 0xffff'ffff, [](Word& w, u32 a, u32) { return u64{w.fetch_add(a)}; }},
    {"fetch_sub", 40, 2, 0, 38, 40, [](Word& w, u32 a, u32) { return u64{w.fetch_sub(a)}; }},
    {"fetch_sub", 1, 3, 0, 0xffff'fffe, 1, [](Word& w, u32 a, u32) { return u64{w.fetch_sub(a)}; }},
    {"fetch_or", 0xf0f0'0000, 0x0ff0'0001, 0, 0xfff0'0001, 0xf0f0'0000,
     [](Word& w, u32 a, u32) { return u64{w.fetch_or(a)}; }},
    {"fetch_and", 0xf0f0'000f, 0x0ff0'0001, 0, 0x00f0'0001, 0xf0f0'000f,
     [](Word& w, u32 a, u32) { return u64{w.fetch_and(a)}; }},
    {"increment_is_positive", 0, 0, 0, 1, 1, [](Word& w, u32, u32) { return u64{w.increment_is_positive()}; }},
    {"increment_is_positive", 0xffff'ffff, 0, 0, 0, 0,
     [](Word& w, u32, u32) { return u64{w.increment_is_positive()}; }},
    {"increment_is_positive", 0x8000'0000, 0, 0, 0x8000'0001, 0,
     [](Word& w, u32, u32) { return u64{w.increment_is_positive()}; }},
    {"increment_is_positive", 0x7fff'fffe, 0, 0, 0x7fff'ffff, 1,
     [](Word& w, u32, u32) { return u64{w.increment_is_positive()}; }},
};

struct CounterRow {
    const char* operation;
    u64 before, argument, after, result;
    u64 (*run)(hal::Counter& count, u64 argument);
};
inline constexpr CounterRow kCounterRows[] = {
    {"Counter load", 0x1234'5678'9abc'def0, 0, 0x1234'5678'9abc'def0, 0x1234'5678'9abc'def0,
     [](hal::Counter& c, u64) { return c.load(); }},
    {"Counter increment", 41, 0, 42, 42, [](hal::Counter& c, u64) { return c.increment(); }},
    {"Counter increment", 0xffff'ffff, 0, 0x1'0000'0000, 0x1'0000'0000,
     [](hal::Counter& c, u64) { return c.increment(); }},
    {"Counter raise_to", 5, 6, 6, 0, [](hal::Counter& c, u64 a) { return c.raise_to(a), u64{0}; }},
    {"Counter raise_to", 5, 4, 5, 0, [](hal::Counter& c, u64 a) { return c.raise_to(a), u64{0}; }},
    {"Counter raise_to", 0x1'0000'0000, 0xffff'ffff, 0x1'0000'0000, 0,
     [](hal::Counter& c, u64 a) { return c.raise_to(a), u64{0}; }},
    {"Counter raise_to", 0xffff'ffff, 0x2'0000'0000, 0x2'0000'0000, 0,
     [](hal::Counter& c, u64 a) { return c.raise_to(a), u64{0}; }},
};

using PlainWord = hal::Plain<u32>;
struct PlainRow {
    const char* operation;
    u32 before, argument, after, result;
    u32 (*run)(PlainWord& word, u32 argument);
};
inline constexpr PlainRow kPlainRows[] = {
    {"Plain load", 0xdead'beef, 0, 0xdead'beef, 0xdead'beef, [](PlainWord& w, u32) { return w.load(); }},
    {"Plain store", 1, 0x8000'0001, 0x8000'0001, 0, [](PlainWord& w, u32 a) { return w.store(a), 0u; }},
    {"Plain add", 40, 2, 42, 0, [](PlainWord& w, u32 a) { return w.add(a), 0u; }},
    {"Plain add", 0xffff'ffff, 3, 2, 0, [](PlainWord& w, u32 a) { return w.add(a), 0u; }},
};

template <typename Expect> void check_shared_words(Expect&& expect) {
    // The memory of an object, without its own operations.
    const auto raw = [](const auto& object) {
        u64 value = 0;
        static_assert(sizeof object <= sizeof value);
        std::memcpy(&value, static_cast<const void*>(&object), sizeof object);
        return value;
    };
    static_assert(sizeof(Word) == 4 && sizeof(PlainWord) == 4 && sizeof(hal::Counter) == 8);
    for (u32 row = 0; row != std::size(kWordRows); ++row) {
        const WordRow& one = kWordRows[row];
        Word word{one.before};
        const u64 result = one.run(word, one.argument, one.second);
        expect(one.operation, row, raw(word), one.after);
        expect(one.operation, row, result, one.result);
    }
    for (u32 row = 0; row != std::size(kCounterRows); ++row) {
        const CounterRow& one = kCounterRows[row];
        hal::Counter count;
        std::memcpy(static_cast<void*>(&count), &one.before, sizeof count);
        const u64 result = one.run(count, one.argument);
        expect(one.operation, row, raw(count), one.after);
        expect(one.operation, row, result, one.result);
    }
    for (u32 row = 0; row != std::size(kPlainRows); ++row) {
        const PlainRow& one = kPlainRows[row];
        PlainWord word{one.before};
        const u32 result = one.run(word, one.argument);
        expect(one.operation, row, raw(word), one.after);
        expect(one.operation, row, result, one.result);
    }
}

// ------------------------------------------------------------------------------------- variables of a CPU

struct CpuWords {
    u32 before, word, after; // the middle one is changed
};
using CpuVariable = hal::PerCpu<CpuWords>;
struct CpuRow {
    const char* operation;
    u32 before, argument, after, result;
    u32 (*run)(CpuVariable& variable, u32 argument);
};
inline constexpr CpuRow kCpuRows[] = {
    {"PerCpu load", 0xdead'beef, 0, 0xdead'beef, 0xdead'beef,
     [](CpuVariable& v, u32) { return v.load<&CpuWords::word>(); }},
    {"PerCpu store", 1, 0x8000'0001, 0x8000'0001, 0,
     [](CpuVariable& v, u32 a) { return v.store<&CpuWords::word>(a), 0u; }},
    {"PerCpu add", 40, 2, 42, 0, [](CpuVariable& v, u32 a) { return v.add<&CpuWords::word>(a), 0u; }},
    {"PerCpu add", 1, 0xffff'fffe, 0xffff'ffff, 0, [](CpuVariable& v, u32 a) { return v.add<&CpuWords::word>(a), 0u; }},
    {"PerCpu exchange_add", 40, 2, 42, 40, [](CpuVariable& v, u32 a) { return v.exchange_add<&CpuWords::word>(a); }},
    {"PerCpu exchange_add", 0xffff'ffff, 1, 0, 0xffff'ffff,
     [](CpuVariable& v, u32 a) { return v.exchange_add<&CpuWords::word>(a); }},
    {"PerCpu equals", 7, 7, 7, 1, [](CpuVariable& v, u32 a) { return u32{v.equals<&CpuWords::word>(a)}; }},
    {"PerCpu equals", 7, 8, 7, 0, [](CpuVariable& v, u32 a) { return u32{v.equals<&CpuWords::word>(a)}; }},
    {"PerCpu at_most", 7, 7, 7, 1, [](CpuVariable& v, u32 a) { return u32{v.at_most<&CpuWords::word>(a)}; }},
    {"PerCpu at_most", 8, 7, 8, 0, [](CpuVariable& v, u32 a) { return u32{v.at_most<&CpuWords::word>(a)}; }},
    // Without a sign.
    {"PerCpu at_most", 0x8000'0000, 1, 0x8000'0000, 0,
     [](CpuVariable& v, u32 a) { return u32{v.at_most<&CpuWords::word>(a)}; }},
    {"PerCpu decrement_from_zero", 0, 0, 0xffff'ffff, 1,
     [](CpuVariable& v, u32) { return u32{v.decrement_from_zero<&CpuWords::word>()}; }},
    {"PerCpu decrement_from_zero", 1, 0, 0, 0,
     [](CpuVariable& v, u32) { return u32{v.decrement_from_zero<&CpuWords::word>()}; }},
    {"PerCpu increment_to_zero", 0xffff'ffff, 0, 0, 1,
     [](CpuVariable& v, u32) { return u32{v.increment_to_zero<&CpuWords::word>()}; }},
    {"PerCpu increment_to_zero", 0, 0, 1, 0,
     [](CpuVariable& v, u32) { return u32{v.increment_to_zero<&CpuWords::word>()}; }},
};

// Runs on `here`, from which the caller cannot migrate; `other` is another CPU with an area, or the same if there is
// none.
template <typename Expect> void check_cpu_variable(CpuVariable& variable, CpuId here, CpuId other, Expect&& expect) {
    constexpr u32 kBeside = 0x5a5a'a5a5;
    expect("this_cpu", 0, hal::this_cpu().value(), here.value());
    CpuWords& mine = variable.of(here);
    expect("mine", 0, &variable.mine() == &mine, true);
    expect("of", 0, &variable.of(other) == &mine, here == other);
    for (u32 row = 0; row != std::size(kCpuRows); ++row) {
        const CpuRow& one = kCpuRows[row];
        variable.of(other) = {kBeside, kBeside, kBeside};
        mine = {kBeside, one.before, kBeside};
        asm volatile("" ::: "memory"); // the operations do not tell the compiler what they read
        const u32 result = one.run(variable, one.argument);
        asm volatile("" ::: "memory");
        expect(one.operation, row, mine.word, one.after);
        expect(one.operation, row, result, one.result);
        expect(one.operation, row, mine.before == kBeside && mine.after == kBeside, true);
        if (other != here) expect(one.operation, row, variable.of(other).word, kBeside);
    }
}

// Interrupts of this CPU are on at the call, and on afterwards.
template <typename Expect> void check_interrupt_flag(Expect&& expect) {
    expect("irqs_enabled", 0, hal::irqs_enabled(), true);
    const u32 on = hal::irq_save();
    expect("irq_save", 0, hal::irqs_enabled(), false);
    const u32 off = hal::irq_save();
    expect("irq_save", 1, hal::irqs_enabled(), false);
    hal::irq_restore(off);
    expect("irq_restore", 0, hal::irqs_enabled(), false);
    hal::irq_restore(on);
    expect("irq_restore", 1, hal::irqs_enabled(), true);
    hal::irq_off();
    expect("irq_off", 0, hal::irqs_enabled(), false);
    hal::irq_restore(hal::kIrqsOn);
    expect("kIrqsOn", 0, hal::irqs_enabled(), true);
}

// ------------------------------------------------------------------------------------------------- memory

enum class Effect { zero, copy, fill, from_object, to_object };
struct MemoryRow {
    const char* operation;
    Effect effect;
    u32 to, from, bytes; // offsets in the page; of an object: from its begin on
    void (*run)(VirtAddr page, const MemoryRow& row, u8* object);
};
inline constexpr u8 kFillByte = 0xe7;
inline constexpr u32 kObjectBytes = 64;
inline constexpr MemoryRow kMemoryRows[] = {
    {"zero_words", Effect::zero, 0, 0, kPageSize,
     [](VirtAddr page, const MemoryRow& r, u8*) { hal::zero_words(page + r.to, r.bytes); }},
    {"zero_words", Effect::zero, 8, 0, 4,
     [](VirtAddr page, const MemoryRow& r, u8*) { hal::zero_words(page + r.to, r.bytes); }},
    {"zero_words", Effect::zero, 8, 0, 0,
     [](VirtAddr page, const MemoryRow& r, u8*) { hal::zero_words(page + r.to, r.bytes); }},
    {"copy_words", Effect::copy, 0, 2048, 2048,
     [](VirtAddr page, const MemoryRow& r, u8*) { hal::copy_words(page + r.to, page + r.from, r.bytes); }},
    {"copy_words", Effect::copy, 4092, 16, 4,
     [](VirtAddr page, const MemoryRow& r, u8*) { hal::copy_words(page + r.to, page + r.from, r.bytes); }},
    {"copy_bytes", Effect::copy, 101, 2050, 1777,
     [](VirtAddr page, const MemoryRow& r, u8*) { hal::copy_bytes(page + r.to, page + r.from, r.bytes); }},
    {"copy_bytes", Effect::copy, 3, 0, 1,
     [](VirtAddr page, const MemoryRow& r, u8*) { hal::copy_bytes(page + r.to, page + r.from, r.bytes); }},
    {"fill", Effect::fill, 1, 0, 4094,
     [](VirtAddr page, const MemoryRow& r, u8*) { hal::fill(page + r.to, kFillByte, r.bytes); }},
    {"fill", Effect::fill, 7, 0, 3,
     [](VirtAddr page, const MemoryRow& r, u8*) { hal::fill(page + r.to, kFillByte, r.bytes); }},
    {"copy_out", Effect::from_object, 4033, 0, 63,
     [](VirtAddr page, const MemoryRow& r, u8* object) { hal::copy_out(page + r.to, object, r.bytes); }},
    {"copy_out", Effect::from_object, 64, 0, 64,
     [](VirtAddr page, const MemoryRow& r, u8* object) { hal::copy_out(page + r.to, object, r.bytes); }},
    {"copy_in", Effect::to_object, 0, 4031, 61,
     [](VirtAddr page, const MemoryRow& r, u8* object) { hal::copy_in(object, page + r.from, r.bytes); }},
    {"copy_in", Effect::to_object, 0, 0, 64,
     [](VirtAddr page, const MemoryRow& r, u8* object) { hal::copy_in(object, page + r.from, r.bytes); }},
};

// The bytes before each row: different in neighbours, and different in page and object.
constexpr u8 page_byte(u32 i) { return static_cast<u8>(i * 37 + i / 256 + 11); }
constexpr u8 object_byte(u32 i) { return static_cast<u8>(0xff - i * 3); }

// The number of bytes that differ from what the row must leave.
template <typename Byte> u32 wrong_bytes(const MemoryRow& row, Byte&& page_is, const u8* object) {
    const auto changed = [&](u32 i) { return i >= row.to && i < row.to + row.bytes; };
    u32 wrong = 0;
    for (u32 i = 0; i != kPageSize; ++i) {
        u8 wanted = page_byte(i);
        if (row.effect != Effect::to_object && changed(i)) {
            const u32 k = i - row.to;
            wanted = row.effect == Effect::zero   ? u8{0}
                     : row.effect == Effect::fill ? kFillByte
                     : row.effect == Effect::copy ? page_byte(row.from + k)
                                                  : object_byte(k);
        }
        wrong += page_is(i) != wanted;
    }
    for (u32 i = 0; i != kObjectBytes; ++i) {
        const bool taken = row.effect == Effect::to_object && i < row.bytes;
        wrong += object[i] != (taken ? page_byte(row.from + i) : object_byte(i));
    }
    return wrong;
}

// `page`: the address of a mapped page; `bytes`: the same memory.
template <typename Expect> void check_memory(VirtAddr page, volatile u8* bytes, Expect&& expect) {
    std::array<u8, kObjectBytes> object;
    const auto prepare = [&] {
        for (u32 i = 0; i != kPageSize; ++i)
            bytes[i] = page_byte(i);
        for (u32 i = 0; i != kObjectBytes; ++i)
            object[i] = object_byte(i);
    };
    for (u32 row = 0; row != std::size(kMemoryRows); ++row) {
        prepare();
        kMemoryRows[row].run(page, kMemoryRows[row], object.data());
        expect(kMemoryRows[row].operation, row,
               wrong_bytes(
                   kMemoryRows[row], [&](u32 i) { return bytes[i]; }, object.data()),
               0);
    }
    // Single loads and stores: the lowest byte is the first one.
    prepare();
    const auto value_at = [](u32 offset, u32 size) {
        u32 value = 0;
        for (u32 i = 0; i != size; ++i)
            value |= u32{page_byte(offset + i)} << 8 * i;
        return value;
    };
    expect("load of a byte", 0, hal::load<u8>(page + 4095), value_at(4095, 1));
    expect("load of two bytes", 0, hal::load<u16>(page + 1022), value_at(1022, 2));
    expect("load of four bytes", 0, hal::load<u32>(page + 4092), value_at(4092, 4));
    const auto stored = [&](u32 offset, u32 size) {
        u32 value = 0, others = 0;
        for (u32 i = 0; i != kPageSize; ++i)
            if (i >= offset && i < offset + size)
                value |= u32{bytes[i]} << 8 * (i - offset);
            else
                others += bytes[i] != page_byte(i);
        return u64{others} << 32 | value;
    };
    hal::store<u8>(page + 7, 0x91);
    expect("store of a byte", 0, stored(7, 1), 0x91);
    prepare();
    hal::store<u16>(page + 4094, 0x9182);
    expect("store of two bytes", 0, stored(4094, 2), 0x9182);
    prepare();
    hal::store<u32>(page + 2048, 0x9182'7364);
    expect("store of four bytes", 0, stored(2048, 4), 0x9182'7364);
}

// `va`: an address in the direct map.
template <typename Expect> void check_lowmem(VirtAddr va, Expect&& expect) {
    expect("lowmem_addr", 0, hal::lowmem_addr(hal::lowmem_ptr<u32>(va)).value(), va.value());
    expect("out_of_memory", 0, hal::out_of_memory(), false);
    expect("opaque", 0, hal::opaque(0x8000'0001u), 0x8000'0001u);
}

// ---------------------------------------------------------------------------------------------------- TLB

// Three pages with an entry each: two of one address space, and a global one. All three entries are changed without a
// flush, and then the operation runs.
inline constexpr u32 kTlbPages = 3;
struct TlbRow {
    const char* operation;
    bool fresh[kTlbPages]; // an access must find the new frame; elsewhere it may find either
    void (*run)(const VirtAddr* page);
};
inline constexpr TlbRow kTlbRows[] = {
    {"invlpg", {true, false, false}, [](const VirtAddr* page) { hal::invlpg(page[0]); }},
    {"invlpg", {false, true, false}, [](const VirtAddr* page) { hal::invlpg(page[1] + (kPageSize - 1)); }},
    {"invlpg of a global page", {false, false, true}, [](const VirtAddr* page) { hal::invlpg(page[2]); }},
    {"flush_non_global", {true, true, false}, [](const VirtAddr*) { hal::flush_non_global(); }},
    {"load_root", {true, true, false}, [](const VirtAddr*) { hal::load_root(hal::current_root()); }},
    {"flush_all", {true, true, true}, [](const VirtAddr*) { hal::flush_all(); }},
};

// change(i, frame): page i shows frame 0 or 1 of its own, by its entry and without a flush; fresh(i, frame): an access
// surely finds it. The caller does not migrate.
template <typename Change, typename Fresh, typename Expect>
void check_flushes(const VirtAddr (&page)[kTlbPages], Change&& change, Fresh&& fresh, Expect&& expect) {
    const PhysAddr root = hal::current_root();
    u32 frame = 0;
    for (u32 row = 0; row != std::size(kTlbRows); ++row) {
        const TlbRow& one = kTlbRows[row];
        hal::flush_all();
        for (u32 i = 0; i != kTlbPages; ++i)
            static_cast<void>(fresh(i, frame)); // the TLB has all three from here on
        frame ^= 1;
        for (u32 i = 0; i != kTlbPages; ++i)
            change(i, frame);
        one.run(page);
        for (u32 i = 0; i != kTlbPages; ++i)
            if (one.fresh[i]) expect(one.operation, row, fresh(i, frame), true);
        expect("current_root", row, hal::current_root().value(), root.value());
    }
    hal::flush_all();
}

// --------------------------------------------------------------------------------------------- user copies

struct UserRow {
    const char* operation;
    u32 room;  // bytes between the user address and the end of its page
    u32 bytes; // asked for
    bool writes;
    u32 (*run)(VirtAddr user, VirtAddr map, u8* object, u32 bytes);
};
inline constexpr UserRow kUserRows[] = {
    {"user_copy_in", 4096, 64, false, [](VirtAddr u, VirtAddr, u8* o, u32 n) { return hal::user_copy_in(o, u, n); }},
    {"user_copy_in", 19, 64, false, [](VirtAddr u, VirtAddr, u8* o, u32 n) { return hal::user_copy_in(o, u, n); }},
    {"user_copy_in", 5, 5, false, [](VirtAddr u, VirtAddr, u8* o, u32 n) { return hal::user_copy_in(o, u, n); }},
    {"user_copy_in", 0, 3, false, [](VirtAddr u, VirtAddr, u8* o, u32 n) { return hal::user_copy_in(o, u, n); }},
    {"user_copy_out", 4095, 63, true, [](VirtAddr u, VirtAddr, u8* o, u32 n) { return hal::user_copy_out(u, o, n); }},
    {"user_copy_out", 8, 11, true, [](VirtAddr u, VirtAddr, u8* o, u32 n) { return hal::user_copy_out(u, o, n); }},
    {"user_copy_out", 1, 64, true, [](VirtAddr u, VirtAddr, u8* o, u32 n) { return hal::user_copy_out(u, o, n); }},
    {"user_copy_to_map", 64, 64, false,
     [](VirtAddr u, VirtAddr m, u8*, u32 n) { return hal::user_copy_to_map(m, u, n); }},
    {"user_copy_to_map", 22, 64, false,
     [](VirtAddr u, VirtAddr m, u8*, u32 n) { return hal::user_copy_to_map(m, u, n); }},
    {"user_copy_from_map", 64, 64, true,
     [](VirtAddr u, VirtAddr m, u8*, u32 n) { return hal::user_copy_from_map(u, m, n); }},
    {"user_copy_from_map", 30, 33, true,
     [](VirtAddr u, VirtAddr m, u8*, u32 n) { return hal::user_copy_from_map(u, m, n); }},
    {"user_clear", 100, 64, true, [](VirtAddr u, VirtAddr, u8*, u32 n) { return hal::user_clear(u, n); }},
    {"user_clear", 13, 64, true, [](VirtAddr u, VirtAddr, u8*, u32 n) { return hal::user_clear(u, n); }},
};

// `user`: the address of a page of the current program, `user_bytes` its memory. Behind it is nothing, and no fault is
// resolved. `map`: the address of kObjectBytes of the kernel, `map_bytes` their memory.
template <typename Expect>
void check_user_copies(VirtAddr user, volatile u8* user_bytes, VirtAddr map, volatile u8* map_bytes, Expect&& expect) {
    std::array<u8, kObjectBytes> object;
    for (u32 row = 0; row != std::size(kUserRows); ++row) {
        const UserRow& one = kUserRows[row];
        for (u32 i = 0; i != kPageSize; ++i)
            user_bytes[i] = page_byte(i);
        for (u32 i = 0; i != kObjectBytes; ++i)
            object[i] = object_byte(i);
        for (u32 i = 0; i != kObjectBytes; ++i)
            map_bytes[i] = object_byte(i);
        const u32 begin = kPageSize - one.room, reach = std::min(one.room, one.bytes);
        const u32 left = one.run(user + begin, map, object.data(), one.bytes);
        // The bytes that are not copied; a few of those before the fault may be among them (hal_contract.hpp).
        const u32 least = one.bytes - reach, most = least == 0 ? 0 : std::min(least + 3, one.bytes);
        expect(one.operation, row, left >= least && left <= most, true);
        const u32 copied = one.bytes - left;
        u32 wrong = 0;
        const bool clears = std::string_view{one.operation} == "user_clear";
        for (u32 i = 0; i != copied; ++i)
            wrong += one.writes ? user_bytes[begin + i] != (clears ? 0 : object_byte(i))
                                : object[i] != page_byte(begin + i) && map_bytes[i] != page_byte(begin + i);
        for (u32 i = 0; i != begin; ++i)
            wrong += user_bytes[i] != page_byte(i);
        if (one.writes)
            for (u32 i = 0; i != kObjectBytes; ++i)
                wrong += object[i] != object_byte(i) || map_bytes[i] != object_byte(i);
        expect(one.operation, row, wrong, 0);
    }
}

} // namespace loft::operations
