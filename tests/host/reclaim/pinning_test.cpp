// A copy from a program faults a page in. What happens if all programs do that at once, memory is full, and swap is
// free? loft pins nothing while it copies. Beside it stands the design that pins the pages of the address space from
// before the fault until the copy is done: built here only, it runs out of memory while swap is free (Arcangeli on
// scalable kmap, 2002).
#include "mm/cache/swap_area.hpp"
#include "mm/reclaim/reclaim.hpp"
#include "mm/spaces/user_copy.hpp"
#include "tests/host/cache/test_file.hpp"
#include "tests/host/disk_tools.hpp"
#include "tests/host/oracle.hpp"

#include <optional>
#include <vector>

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kTasks = 8, kTaskPages = 64 * MiB / kPageSize / 4; // of small(): twice its memory

// A program that copies its pages to the kernel, one after the other.
class Task {
  public:
    explicit Task(u32 number) : number_{number}, target_{new_page()} {
        space_->set_use(SpaceUse::program);
        map_pages(*space_, kBase, kTaskPages);
        run_in(space_.get());
        for (u32 page = 0; page < kTaskPages; ++page)
            user_store(at(page), word_of(page));
        run_in(nullptr);
    }
    ~Task() {
        unpin();
        free_page(target_);
    }
    Task(Task&&) = delete;

    // The design that fails: from here on none of the pages that the space has leaves memory.
    void pin() {
        oracle_every_page(space_->root().value(), [this](u32 va, const Mapped&) {
            if (va < kBase || va >= kBase + kTaskPages * kPageSize) return;
            Page* page = nullptr;
            REQUIRE(get_user_pages(*space_, UserAddr{va}, 1, false, &page));
            pins_.push_back(page);
        });
    }
    void unpin() {
        for (Page* const page : pins_)
            put_page(page);
        pins_.clear();
    }

    // Copies the next page. `pins`: it stays, as the others. False: the copy has failed.
    bool copy_next(bool pins) {
        run_in(space_.get());
        faults += !oracle_walk(space_->root().value(), at(next_).value());
        const bool copied = copy_user_to_page(target_, 0, UserAddr{at(next_).value()}, kPageSize) == 0;
        if (copied) {
            u32 word = 0;
            memcpy_from_page(&word, target_, 0, sizeof word);
            CHECK(word == word_of(next_));
            Page* page = nullptr;
            if (pins && get_user_pages(*space_, UserAddr{at(next_).value()}, 1, false, &page)) pins_.push_back(page);
        }
        run_in(nullptr);
        ++next_;
        return copied;
    }

    u32 faults = 0; // pages that were not in memory

  private:
    u32 word_of(u32 page) const { return number_ << 24 | page; }

    const u32 number_;
    Page* const target_; // the page that the kernel copies to
    Owned space_;
    std::vector<Page*> pins_;
    u32 next_ = 0;
};

struct Outcome {
    u32 copies = 0; // that have succeeded
    u32 faults = 0; // of them and of the one that has failed
    u32 killed = 0; // how often a program was to be ended
    u32 swap_left = 0;
};

// All tasks are between begin and end of their copy at the same time.
Outcome all_tasks_copy(bool pins) {
    Booted kernel;
    sim::SimDisk disk{swap_disk(2 * kTasks * kTaskPages)};
    REQUIRE(disk.ready());
    warm_up();
    SwapArea* const area = *SwapArea::open(disk);
    Outcome outcome;
    {
        const OnProgramEnd hook{[&](AddressSpace&, const SpaceStats&) {
            ++outcome.killed;
            return ProgramEnd::own; // the copy ends
        }};
        std::vector<std::unique_ptr<Task>> tasks;
        for (u32 number = 0; number < kTasks; ++number)
            tasks.push_back(std::make_unique<Task>(number + 1));
        bool more = true;
        for (u32 round = 0; round < kTaskPages && more; ++round) {
            if (pins && round == 0)
                for (const auto& task : tasks)
                    task->pin();
            for (const auto& task : tasks) {
                more = more && task->copy_next(pins);
                outcome.copies += more;
            }
        }
        for (const auto& task : tasks)
            outcome.faults += task->faults;
        outcome.swap_left = area->free_slots();
    }
    area->remove();
    while (*write_back_one()) { // the list of dirty objects may have it still
    }
    return outcome;
}

} // namespace

TEST_CASE("pinning: every program faults a page in while it copies, memory full, swap free", "[pinning][long]") {
    const Outcome outcome = all_tasks_copy(false);
    CHECK(outcome.copies == kTasks * kTaskPages);
    CHECK(outcome.faults >= kTasks * kTaskPages / 2); // half of the pages are in swap
    CHECK(outcome.killed == 0);
}

TEST_CASE("pinning: the design that pins address spaces runs out of memory while swap is free", "[pinning]") {
    const Outcome outcome = all_tasks_copy(true);
    CHECK(outcome.copies < kTasks * kTaskPages / 8);
    CHECK(outcome.killed != 0);
    CHECK(outcome.swap_left > kTasks * kTaskPages);
}
