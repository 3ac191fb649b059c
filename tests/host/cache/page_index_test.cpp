// The index of pages, against a map of the host.
#include "mm/cache/page_index.hpp"
#include "tests/host/booted.hpp"

#include <map>
#include <random>

using namespace loft;
using namespace loft::test;

namespace {

using Model = std::map<u32, std::pair<Page*, u8>>;

Model contents(PageIndex& index, u32 begin = 0, u32 end = PageIndex::kMaxPages) {
    Model all;
    u32 last = 0;
    index.each(begin, end, [&](u32 number, PageIndex::Entry& entry) {
        CHECK((all.empty() || number > last));
        last = number;
        all[number] = {entry.page, entry.state};
        return true;
    });
    return all;
}

// A frame's descriptor is all that the index needs of a page.
Page* page_of(u32 i) { return pfn_to_page(Pfn{100 + i}); }

} // namespace

TEST_CASE("page index: numbers of all sizes, against a map", "[index]") {
    Booted kernel;
    const Books before = books();
    std::mt19937 random{5};
    for (const u32 most : {PageIndex::kPerFrame, PageIndex::kPerFrame * PageIndex::kPerFrame, PageIndex::kMaxPages}) {
        PageIndex index;
        Model model;
        for (u32 round = 0; round < 3000; ++round) {
            // Numbers come in groups, and include the last one.
            const u32 number = random() % 16 == 0 ? most - 1 - random() % 4 : random() % 8 * (most / 8) + random() % 64;
            const auto known = model.find(number);
            const PageIndex::Entry found = index.find(number);
            CHECK(found.page == (known != model.end() ? known->second.first : nullptr));
            if (known == model.end()) {
                model[number] = {page_of(round), static_cast<u8>(random() % 128)};
                REQUIRE(index.insert(number, model[number].first, model[number].second));
            } else if (random() % 2 == 0) {
                CHECK(found.state == known->second.second);
                index.set_state(number, known->second.second = static_cast<u8>(random() % 128));
            } else if (random() % 4 == 0) { // it is in a swap area for a moment
                const u32 slot = random() % (1u << 24) | 1;
                index.replace(number, {.slot = slot});
                CHECK(index.find(number).page == nullptr);
                CHECK(index.find(number).slot == slot);
                index.each(number, number + 1, [&](u32, PageIndex::Entry& entry) {
                    CHECK(entry.page == nullptr);
                    CHECK(entry.slot == slot);
                    CHECK(entry.state == 0);
                    return true;
                });
                if (random() % 2 == 0) {
                    CHECK(index.remove(number) == nullptr);
                    model.erase(known);
                } else {
                    index.replace(number, {known->second.first, known->second.second});
                }
            } else {
                CHECK(index.remove(number) == known->second.first);
                model.erase(known);
            }
            CHECK(index.pages() == model.size());
        }
        CHECK(contents(index) == model);
        CHECK(contents(index, 10, most / 2) == Model{model.lower_bound(10), model.lower_bound(most / 2)});
        index.each(0, most, [&](u32 number, PageIndex::Entry& entry) {
            entry.state = model[number].second = static_cast<u8>(number % 128);
            return true;
        });
        CHECK(contents(index) == model);
        // From the middle on, then one by one: the index needs no frame then.
        std::vector<Page*> gone;
        index.clear([&](Page* page) { gone.push_back(page); }, most / 2 + 3);
        for (auto it = model.lower_bound(most / 2 + 3); it != model.end(); it = model.erase(it)) {
            REQUIRE(!gone.empty());
            CHECK(gone.front() == it->second.first);
            gone.erase(gone.begin());
        }
        CHECK(gone.empty());
        CHECK(contents(index) == model);
        CHECK(index.pages() == model.size());
        for (const auto& [number, entry] : model)
            CHECK(index.remove(number) == entry.first);
        CHECK(books() == before);
    }
}

TEST_CASE("page index: it grows from few pages to many, and clear frees all", "[index]") {
    Booted kernel;
    const Books before = books();
    PageIndex index;
    Model model;
    for (const u32 number : {0u, 1023u, 1024u, 1'048'575u, 1'048'576u, PageIndex::kMaxPages - 1}) {
        model[number] = {page_of(number % 1000), 7};
        REQUIRE(index.insert(number, model[number].first, 7));
        CHECK(contents(index) == model);
        CHECK(index.find(PageIndex::kMaxPages - 2).page == nullptr);
    }
    u32 cleared = 0;
    index.clear([&](Page*) { ++cleared; });
    CHECK(cleared == 6);
    CHECK(index.pages() == 0);
    CHECK(books() == before);
}

TEST_CASE("page index: no memory for one of its frames", "[index][failure]") {
    Booted kernel;
    for (const u32 first : {0u, 5000u, 2'000'000u})
        for (const u32 second : {1u, 6000u, 3'000'000u, PageIndex::kMaxPages - 1}) {
            for (u32 fails = 0, tries_again = 0;; fails += tries_again, tries_again = 1 - tries_again) {
                const Books before = books();
                PageIndex index;
                REQUIRE(index.insert(first, page_of(1)));
                kernel.machine.fail_allocation(fails);
                const bool inserted = index.insert(second, page_of(2));
                const bool failed = kernel.machine.allocation_failed();
                kernel.machine.allow_allocations();
                CHECK(inserted == !failed);
                CHECK(index.find(first).page == page_of(1));
                CHECK(index.find(second).page == (inserted ? page_of(2) : nullptr));
                if (!inserted && tries_again) REQUIRE(index.insert(second, page_of(2)));
                index.clear([](Page*) {});
                CHECK(books() == before);
                if (!failed) break;
            }
        }
}
