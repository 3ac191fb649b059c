// Adding and flushing translations that a CPU may hold. Contract: may_set.hpp.
#include "tests/sim/may_set.hpp"

namespace loft::sim {
namespace {

// True if the entry of an old page table is valid; returns its translation.
bool read_old_table(const DirectoryResidual& directory, u32 index, const Features& features, Translation& out) {
    if ((frame_state_of(directory.table) & frame_state::ram) == 0) return false;
    const RawPte entry = *raw::cell(directory.table, index);
    if (!raw::present(entry) || raw::reserved(entry, false, features)) return false;
    out = raw::translation(entry, raw::frame(entry), directory.rights, features);
    return true;
}

template <typename Map, typename Keep> void keep_if(Map& lists, Keep&& keep) {
    for (auto it = lists.begin(); it != lists.end();) {
        std::erase_if(it->second, [&](const auto& residual) { return !keep(residual); });
        it = it->second.empty() ? lists.erase(it) : std::next(it);
    }
}

} // namespace

// Keeps a list short: with two different frames under the same rights, every access that these rights allow is stale
// already, and the same flushes remove both. A third one adds nothing.
void MaySet::add(std::vector<Residual>& list, const Residual& residual) {
    u32 alike = 0;
    for (const Residual& r : list) {
        if (r.translation == residual.translation) return;
        Translation moved = r.translation;
        moved.pfn = residual.translation.pfn;
        alike += moved == residual.translation;
    }
    if (alike < 2) list.push_back(residual);
}

void MaySet::add_large(u32 slot, const Residual& first) {
    std::vector<LargeResidual>& list = large_[slot];
    for (LargeResidual& r : list) {
        if (r.first.translation == first.translation) {
            r.left.set();
            return;
        }
    }
    list.push_back({first, {}});
    list.back().left.set();
}

void MaySet::add_directory(const DirectoryResidual& residual) {
    for (const DirectoryResidual& r : directories_)
        if (r.slot == residual.slot && r.table == residual.table && r.rights == residual.rights) return;
    directories_.push_back(residual);
}

// Before the old directory entries are flushed: keeps the page translations that were made through them.
void MaySet::settle_directories(const Features& features, u32 except_page) {
    for (const DirectoryResidual& d : directories_) {
        for (u32 i = 0; i < kSpan; ++i) {
            const u32 page = d.slot * kSpan + i;
            Translation t;
            if (page == except_page || !read_old_table(d, i, features, t)) continue;
            add_page(page, {t, d.changed});
        }
    }
    directories_.clear();
}

void MaySet::flush_page(u32 page, const Features& features) {
    settle_directories(features, page);
    pages_.erase(page);
    if (const auto it = large_.find(page / kSpan); it != large_.end()) {
        std::erase_if(it->second, [&](LargeResidual& r) { return r.left.reset(page % kSpan).none(); });
        if (it->second.empty()) large_.erase(it);
    }
}

void MaySet::flush_non_global(const Features& features) {
    settle_directories(features, ~0u);
    keep_if(pages_, [](const Residual& r) { return r.translation.global; });
    keep_if(large_, [](const LargeResidual& r) { return r.first.translation.global; });
}

void MaySet::flush_all() {
    pages_.clear();
    large_.clear();
    directories_.clear();
}

void MaySet::give_back(u32 pfn) {
    for (auto& [page, list] : pages_)
        for (Residual& r : list)
            r.given_back |= r.translation.pfn == pfn;
}

void MaySet::fault(u32 page) {
    const auto it = pages_.find(page);
    if (it == pages_.end()) return;
    std::erase_if(it->second, [](const Residual& r) { return !r.translation.global; });
    if (it->second.empty()) pages_.erase(it);
}

bool MaySet::knows(u32 page) const {
    return pages_.contains(page) || (!large_.empty() && large_.contains(page / kSpan)) || !directories_.empty();
}

std::vector<Residual> MaySet::of(u32 page, const Features& features) const {
    std::vector<Residual> all;
    if (const auto it = pages_.find(page); it != pages_.end()) all = it->second;
    if (const auto it = large_.find(page / kSpan); it != large_.end()) {
        for (const LargeResidual& r : it->second) {
            if (!r.left.test(page % kSpan)) continue;
            Residual fragment = r.first;
            fragment.translation.pfn += page % kSpan;
            all.push_back(fragment);
        }
    }
    for (const DirectoryResidual& d : directories_) {
        Translation t;
        if (d.slot == page / kSpan && read_old_table(d, page % kSpan, features, t)) all.push_back({t, d.changed});
    }
    return all;
}

} // namespace loft::sim
