// An index from page numbers to frames. It lies in frames of its own, from high memory first.
//
// A leaf frame holds the frame numbers of 1024 pages. Up to 1024 pages, one leaf is the index; beyond, a top frame
// holds the frame numbers of the leaves. Frame number 0 is never used and means "none". The words are accessed by local
// maps.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "mm/frames/page_alloc.hpp"

namespace loft {

class PageIndex : NotCopyable<PageIndex> {
  public:
    static constexpr u32 kPerFrame = kPageSize / 4;
    static constexpr u32 kMaxPages = kPerFrame * kPerFrame;

    explicit PageIndex(u32 pages) : deep_{pages > kPerFrame} {}

    // All calls: the caller holds the owner's lock; any context but NMI; at most one local slot.
    Page* find(u32 number) const; // null: none
    // Inserts `page`; no page has this number yet. False: no memory for the index, which is unchanged.
    [[nodiscard]] bool insert(u32 number, Page* page);
    // Calls visit(Page*) for each page, in order; then empties the index and frees its own frames.
    template <typename F> void clear(F&& visit);

  private:
    static Page* load(Page* frame, u32 at);
    static void store(Page* frame, u32 at, Page* page);
    template <typename F> static void clear_leaf(Page* leaf, F&& visit);

    bool deep_;
    Page* top_ = nullptr; // the only leaf, or the top frame
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
