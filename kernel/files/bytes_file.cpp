// Files in the kernel's memory. Contract: bytes_file.hpp.
#include "kernel/files/bytes_file.hpp"

#include "mm/windows/highmem.hpp"

#include <algorithm>

namespace loft {

Status ModuleFile::fill(u32 first, std::span<Page* const> frames) {
    for (u32 i = 0; i < frames.size(); ++i)
        if (const Status status = fill_one(first + i, frames[i]); !status) return status;
    return {};
}

Status ModuleFile::fill_one(u32 number, Page* frame) {
    const u64 offset = u64{number} << kPageShift;
    const u32 here = static_cast<u32>(std::min<u64>(kPageSize, bytes() - offset));
    for (u32 done = 0; done < here;) {
        const PhysAddr at = begin_ + (offset + done);
        const u32 step = std::min(here - done, kPageSize - at.page_offset());
        if (at.value() >> kPageShift >= mem_map_count) return Error::out_of_reach;
        const LocalMap from{pfn_to_page(at.pfn())};
        const LocalMap to{frame};
        hal::copy_bytes(to.addr() + done, from.addr() + at.page_offset(), step);
        done += step;
    }
    memset_page(frame, here, 0, kPageSize - here);
    return {};
}

Status BytesFile::fill(u32 first, std::span<Page* const> frames) {
    for (u32 i = 0; i < frames.size(); ++i) {
        const u32 offset = (first + i) << kPageShift, here = std::min<u32>(kPageSize, data_.size() - offset);
        memcpy_to_page(frames[i], 0, data_.data() + offset, here);
        memset_page(frames[i], here, 0, kPageSize - here);
    }
    return {};
}

} // namespace loft
