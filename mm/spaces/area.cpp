// Areas: cutting, joining, finding holes. Contract: area.hpp.
#include "mm/spaces/area.hpp"

#include "mm/frames/slab.hpp"
#include "mm/ground/layout.hpp"

#include <algorithm>

namespace loft {
namespace {

Cache<UserArea> area_cache{"area", Gfp::user_low};

// True if two adjacent areas have equal attributes and consecutive pages of the same object, or no object.
bool can_join(const UserArea& a, const UserArea& b) {
    return a.end == b.begin && a.prot == b.prot && a.kind == b.kind && a.limit == b.limit && a.object == b.object &&
           a.may_write == b.may_write && a.locked == b.locked &&
           (a.object == nullptr || a.page_of(VirtAddr{a.end}) == b.first);
}

// The upper end of a hole below this area: the room for growth of a stack, and its gap, are no hole.
u32 bottom_of(const UserArea& area) {
    if (area.kind != MapKind::stack) return area.begin;
    return std::max(area.limit, layout::kUserBegin + kStackGap) - kStackGap;
}

} // namespace

AreaTree::Iterator AreaTree::first_above(u32 at) {
    Iterator it = set_.upper_bound(at);
    if (it != set_.begin()) {
        Iterator before = it;
        if ((--before)->end > at) return before;
    }
    return it;
}
AreaTree::Set::const_iterator AreaTree::first_above(u32 at) const {
    return const_cast<AreaTree*>(this)->first_above(at);
}

UserArea* AreaTree::make(const UserArea& what) {
    UserArea* area = area_cache.make();
    if (area == nullptr) return nullptr;
    area->begin = what.begin;
    area->end = what.end;
    area->prot = what.prot;
    area->kind = what.kind;
    area->limit = what.limit;
    area->object = what.object;
    area->first = what.first;
    area->may_write = what.may_write;
    area->locked = what.locked;
    return area;
}

void AreaTree::end(UserArea& area) {
    if (area.object != nullptr) area.object->put();
    area_cache.destroy(&area);
}

void AreaTree::insert(UserArea& area, const UserArea* from) {
    set_.insert(area);
    ++count_;
    area.space = &space_;
    if (area.is_linked()) area.object->link(area, from);
}

void AreaTree::add(UserArea& area, const UserArea* from) {
    insert(area, from);
    Iterator it = set_.iterator_to(area);
    join(it);
    if (it != set_.begin()) join(--it);
}

bool AreaTree::cut(u32 at) {
    const Iterator it = first_above(at);
    if (it == set_.end() || it->begin >= at) return true;
    UserArea& left = *it;
    UserArea* right = make(left);
    if (right == nullptr) return false;
    right->begin = at;
    right->first = left.page_of(VirtAddr{at});
    if (right->object != nullptr) right->object->get();
    left.end = at;
    insert(*right, &left);
    return true;
}

AreaTree::Iterator AreaTree::join(Iterator left) {
    const Iterator right = std::next(left);
    if (right == set_.end() || !can_join(*left, *right)) return left;
    if (left->is_linked()) left->object->join(*left, *right);
    left->end = right->end;
    take_out(*right);
    return left;
}

// Joins areas that touch the range or lie in it.
void AreaTree::join_around(PageRange range) {
    Iterator it = first_above(range.begin);
    if (it != set_.begin()) --it;
    while (it != set_.end() && it->begin <= range.end) {
        const u32 before = count_;
        it = join(it);
        if (count_ == before) ++it;
    }
}

bool AreaTree::isolate(PageRange range) {
    if (cut(range.begin) && cut(range.end)) return true;
    join_around({range.begin, range.begin});
    return false;
}

void AreaTree::take_out(UserArea& area) {
    set_.erase(set_.iterator_to(area));
    --count_;
    if (area.is_linked()) area.object->unlink(area);
    end(area);
}

void AreaTree::erase(PageRange range) {
    Iterator it = first_above(range.begin);
    while (it != set_.end() && it->begin < range.end)
        take_out(*it++);
    // The next search must find this hole: it starts at the upper end of the hole at least.
    search_from_ = std::max(search_from_, it == set_.end() ? layout::kUserEnd : bottom_of(*it));
}

void AreaTree::set_prot(PageRange range, Prot prot) {
    for (Iterator it = first_above(range.begin); it != set_.end() && it->begin < range.end; ++it)
        it->prot = prot;
    join_around(range);
}

UserArea* AreaTree::reach(VirtAddr va) {
    const u32 page = va.page().value();
    const Iterator it = first_above(va.value());
    if (it == set_.end()) return nullptr;
    if (it->begin <= page) return &*it;
    if (it->kind != MapKind::stack || page < it->limit) return nullptr;
    if (it != set_.begin() && std::prev(it)->end + kStackGap > page) return nullptr;
    it->begin = page; // the order of the areas in the tree does not change
    return &*it;
}

bool AreaTree::is_free(PageRange range) const {
    const auto it = first_above(range.begin);
    return it == set_.end() || bottom_of(*it) >= range.end;
}

bool AreaTree::is_mapped(PageRange range, bool& guard) const {
    guard = false;
    u32 at = range.begin;
    for (auto it = first_above(at); at < range.end; ++it) {
        if (it == set_.end() || it->begin > at) return false;
        guard |= it->kind == MapKind::guard;
        at = it->end;
    }
    return true;
}

// Searches downward from `from` for a hole of `bytes`; records the largest hole that was too small. 0: none found.
u32 AreaTree::scan_holes(u32 bytes, u32 from) {
    u32 top = from;
    for (auto it = set_.lower_bound(from);;) {
        u32 floor = layout::kUserBegin;
        if (it != set_.begin()) {
            --it;
            floor = std::max(floor, it->end);
            if (it->end > top) { // `from` lies in an area, or in a stack's room for growth
                top = std::min(top, bottom_of(*it));
                continue;
            }
        } else if (top < floor) {
            return 0;
        }
        if (top > floor && top - floor >= bytes) {
            search_from_ = top - bytes;
            return top - bytes;
        }
        if (top > floor) skipped_ = std::max(skipped_, top - floor);
        if (floor == layout::kUserBegin) return 0;
        top = std::min(top, bottom_of(*it));
    }
}

Result<u32> AreaTree::find_hole(u32 bytes) {
    if (bytes > skipped_) {
        if (const u32 at = scan_holes(bytes, search_from_)) return at;
    }
    // A full search from the top, which also computes skipped_ anew.
    skipped_ = 0;
    if (const u32 at = scan_holes(bytes, layout::kUserEnd)) return at;
    skipped_ = ~u32{0};
    return Error::no_space;
}

u32 areas_in_use() { return area_cache.stats().objects; }
void area_init() { area_cache.reset(); }

} // namespace loft
