// The buddy system. Contract: buddy.hpp.
#include "mm/frames/buddy.hpp"

#include <bit>

namespace loft {

void Buddy::init(Pfn begin, Pfn end) LOFT_UNCHECKED {
    lock.reset();
    begin_ = begin;
    end_ = end;
    free_.store(0);
    nonempty_ = 0;
    for (u32 order = 0; order <= kMaxOrder; ++order) {
        head_[order] = Pfn{};
        count_[order] = 0;
    }
}

void Buddy::link(Pfn pfn, u32 order) {
    const Pfn old = head_[order];
    pfn_to_page(pfn)->make_free(PageType::buddy, old, Pfn{}, order);
    if (old.value() != 0) pfn_to_page(old)->set_prev(pfn);
    head_[order] = pfn;
    ++count_[order];
    nonempty_ |= 1u << order;
}

void Buddy::unlink(Pfn pfn, u32 order) {
    Page* page = pfn_to_page(pfn);
    const Pfn next = page->next(), prev = page->prev();
    if (next.value() != 0) pfn_to_page(next)->set_prev(prev);
    if (prev.value() != 0)
        pfn_to_page(prev)->set_next(next);
    else
        head_[order] = next;
    page->make_none();
    if (--count_[order] == 0) nonempty_ &= ~(1u << order);
}

Pfn Buddy::take(u32 order) {
    const u32 fitting = nonempty_ >> order;
    if (fitting == 0) return Pfn{};
    u32 have = order + static_cast<u32>(std::countr_zero(fitting));
    const Pfn pfn = head_[have];
    unlink(pfn, have);
    // Splits the block: the upper half of each step stays free.
    while (have > order) {
        --have;
        link(pfn + (1u << have), have);
    }
    free_.add(0u - (1u << order));
    return pfn;
}

void Buddy::give(Pfn pfn, u32 order) {
    free_.add(1u << order);
    pfn_to_page(pfn)->make_none();
    while (order < kMaxOrder) {
        const Pfn other{pfn.value() ^ (1u << order)};
        if (other < begin_ || other + (1u << order) > end_) break;
        const Page* page = pfn_to_page(other);
        if (page->type() != PageType::buddy || page->order() != order) break;
        unlink(other, order);
        pfn = Pfn{pfn.value() & ~(1u << order)};
        ++order;
    }
    link(pfn, order);
}

void Buddy::verify() const {
    u32 frames = 0;
    for (u32 order = 0; order <= kMaxOrder; ++order) {
        u32 blocks = 0;
        Pfn prev{};
        for (Pfn pfn = head_[order]; pfn.value() != 0; pfn = pfn_to_page(pfn)->next()) {
            const Page* page = pfn_to_page(pfn);
            if (page->type() != PageType::buddy || page->order() != order || page->prev() != prev)
                panic("buddy: block {} in the list of order {} says type {}, order {}, previous {}", pfn, order,
                      static_cast<u32>(page->type()), page->order(), page->prev());
            if ((pfn.value() & ((1u << order) - 1)) != 0 || pfn < begin_ || pfn + (1u << order) > end_)
                panic("buddy: block {} of order {} is not aligned or not of this zone", pfn, order);
            const Pfn other{pfn.value() ^ (1u << order)};
            if (order < kMaxOrder && other >= begin_ && other + (1u << order) <= end_ &&
                pfn_to_page(other)->type() == PageType::buddy && pfn_to_page(other)->order() == order)
                panic("buddy: blocks {} and {} of order {} are free and not merged", pfn, other, order);
            prev = pfn;
            ++blocks;
        }
        if (blocks != count_[order] || (blocks != 0) != ((nonempty_ >> order & 1) != 0))
            panic("buddy: order {} has {} blocks, counted {}", order, blocks, count_[order]);
        frames += blocks << order;
    }
    if (frames != free_.load()) panic("buddy: {} frames in the lists, counted {}", frames, free_.load());
}

} // namespace loft
