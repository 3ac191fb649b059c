// The index of pages. Contract: page_index.hpp.
#include "mm/cache/page_index.hpp"

#include "mm/windows/highmem.hpp"

namespace loft {

Page* PageIndex::load(Page* frame, u32 at) {
    LocalMap map{frame};
    const u32 pfn = hal::load<u32>(map.addr() + at * 4);
    return pfn != 0 ? pfn_to_page(Pfn{pfn}) : nullptr;
}

void PageIndex::store(Page* frame, u32 at, Page* page) {
    LocalMap map{frame};
    hal::store<u32>(map.addr() + at * 4, page_to_pfn(page).value());
}

Page* PageIndex::find(u32 number) const {
    Page* leaf = top_;
    if (deep_ && leaf != nullptr) leaf = load(leaf, number / kPerFrame);
    return leaf != nullptr ? load(leaf, number % kPerFrame) : nullptr;
}

bool PageIndex::insert(u32 number, Page* page) {
    LOFT_ASSERT(number < (deep_ ? kMaxPages : kPerFrame));
    const auto new_frame = [] {
        Page* frame = alloc_page(Gfp::user);
        if (frame != nullptr) clear_highpage(frame);
        return frame;
    };
    Page* leaf = deep_ && top_ != nullptr ? load(top_, number / kPerFrame) : top_;
    if (leaf == nullptr) {
        leaf = new_frame();
        if (leaf == nullptr) return false;
        if (deep_) {
            if (top_ == nullptr) top_ = new_frame();
            if (top_ == nullptr) {
                free_page(leaf);
                return false;
            }
            store(top_, number / kPerFrame, leaf);
        } else {
            top_ = leaf;
        }
    }
    store(leaf, number % kPerFrame, page);
    return true;
}

} // namespace loft
