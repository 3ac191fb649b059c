// Taking and restoring a snapshot.
#include "tests/sim/snapshot.hpp"

#include "tests/sim/machine.hpp"

namespace loft::sim {

Snapshot::Snapshot() {
    for (const StaticObject& object : kernel_statics())
        statics_.insert(statics_.end(), object.at, object.at + object.size);
    for (u32 i = 0; i < machine().options().cpus; ++i)
        roots_.push_back(machine().cpu(CpuId{i}).root);
    online_ = machine().online();
    const u32 end = static_cast<u32>(machine().options().ram >> kPageShift);
    saved_.resize(end);
    for (u32 pfn = 0; pfn < end; ++pfn) {
        u8& state = frame_state_of(pfn);
        state = static_cast<u8>(state & ~frame_state::dirty);
        states_.push_back(state);
        if ((state & frame_state::ram) == 0 || ram_is_junk(pfn)) continue;
        const u8* const from = ram_at(u64{pfn} << kPageShift);
        saved_[pfn] = 1;
        frames_.push_back({pfn, (state & frame_state::table) != 0, {from, from + kPageSize}});
    }
}

void Snapshot::restore() const {
    const u8* from = statics_.data();
    for (const StaticObject& object : kernel_statics()) {
        std::memcpy(object.at, from, object.size);
        from += object.size;
    }
    for (const Frame& frame : frames_)
        if (!frame.table || (frame_state_of(frame.pfn) & frame_state::dirty))
            std::memcpy(ram_at(u64{frame.pfn} << kPageShift), frame.bytes.data(), kPageSize);
    // Frames that were junk become junk again: DEBUG checks the contents of frames that it allocates.
    for (u32 pfn = 0; pfn < saved_.size(); ++pfn)
        if ((frame_state_of(pfn) & frame_state::dirty) != 0 && saved_[pfn] == 0) ram_make_junk(pfn);
    std::memcpy(&frame_state_of(0), states_.data(), states_.size());
    machine().rewind(online_, roots_);
}

} // namespace loft::sim
