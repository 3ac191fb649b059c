// From a number to a frame, for as many as there are: the index itself lies in high memory.
//
// One frame holds the numbers of 1024 frames. Up to that many, it is the index; beyond, one more frame on top holds the
// numbers of those. Frame number 0 is nobody's, so it says "none". The words are reached through local maps.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "mm/frames/page_alloc.hpp"

namespace loft {

class PageIndex : NotCopyable<PageIndex> {
  public:
    static constexpr u32 kPerFrame = kPageSize / 4;
    static constexpr u32 kMaxPages = kPerFrame * kPerFrame;

    explicit PageIndex(u32 pages) : deep_{pages > kPerFrame} {}

    // Under the owner's lock; any context but NMI, at most one local slot.
    Page* find(u32 number) const; // null: none
    // False: no memory for the index; nothing is different. There is none under this number yet.
    [[nodiscard]] bool insert(u32 number, Page* page);
    // visit(Page*) for each frame, in order; then the index is empty, and its own frames are free.
    template <typename F> void clear(F&& visit);

  private:
    static Page* load(Page* frame, u32 at);
    static void store(Page* frame, u32 at, Page* page);
    template <typename F> static void clear_leaf(Page* leaf, F&& visit);

    bool deep_;
    Page* top_ = nullptr; // a leaf, or the frame above them
};

template <typename F> void PageIndex::clear_leaf(Page* leaf, F&& visit) {
    for (u32 i = 0; i < kPerFrame; ++i)
        if (Page* page = load(leaf, i)) visit(page);
    free_page(leaf);
}

template <typename F> void PageIndex::clear(F&& visit) {
    if (top_ == nullptr) return;
    if (deep_) {
        for (u32 i = 0; i < kPerFrame; ++i)
            if (Page* leaf = load(top_, i)) clear_leaf(leaf, visit);
        free_page(top_);
    } else {
        clear_leaf(top_, visit);
    }
    top_ = nullptr;
}

} // namespace loft
