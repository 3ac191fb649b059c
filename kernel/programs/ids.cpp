// Process and thread ids. Contract: ids.hpp.
#include "kernel/programs/ids.hpp"

#include "arch/base/panic.hpp"

#include <bit>

namespace loft {

u32 IdPool::find(u32 begin, u32 end) const {
    for (u32 id = begin; id < end;) {
        const u32 free = ~taken_[id / 32] >> id % 32;
        if (free != 0) {
            id += static_cast<u32>(std::countr_zero(free));
            return id < end ? id : 0;
        }
        id = (id / 32 + 1) * 32;
    }
    return 0;
}

u32 IdPool::take() {
    const SpinGuard guard{lock_};
    u32 id = find(last_ + 1, kEnd);
    if (id == 0) id = find(kFirstAgain, last_ + 1);
    if (id == 0) return 0;
    taken_[id / 32] |= 1u << id % 32;
    last_ = id;
    ++in_use_;
    return id;
}

void IdPool::give_back(u32 id) {
    const SpinGuard guard{lock_};
    const u32 bit = 1u << id % 32;
    if (id == 0 || id >= kEnd || (taken_[id / 32] & bit) == 0) panic("id {} is released, and nothing has it", id);
    taken_[id / 32] &= ~bit;
    --in_use_;
}

u32 IdPool::in_use() {
    const SpinGuard guard{lock_};
    return in_use_;
}

} // namespace loft
