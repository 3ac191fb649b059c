// What is known about each place (schedule.hpp) in one schedule. Clearing it for the next schedule costs nothing.
#pragma once

#include "arch/base/types.hpp"

#include <cstddef>
#include <utility>
#include <vector>

namespace loft::sim {

template <typename T> class PlaceMap {
  public:
    void clear() {
        ++generation_;
        used_ = 0;
    }
    // A new T if there is none. Valid until the next call.
    T& at(u64 key) {
        if (2 * (used_ + 1) > table_.size()) grow();
        Entry& entry = slot(key);
        if (entry.generation != generation_) {
            entry = Entry{key, generation_, {}};
            ++used_;
        }
        return entry.value;
    }
    T* find(u64 key) { // null: there is none
        if (used_ == 0) return nullptr;
        Entry& entry = slot(key);
        return entry.generation == generation_ ? &entry.value : nullptr;
    }

  private:
    struct Entry {
        u64 key = 0;
        u64 generation = 0;
        T value;
    };
    Entry& slot(u64 key) {
        u64 i = (key * 0x9e37'79b9'7f4a'7c15) >> 32;
        for (;; ++i) {
            Entry& entry = table_[i & (table_.size() - 1)];
            if (entry.generation != generation_ || entry.key == key) return entry;
        }
    }
    void grow() {
        std::vector<Entry> old(table_.empty() ? 512 : 2 * table_.size());
        old.swap(table_);
        for (Entry& entry : old)
            if (entry.generation == generation_) slot(entry.key) = std::move(entry);
    }

    std::vector<Entry> table_;
    u64 generation_ = 1;
    std::size_t used_ = 0;
};

} // namespace loft::sim
