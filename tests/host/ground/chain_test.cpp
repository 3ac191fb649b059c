// Chain against std::deque: the same elements in the same order after any sequence of calls.
#include "arch/base/chain.hpp"
#include "tests/host/booted.hpp"

#include <algorithm>
#include <array>
#include <deque>
#include <random>

using namespace loft;

namespace {

struct Item {
    Item* next = nullptr;
    u32 key = 0;
};
using List = Chain<Item, &Item::next>;

void is_like(const List& list, const std::deque<Item*>& model) {
    REQUIRE(list.empty() == model.empty());
    REQUIRE(list.first() == (model.empty() ? nullptr : model.front()));
    std::size_t at = 0;
    list.each([&](Item& item) {
        REQUIRE(at < model.size());
        REQUIRE(&item == model[at++]);
        return true;
    });
    REQUIRE(at == model.size());
}

} // namespace

TEST_CASE("chain: any sequence of calls, as a deque does it", "[chain]") {
    std::mt19937 random{1};
    std::array<Item, 6> items;
    List list;
    std::deque<Item*> model;
    for (u32 round = 0; round < 20'000; ++round) {
        Item& item = items[random() % items.size()];
        const auto place = std::find(model.begin(), model.end(), &item);
        const bool in = place != model.end();
        switch (random() % 6) {
        case 0:
            if (!in) list.push_back(item), model.push_back(&item);
            break;
        case 1:
            if (!in) list.push_front(item), model.push_front(&item);
            break;
        case 2: {
            Item* const first = list.pop_front();
            REQUIRE(first == (model.empty() ? nullptr : model.front()));
            if (!model.empty()) model.pop_front();
            break;
        }
        case 3:
            if (in && random() % 2 == 0)
                list.remove(item);
            else if (in)
                REQUIRE(list.remove_if_there(item));
            else if (random() % 2 == 0)
                REQUIRE_FALSE(list.remove_if_there(item));
            else
                REQUIRE_THROWS_AS(list.remove(item), sim::Panic);
            if (in) model.erase(place);
            break;
        case 4: {
            // Before the first element with a larger key: a sorted chain stays sorted.
            if (in) break;
            item.key = random() % 4;
            const auto is_after = [&](const Item& other) { return other.key > item.key; };
            model.insert(std::find_if(model.begin(), model.end(), [&](Item* other) { return is_after(*other); }),
                         &item);
            list.insert(item, is_after);
            break;
        }
        default: {
            // The visitor removes what it likes, and ends when it likes.
            const u32 key = random() % 4, visits = random() % items.size();
            u32 left = visits;
            const bool all = list.each([&](Item& one) {
                if (left-- == 0) return false;
                if (one.key == key) {
                    list.remove(one);
                    model.erase(std::find(model.begin(), model.end(), &one));
                }
                return true;
            });
            if (all) REQUIRE(left <= visits);
        }
        }
        is_like(list, model);
    }
}
