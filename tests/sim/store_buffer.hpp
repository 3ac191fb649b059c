// The store buffer of a CPU (TSO: SDM vol. 3, 9.2.2 and 9.2.3.4).
//
// In an exploration a plain store waits here, in order. It becomes visible to other CPUs and their page walks when it
// is drained, which is a step of the schedule. The CPU itself sees it at once. Locked and serialising instructions wait
// until the buffer is empty. Outside an exploration a store writes memory at once.
#pragma once

#include "tests/sim/races.hpp"
#include "tests/sim/schedule.hpp"
#include "tests/sim/translation.hpp"

#include <cstring>
#include <vector>

namespace loft::sim {

struct PendingStore {
    enum class Kind : u8 { variable, entry, data } kind = Kind::variable;
    u8 size = 0;
    u8* at = nullptr;
    u64 value = 0;
    Where where{}; // of an entry
    u32 note = 0;  // of data: not 0 if a test wants to know when it becomes visible
};

// Called after a store with a note has become visible.
inline void (*noted_store_drained)(u32 note) = nullptr;

class StoreBuffer {
  public:
    bool empty() const { return first_ == stores_.size(); }
    void push(const PendingStore& store) { stores_.push_back(store); }
    PendingStore pop() {
        const PendingStore store = stores_[first_++];
        if (empty()) clear();
        return store;
    }
    void clear() {
        stores_.clear();
        first_ = 0;
    }
    const PendingStore& first() const { return stores_[first_]; }
    const PendingStore& last() const { return stores_.back(); }
    // Calls visit(store) for each store, the oldest first.
    template <typename F> void each(F&& visit) const {
        for (std::size_t i = first_; i < stores_.size(); ++i)
            visit(stores_[i]);
    }

    // Applies to `value`, which was read from memory at `at`, the stores of this CPU that are still in the buffer.
    void forward(const void* at, void* value, u32 size) const {
        for (std::size_t i = first_; i < stores_.size(); ++i) {
            const PendingStore& s = stores_[i];
            const std::ptrdiff_t offset = s.at - static_cast<const u8*>(at);
            if (offset >= 0 && offset + s.size <= size) {
                std::memcpy(static_cast<u8*>(value) + offset, &s.value, s.size);
            } else if (offset < 0 && s.size >= size - offset) { // the store is wider
                std::memcpy(value, reinterpret_cast<const u8*>(&s.value) - offset, size);
            }
        }
    }
    bool covers(const void* at, u32 size) const {
        for (std::size_t i = first_; i < stores_.size(); ++i) {
            const std::ptrdiff_t offset = stores_[i].at - static_cast<const u8*>(at);
            if (offset < static_cast<std::ptrdiff_t>(size) && offset + stores_[i].size > 0) return true;
        }
        return false;
    }

  private:
    std::vector<PendingStore> stores_;
    std::size_t first_ = 0;
};

// A store into the buffer of the current CPU, for hal/atomic.hpp and hal/plain.hpp; only in an exploration.
void store_later(void* at, u64 value, u32 size);
void forward_own(const void* at, void* value, u32 size);

template <typename T> [[gnu::always_inline]] inline T read_variable(const T& variable) {
    touch_word(&variable, sizeof variable, false);
    T value = variable;
    if (detail::exploring) [[unlikely]]
        forward_own(&variable, &value, sizeof value);
    return value;
}
template <typename T> [[gnu::always_inline]] inline void write_variable(T& variable, T value) {
    if (!detail::exploring) [[likely]] {
        variable = value;
        return;
    }
    touch_plain(&variable, sizeof variable, races::Kind::cell_write);
    u64 raw = 0;
    std::memcpy(&raw, &value, sizeof value);
    store_later(&variable, raw, sizeof value);
}

} // namespace loft::sim
