// Swap areas. Contract: swap_area.hpp.
#include "mm/cache/swap_area.hpp"

#include "mm/ground/context.hpp"
#include "mm/windows/highmem.hpp"

#include <algorithm>
#include <string_view>

namespace loft {
namespace {

Cache<SwapArea> swap_cache{"swap_area", Gfp::kernel};
constinit hal::Atomic<u32> pages_in{near_wrap<u32>()}, pages_out{near_wrap<u32>()}; // of all areas

// The header of mkswap(8), version 1.
constexpr std::string_view kSignature = "SWAPSPACE2";
constexpr u32 kSignatureAt = kPageSize - 10, kVersionAt = 1024, kLastAt = 1028, kBadCountAt = 1032, kBadAt = 1536;
constexpr u32 kMostBad = (kSignatureAt - kBadAt) / 4;

u32 word_at(Page* page, u32 offset) {
    u32 word = 0;
    memcpy_from_page(&word, page, offset, sizeof word);
    return word;
}

void set_word(Page* page, u32 offset, u32 word) { memcpy_to_page(page, offset, &word, sizeof word); }

// A frame with numbers of frames at its begin, and these frames.
void free_table(Page* table, u32 most) {
    if (table == nullptr) return;
    for (u32 i = 0; i < most; ++i)
        if (const u32 number = word_at(table, i * 4)) free_page(pfn_to_page(Pfn{number}));
    free_page(table);
}

Result<Page*> header_of(BlockDevice& disk) {
    Page* const header = alloc_page(Gfp::kernel);
    if (header == nullptr) return Error::no_memory;
    BlockRequest read{BlockOp::read, 0};
    LOFT_ASSERT(read.add(header, 0, kPageSize));
    const Status status = disk.run(read);
    if (status) return header;
    free_page(header);
    return status.error();
}

// The number of pages, with the header. 0: it is no header, or does not fit the disk.
u32 pages_by(Page* header, u64 disk_bytes) {
    char signature[kSignature.size()];
    memcpy_from_page(signature, header, kSignatureAt, sizeof signature);
    if (std::string_view{signature, sizeof signature} != kSignature || word_at(header, kVersionAt) != 1) return 0;
    const u32 last = word_at(header, kLastAt);
    if (last == 0 || u64{last} >= disk_bytes >> kPageShift || word_at(header, kBadCountAt) > kMostBad) return 0;
    return last + 1;
}

} // namespace

constinit SpinLock SwapArea::lock_{LockRank::last};
constinit SwapArea* SwapArea::area_[kMost]{};
constinit u32 SwapArea::next_ = 0;

// --- Counts of users.

bool SwapArea::make_counts() {
    counts_ = alloc_page(Gfp::high);
    if (counts_ == nullptr) return false;
    clear_highpage(counts_);
    for (u32 i = 0; i < (end_ + kPerFrame - 1) / kPerFrame; ++i) {
        Page* const frame = alloc_page(Gfp::high);
        if (frame == nullptr) return false;
        clear_highpage(frame);
        set_word(counts_, i * 4, page_to_pfn(frame).value());
        set_word(counts_, free_at(i * kPerFrame), std::min(kPerFrame, end_ - i * kPerFrame));
    }
    return true;
}

Status SwapArea::look_up(SwapFile& file) {
    sectors_ = alloc_page(Gfp::high);
    if (sectors_ == nullptr) return Error::no_memory;
    clear_highpage(sectors_);
    Page* frame = nullptr;
    for (u32 page = 0; page < end_; ++page) {
        const u32 at = page % kSectorsPerFrame * 4;
        if (at == 0) {
            frame = alloc_page(Gfp::high);
            if (frame == nullptr) return Error::no_memory;
            set_word(sectors_, page / kSectorsPerFrame * 4, page_to_pfn(frame).value());
        }
        const Result<u32> sector = file.sector_of(page);
        if (!sector) return sector.error();
        set_word(frame, at, *sector);
        if (page == 0 || *sector != SwapFile::kScattered) continue;
        SpinGuard guard{lock_};
        mark_bad(page);
        free_.store(usable_);
    }
    return {};
}

u64 SwapArea::sector_of(u32 page) const {
    if (file_ == nullptr) return DiskObject::sector_of(page);
    return word_at(pfn_to_page(Pfn{word_at(sectors_, page / kSectorsPerFrame * 4)}), page % kSectorsPerFrame * 4);
}

// The header has so many pages; those from end_ on are not used. False: a number is not that of a page.
bool SwapArea::mark_bad(Page* header, u32 pages) {
    SpinGuard guard{lock_};
    set_count(0, kNoUse);
    usable_ = end_ - 1;
    for (u32 i = 0; i < word_at(header, kBadCountAt); ++i) {
        const u32 slot = word_at(header, kBadAt + i * 4);
        if (slot == 0 || slot >= pages) return false;
        if (slot >= end_) continue;
        mark_bad(slot);
    }
    free_.store(usable_);
    return true;
}

void SwapArea::mark_bad(u32 slot) {
    usable_ -= count(slot) != kNoUse;
    set_count(slot, kNoUse);
}

Page* SwapArea::frame_of_counts(u32 slot) const { return pfn_to_page(Pfn{word_at(counts_, slot / kPerFrame * 4)}); }

u32 SwapArea::count(u32 slot) const {
    u16 users = 0;
    memcpy_from_page(&users, frame_of_counts(slot), slot % kPerFrame * 2, sizeof users);
    return users;
}

void SwapArea::set_count(u32 slot, u32 users) {
    const bool was_free = count(slot) == 0;
    if (was_free != (users == 0))
        set_word(counts_, free_at(slot), word_at(counts_, free_at(slot)) + (was_free ? -1u : 1));
    const u16 value = static_cast<u16>(users);
    memcpy_to_page(frame_of_counts(slot), slot % kPerFrame * 2, &value, sizeof value);
}

u32 SwapArea::take() {
    if (closed_.load() != 0 || free_.load() == 0) return 0;
    // The first frame may be looked at twice: from the hand on, and up to it.
    for (u32 looks = 0; looks <= (end_ + kPerFrame - 1) / kPerFrame; ++looks) {
        const u32 end = std::min(end_, (hand_ / kPerFrame + 1) * kPerFrame);
        const u32 slot = free_in(hand_, end);
        hand_ = slot != 0 ? slot + 1 : end;
        if (hand_ == end_) hand_ = 1;
        if (slot == 0) continue;
        set_count(slot, 1);
        free_.fetch_sub(1);
        return slot;
    }
    return 0;
}

// The first free slot of [first, end), whose counts are in one frame; 0: there is none.
u32 SwapArea::free_in(u32 first, u32 end) const {
    if (word_at(counts_, free_at(first)) == 0) return 0;
    const LocalMap map{frame_of_counts(first)};
    for (u32 slot = first; slot < end; ++slot)
        if (hal::load<u16>(map.addr() + slot % kPerFrame * 2) == 0) return slot;
    return 0;
}

bool SwapArea::try_add_user(u32 slot) {
    const u32 users = count(slot);
    if (users == 0 || users == kNoUse) return false;
    LOFT_ASSERT(users + 1 < kNoUse);
    set_count(slot, users + 1);
    return true;
}

void SwapArea::add_user(u32 slot) {
    SpinGuard guard{lock_};
    LOFT_ASSERT(try_add_user(slot));
}

bool SwapArea::remove_user(u32 slot) {
    const u32 users = count(slot);
    LOFT_ASSERT(users != 0 && users != kNoUse);
    set_count(slot, users == 1 ? kNoUse : users - 1);
    return users == 1;
}

void SwapArea::put_user(u32 slot) {
    bool last = false;
    {
        SpinGuard guard{lock_};
        last = remove_user(slot);
    }
    if (last) empty_slot(slot);
}

// Nobody finds the page by the slot any more; the slot is not free yet, so nobody gives it another page.
void SwapArea::empty_slot(u32 slot) {
    Page* const page = take_out(slot);
    {
        SpinGuard guard{lock_};
        if (page != nullptr) page->set_payload(0);
        set_count(slot, 0);
        free_.fetch_add(1);
    }
    if (page != nullptr) put_page(page);
}

bool SwapArea::keep(u32 slot, Page* page) {
    {
        SpinGuard guard{lock_};
        if (page->payload() != 0) return false;
        page->set_payload(payload_of(slot)); // before add: another space that has the page makes no second slot for it
    }
    if (add(slot, page)) return true;
    SpinGuard guard{lock_};
    page->set_payload(0);
    return false;
}

bool SwapArea::claim(u32 slot, Page* page, u32 mine) {
    bool last = false;
    {
        SpinGuard guard{lock_};
        page->set_payload(payload_of(slot)); // of a page that was filled
        last = remove_user(slot);
    }
    if (!last) return false;
    empty_slot(slot);
    return page->refs() == mine;
}

void SwapArea::set_closed(bool closed) {
    SpinGuard guard{lock_}; // whoever has seen that it is open has the slot, and free_ says so
    if (closed)
        closed_.fetch_or(kByCaller);
    else
        closed_.fetch_and(~u32{kByCaller});
}

SwapSlot SwapArea::join(Page* page) {
    SwapSlot place;
    SwapArea* area = nullptr;
    {
        SpinGuard guard{lock_};
        place = SwapSlot::unpacked(page->payload());
        if (place.empty()) return {};
        area = area_[place.area];
        if (area == nullptr || area->closed_.load() != 0 || !area->try_add_user(place.slot)) return {};
    }
    // The page may not be in the cache yet: a fault would not find it, and read the slot.
    if (area->holds(place.slot, page)) return place;
    area->put_user(place.slot);
    return {};
}

// --- Areas.

SwapArea* SwapArea::of_disk(const BlockDevice& disk) {
    SpinGuard guard{lock_};
    for (SwapArea* const area : area_)
        if (area != nullptr && area->file_ == nullptr && &area->disk() == &disk) return area;
    return nullptr;
}

SwapArea* SwapArea::of_file(const MemoryObject& file) {
    SpinGuard guard{lock_};
    for (SwapArea* const area : area_)
        if (area != nullptr && area->file_ == &file) return area;
    return nullptr;
}

SwapArea& SwapArea::of(SwapSlot slot) {
    SpinGuard guard{lock_};
    return *area_[slot.area];
}

SwapSlot SwapArea::take_slot() {
    SpinGuard guard{lock_};
    for (u32 looks = 0; looks < kMost; ++looks) {
        const u32 number = next_;
        next_ = (next_ + 1) % kMost;
        SwapArea* const area = area_[number];
        const u32 slot = area != nullptr ? area->take() : 0;
        if (slot != 0) return {number, slot};
    }
    return {};
}

Result<SwapArea*> SwapArea::open(BlockDevice& disk, SwapFile* file) {
    might_sleep("a new swap area");
    MemoryObject* const object = file != nullptr ? &file->object() : nullptr;
    if (file != nullptr && file->pages() == 0) return Error::invalid;
    const Result<Page*> read = file != nullptr ? object->page(0) : header_of(disk);
    if (!read) return read.error();
    Page* const header = *read;
    const u32 pages =
        pages_by(header, file != nullptr ? u64{file->pages()} << kPageShift : disk.sectors() << kSectorShift);
    Status status = pages != 0 ? Status{} : Error::invalid;
    SwapArea* area = status ? swap_cache.make(disk, std::min(pages, kMostSlots), object) : nullptr;
    if (status && area == nullptr) status = Error::no_memory;
    if (status && !area->make_counts()) status = Error::no_memory;
    if (status && !area->mark_bad(header, pages)) status = Error::invalid;
    if (status && file != nullptr) status = area->look_up(*file);
    // As on Linux: a disk has bad pages, a file has none.
    const bool has_bad_ones = file != nullptr && word_at(header, kBadCountAt) != 0;
    if (status && (has_bad_ones || area->usable_ == 0)) status = Error::invalid;
    put_page(header);
    if (status) {
        SpinGuard guard{lock_};
        u32 number = kMost;
        for (u32 i = 0; i < kMost; ++i) {
            if (area_[i] == nullptr)
                number = std::min(number, i);
            else if (area_[i]->file_ == object && &area_[i]->disk() == &disk)
                status = Error::busy;
        }
        if (status && number == kMost) status = Error::no_space;
        if (status) {
            area->number_ = number;
            area_[number] = area;
        }
    }
    if (status) return area;
    if (area != nullptr) area->put();
    return status.error();
}

void SwapArea::remove() {
    static_cast<void>(write_back()); // nothing is dirty: it waits for a store that is under way
    {
        SpinGuard guard{lock_};
        area_[number_] = nullptr;
    }
    put();
}

Status SwapArea::fill(u32 first, std::span<Page* const> frames) {
    const Status status = DiskObject::fill(first, frames);
    if (status) pages_in.fetch_add(static_cast<u32>(frames.size()));
    return status;
}

Status SwapArea::store(u32 first, std::span<Page* const> frames) {
    const Status status = DiskObject::store(first, frames);
    if (status) pages_out.fetch_add(static_cast<u32>(frames.size()));
    if (status || status.error() != Error::gone) return status;
    if ((closed_.fetch_or(kGone) & kGone) == 0)
        log(LogLevel::error, "swap", "{}: gone, nothing is swapped out to it any more", disk().name());
    return Error::io; // it is the only place of the pages: they stay dirty, and so in memory
}

void SwapArea::destroy() {
    free_table(counts_, kMostFrames);
    free_table(sectors_, kPageSize / 4);
    swap_cache.destroy(this);
}

SwapStats swap_stats() {
    SwapStats stats{.in = pages_in.load(), .out = pages_out.load()};
    SpinGuard guard{SwapArea::lock_};
    for (const SwapArea* area : SwapArea::area_)
        if (area != nullptr) {
            stats.slots += area->slots();
            stats.free += area->closed_.load() == 0 ? area->free_slots() : 0;
        }
    return stats;
}

template <typename F> void SwapArea::each(F&& visit) {
    for (SwapArea*& at : area_) {
        SwapArea* area = nullptr;
        {
            SpinGuard guard{lock_};
            if (at != nullptr && at->get_if_used()) area = at;
        }
        if (area == nullptr) continue;
        visit(*area);
        area->put();
    }
}

u32 free_swapped_pages(ZoneSet zones) {
    u32 dropped = 0;
    SwapArea::each([&](SwapArea& area) {
        static_cast<void>(area.write_back()); // what cannot be written stays dirty
        dropped += area.drop(0, PageIndex::kMaxPages, zones);
    });
    return dropped;
}

bool swap_cache_is_mapped() {
    bool mapped = false;
    SwapArea::each([&](SwapArea& area) { mapped = mapped || area.is_mapped(); });
    return mapped;
}

void swap_area_init() {
    swap_cache.reset();
    SpinGuard guard{SwapArea::lock_};
    std::fill(std::begin(SwapArea::area_), std::end(SwapArea::area_), nullptr);
    SwapArea::next_ = 0;
}

} // namespace loft
