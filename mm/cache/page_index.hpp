// An index from page numbers to frames, with seven bits of state for each page. It lies in frames of its own, from high
// memory first.
//
// A tree of frames: a leaf has a word for each of 1024 pages, an inner frame the numbers of 1024 frames of the level
// below. It is as high as its greatest number needs, up to three levels. A word holds a frame number in bits 0-23 and,
// in a leaf, the state of the page in bits 24-30; 0 means "none", as frame 0 is never used. With bit 31 set, bits 0-23
// of a word in a leaf are a swap slot: the page is not in memory (mm/cache/swap_area.hpp). The payload of a frame's
// descriptor counts its words that are not 0; a frame without any is freed. The words are accessed by local maps.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/windows/highmem.hpp"

#include <algorithm>

namespace loft {

class PageIndex : NotCopyable<PageIndex> {
  public:
    static constexpr u32 kPerFrame = kPageSize / 4;
    static constexpr u32 kLevels = 3;
    static constexpr u32 kMaxPages = 1u << 30; // numbers are below this: 4 TiB

    struct Entry {
        Page* page = nullptr;
        u8 state = 0;
        u32 slot = 0; // SwapSlot::packed of the page that is not in memory; 0: none. Then page and state are 0
    };

    // All calls: the caller holds the owner's lock; any context but NMI; at most one local slot, and two in each() if
    // the visitor uses one.

    Entry find(u32 number) const; // page null: none
    // Inserts `page`; no page has this number yet. False: no memory for the index, which is unchanged. `from_reserve`:
    // if programs can have none, the kernel's is taken; memory is freed then.
    [[nodiscard]] bool insert(u32 number, Page* page, u8 state = 0, bool from_reserve = false);
    // Changes the state of a page that is there.
    void set_state(u32 number, u8 state);
    // Puts a page, or a slot, in the place of the page or slot that is there. Needs no memory.
    void replace(u32 number, const Entry& by);
    // Removes a page or slot that is there, and returns the page. Frees the frames of the index that are not needed any
    // more.
    Page* remove(u32 number);
    // Calls visit(number, Entry&) for each page and slot in [begin, end), in order; ends, and returns false, if the
    // visitor does. It may change the state of its entry, but not the index, and must not sleep. Cost: one local map
    // for each frame of the index on the way.
    template <typename F> bool each(u32 begin, u32 end, F&& visit);
    // Removes all pages from `begin` on, where no slots are, after visit(Page*) of each, in order.
    template <typename F> void clear(F&& visit, u32 begin = 0);

    u32 pages() const { return pages_; } // and slots

  private:
    static constexpr u32 kStateShift = 24, kPfnMask = (1u << kStateShift) - 1;
    static constexpr u32 kIsSlot = 1u << 31, kStateMask = ~kPfnMask & ~kIsSlot;
    static constexpr u32 span_of(u32 level) { return 1u << (10 * level); } // pages below one word; level 0: a leaf

    static u32 load(Page* frame, u32 at) {
        const LocalMap map{frame};
        return hal::load<u32>(map.addr() + at * 4);
    }
    static void store(Page* frame, u32 at, u32 word); // also counts
    static Page* frame_of(u32 word) { return (word & kPfnMask) != 0 ? pfn_to_page(Pfn{word & kPfnMask}) : nullptr; }
    static u32 at(u32 number, u32 level) { return number / span_of(level) % kPerFrame; }

    static Entry entry_of(u32 word) { // not 0
        if ((word & kIsSlot) != 0) [[unlikely]]
            return {.slot = word & kPfnMask};
        return {pfn_to_page(Pfn{word & kPfnMask}), static_cast<u8>(word >> kStateShift)};
    }
    static u32 word_of(const Entry& entry) {
        if (entry.page == nullptr) return entry.slot | kIsSlot;
        return page_to_pfn(entry.page).value() | u32{entry.state} << kStateShift;
    }

    bool covers(u32 number) const { return levels_ != 0 && number >> (10 * levels_) == 0; }
    // The leaf for a number that the tree covers; null: none. `next`: the first number that is not in this leaf, or, if
    // there is none, in the range without leaves around the number.
    Page* leaf_of(u32 number, u32& next) const {
        Page* frame = top_;
        u32 level = levels_;
        while (level > 1 && frame != nullptr)
            frame = frame_of(load(frame, at(number, --level)));
        const u32 span = frame != nullptr ? kPerFrame : span_of(level);
        next = round_down(number, span) + span;
        return frame;
    }
    bool grow(u32 number, bool from_reserve); // until it covers the number
    void prune(u32 number);                   // frees empty frames on the way to the number

    u32 levels_ = 0; // 0: no frame
    u32 pages_ = 0;
    Page* top_ = nullptr;
};

template <typename F> bool PageIndex::each(u32 begin, u32 end, F&& visit) {
    while (begin < end && covers(begin)) {
        u32 next = 0;
        if (Page* const leaf = leaf_of(begin, next)) {
            const LocalMap map{leaf};
            u32 left = leaf->payload(); // so many pages can follow, at most
            const u32 stop = std::min(next, end);
            VirtAddr at = map.addr() + begin % kPerFrame * 4;
            for (u32 number = begin; left != 0 && number < stop; ++number, at = at + 4) {
                const u32 word = hal::load<u32>(at);
                if (word == 0) continue;
                --left;
                Entry entry = entry_of(word);
                const u8 before = entry.state;
                const bool more = visit(number, entry);
                if (entry.state != before) hal::store<u32>(at, (word & ~kStateMask) | u32{entry.state} << kStateShift);
                if (!more) return false;
            }
        }
        begin = next;
    }
    return true;
}

template <typename F> void PageIndex::clear(F&& visit, u32 begin) {
    while (covers(begin)) {
        u32 next = 0;
        if (Page* const leaf = leaf_of(begin, next)) {
            u32 gone = 0;
            {
                const LocalMap map{leaf};
                for (u32 at = begin % kPerFrame; at < kPerFrame && gone < leaf->payload(); ++at) {
                    const u32 word = hal::load<u32>(map.addr() + at * 4);
                    if (word == 0) continue;
                    hal::store<u32>(map.addr() + at * 4, 0);
                    ++gone;
                    visit(frame_of(word));
                }
            }
            leaf->set_payload(leaf->payload() - gone);
            pages_ -= gone;
            prune(begin);
        }
        begin = next;
    }
}

} // namespace loft
