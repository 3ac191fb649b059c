// The index of pages. Contract: page_index.hpp.
#include "mm/cache/page_index.hpp"

namespace loft {
namespace {

Page* new_frame(bool from_reserve) {
    Page* frame = alloc_page(Gfp::user);
    if (frame == nullptr && from_reserve) frame = alloc_page(Gfp::kernel);
    if (frame == nullptr) return nullptr;
    clear_highpage(frame);
    frame->set_payload(0);
    return frame;
}

} // namespace

void PageIndex::store(Page* frame, u32 at, u32 word) {
    const LocalMap map{frame};
    const bool was = hal::load<u32>(map.addr() + at * 4) != 0;
    hal::store<u32>(map.addr() + at * 4, word);
    frame->set_payload(frame->payload() - was + (word != 0));
}

PageIndex::Entry PageIndex::find(u32 number) const {
    u32 next = 0;
    Page* const leaf = !covers(number) ? nullptr : levels_ == 1 ? top_ : leaf_of(number, next);
    const u32 word = leaf != nullptr ? load(leaf, at(number, 0)) : 0;
    return word != 0 ? entry_of(word) : Entry{};
}

bool PageIndex::grow(u32 number, bool from_reserve) {
    while (!covers(number)) {
        if (levels_ == 0) { // no frame is needed before the leaf
            levels_ = number < kPerFrame ? 1 : number < kPerFrame * kPerFrame ? 2 : kLevels;
            top_ = new_frame(from_reserve);
            if (top_ != nullptr) return true;
            levels_ = 0;
            return false;
        }
        Page* const above = new_frame(from_reserve);
        if (above == nullptr) return false;
        store(above, 0, page_to_pfn(top_).value());
        top_ = above;
        ++levels_;
    }
    return true;
}

bool PageIndex::insert(u32 number, Page* page, u8 state, bool from_reserve) {
    LOFT_ASSERT(number < kMaxPages);
    bool made = grow(number, from_reserve);
    Page* frame = top_;
    for (u32 level = levels_; made && level > 1; --level) {
        const u32 word = load(frame, at(number, level - 1));
        Page* next = frame_of(word);
        if (next == nullptr) {
            next = new_frame(from_reserve);
            made = next != nullptr;
            if (made) store(frame, at(number, level - 1), page_to_pfn(next).value());
        }
        frame = next;
    }
    if (!made) {
        prune(number);
        return false;
    }
    LOFT_ASSERT(load(frame, at(number, 0)) == 0);
    store(frame, at(number, 0), word_of({page, state}));
    ++pages_;
    return true;
}

void PageIndex::set_state(u32 number, u8 state) {
    u32 next = 0;
    Page* const leaf = covers(number) ? leaf_of(number, next) : nullptr;
    LOFT_ASSERT(leaf != nullptr);
    const u32 word = load(leaf, at(number, 0));
    LOFT_ASSERT(word != 0);
    store(leaf, at(number, 0), (word & ~kStateMask) | u32{state} << kStateShift);
}

void PageIndex::replace(u32 number, const Entry& by) {
    u32 next = 0;
    Page* const leaf = covers(number) ? leaf_of(number, next) : nullptr;
    LOFT_ASSERT(leaf != nullptr && load(leaf, at(number, 0)) != 0 && (by.page != nullptr || by.slot != 0));
    store(leaf, at(number, 0), word_of(by));
}

Page* PageIndex::remove(u32 number) {
    const Entry entry = find(number);
    LOFT_ASSERT(entry.page != nullptr || entry.slot != 0);
    u32 next = 0;
    store(leaf_of(number, next), at(number, 0), 0);
    --pages_;
    prune(number);
    return entry.page;
}

void PageIndex::prune(u32 number) {
    // The frames on the way, the top first. A number that the tree does not cover has no way, but its top may be empty.
    Page* way[kLevels]{};
    u32 depth = 0;
    for (Page* frame = top_; frame != nullptr && depth < levels_;) {
        way[depth++] = frame;
        if (depth == levels_ || !covers(number)) break;
        frame = frame_of(load(frame, at(number, levels_ - depth)));
    }
    while (depth != 0 && way[depth - 1]->payload() == 0) {
        free_page(way[--depth]);
        if (depth != 0) {
            store(way[depth - 1], at(number, levels_ - depth), 0);
        } else {
            top_ = nullptr;
            levels_ = 0;
        }
    }
}

} // namespace loft
