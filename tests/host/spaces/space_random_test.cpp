// Random operations on address spaces on several CPUs, compared with a simple model: a std::map from page to contents.
//
// After each operation the oracle reads the tables: they equal the model, no page of a private area is writable in two
// spaces, and the counts are right. Every access goes through the TLBs of the simulated machine, so a missing flush
// throws an exception.
#include "mm/spaces/address_space.hpp"
#include "mm/spaces/user_copy.hpp"
#include "mm/tables/flush_clock.hpp"
#include "tests/host/oracle.hpp"
#include "tests/host/spaces/program.hpp"

#include <map>
#include <memory>

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kCpus = 3, kMostSpaces = 4;
// The pages of the test: around the border between two page tables, and a few far away.
constexpr u32 kWindow = 0x1000'0000 + paging::kLargeSize - 12 * kPageSize, kWindowPages = 24;

struct ModelPage {
    Prot prot = Prot::none;
    MapKind kind = MapKind::anonymous;
    u32 value = 0;
    std::shared_ptr<u32> shared{}; // shared memory: the contents, common to all spaces
    u32 get() const { return shared ? *shared : value; }
    void set(u32 now) { (shared ? *shared : value) = now; }
};

struct Member {
    Member() = default;
    Member(Owned owned, std::map<u32, ModelPage> pages) : space{std::move(owned)}, model{std::move(pages)} {}
    Owned space;
    std::map<u32, ModelPage> model; // by page number of the window
};

class Life {
  public:
    explicit Life(u32 seed) : random_{seed}, kernel_{small(kCpus)} {
        warm_up();
        before_ = books();
        members_.push_back(std::make_unique<Member>());
    }

    void step() {
        Member& m = *members_[below(random_, static_cast<u32>(members_.size()))];
        const CpuId cpu{below(random_, kCpus)};
        sim::on_cpu(cpu, [&] {
            wake();
            if (active_space() != m.space.get()) {
                if (below(random_, 3) == 0) run_in(nullptr); // a kernel thread runs for a while
                run_in(m.space.get());
            }
            switch (below(random_, 20)) {
            case 0:
            case 1:
                return map(m);
            case 2:
                return unmap(m);
            case 3:
            case 4:
                return protect(m);
            case 5:
                return fork(m);
            case 6:
                return end(m);
            case 7:
                return copy(m);
            case 8:
                return idle();
            default:
                return access(m);
            }
        });
        if (below(random_, 8) == 0)
            for (const auto& member : members_)
                check(*member);
    }

    void finish() {
        for (const auto& member : members_)
            check(*member);
        members_.clear();
        REQUIRE(page_table_stats().tables == 0);
        REQUIRE(books() == before_);
    }

  private:
    struct Part {
        u32 first, pages;
        VirtAddr begin() const { return VirtAddr{kWindow + first * kPageSize}; }
        u32 bytes() const { return pages * kPageSize; }
    };
    Part part() {
        const u32 first = below(random_, kWindowPages);
        return {first, 1 + below(random_, std::min(6u, kWindowPages - first))};
    }
    Prot some_prot() {
        constexpr Prot kProts[] = {Prot::none, kRead, kReadWrite, kReadWrite, kReadWrite, kAll};
        return kProts[below(random_, std::size(kProts))];
    }

    void map(Member& m) {
        const Part where = part();
        const MapKind kind = below(random_, 3) == 0   ? MapKind::shared
                             : below(random_, 8) == 0 ? MapKind::guard
                                                      : MapKind::anonymous;
        const Prot prot = some_prot();
        REQUIRE(m.space->map(where.begin(), where.bytes(), prot, kind, true));
        for (u32 i = where.first; i < where.first + where.pages; ++i)
            m.model[i] = {prot, kind, 0, kind == MapKind::shared ? std::make_shared<u32>(0) : nullptr};
    }
    void unmap(Member& m) {
        const Part where = part();
        REQUIRE(m.space->unmap(where.begin(), where.bytes()));
        for (u32 i = where.first; i < where.first + where.pages; ++i)
            m.model.erase(i);
    }
    void protect(Member& m) {
        const Part where = part();
        const Prot prot = some_prot();
        bool all = true, guard = false;
        for (u32 i = where.first; i < where.first + where.pages; ++i) {
            all &= m.model.contains(i);
            guard |= all && m.model.at(i).kind == MapKind::guard;
        }
        const Status status = m.space->protect(where.begin(), where.bytes(), prot);
        REQUIRE(static_cast<bool>(status) == (all && !guard));
        if (!status) return;
        for (u32 i = where.first; i < where.first + where.pages; ++i)
            m.model[i].prot = prot;
    }
    void fork(Member& m) {
        if (members_.size() == kMostSpaces) return;
        const Result<AddressSpace*> child = m.space->fork();
        REQUIRE(child);
        auto member = std::make_unique<Member>(Owned{*child}, m.model);
        members_.push_back(std::move(member));
    }
    void end(Member& m) {
        if (members_.size() == 1) return;
        std::erase_if(members_, [&](const auto& member) { return member.get() == &m; });
    }
    void idle() {
        run_in(nullptr);
        as_interrupt([] { tlb_enter_idle(); });
        // The next operation that runs on this CPU wakes it.
        idle_ = idle_.with(sim::machine().current());
    }
    void wake() {
        if (!idle_.has(sim::machine().current())) return;
        as_interrupt([] {});
        idle_ = idle_.without(sim::machine().current());
    }

    void access(Member& m) {
        const u32 i = below(random_, kWindowPages);
        const VirtAddr va{kWindow + i * kPageSize + 4 * below(random_, 2)};
        const bool write = below(random_, 2) != 0;
        const u32 value = static_cast<u32>(random_());
        const auto page = m.model.find(i);
        const bool there = page != m.model.end() && page->second.kind != MapKind::guard;
        const bool may = there && (write ? has(page->second.prot, Prot::write) : page->second.prot != Prot::none);
        const bool first_word = va.page_offset() == 0;
        try {
            if (write)
                user_store(va, value);
            else if (const u32 found = user_load(va); first_word)
                REQUIRE(found == page->second.get());
            REQUIRE(may);
            if (write && first_word) page->second.set(value);
        } catch (const Killed& killed) {
            REQUIRE_FALSE(may);
            REQUIRE(killed.why == (there ? FaultResult::no_access : FaultResult::bad_address));
        }
    }
    void copy(Member& m) {
        const u32 i = below(random_, kWindowPages);
        const u32 value = static_cast<u32>(random_());
        const auto page = m.model.find(i);
        const bool there = page != m.model.end() && page->second.kind != MapKind::guard;
        const UserAddr at{kWindow + i * kPageSize};
        u32 found = 0;
        const bool elsewhere = below(random_, 2) != 0;
        if (elsewhere) run_in(nullptr);
        const u32 unread = elsewhere ? read_space(*m.space, &found, at, 4) : copy_from_user(&found, at, 4);
        REQUIRE((unread == 0) == (there && page->second.prot != Prot::none));
        if (unread == 0) REQUIRE(found == page->second.get());
        const u32 unwritten = elsewhere ? write_space(*m.space, at, &value, 4) : copy_to_user(at, &value, 4);
        REQUIRE((unwritten == 0) == (there && has(page->second.prot, Prot::write)));
        if (unwritten == 0) page->second.set(value);
    }

    // Compares the tables with the model.
    void check(Member& m) {
        const u64 root = m.space->root().value();
        u32 tables = 0, present = 0, kept = 0;
        const auto look = [&](u32 va, const Mapped& page) {
            ++present;
            REQUIRE(page.user);
            REQUIRE((va >= kWindow && va < kWindow + kWindowPages * kPageSize));
            const auto it = m.model.find((va - kWindow) / kPageSize);
            REQUIRE(it != m.model.end());
            const ModelPage& model = it->second;
            REQUIRE(model.kind != MapKind::guard);
            REQUIRE(model.prot != Prot::none);
            if (page.write) REQUIRE(has(model.prot, Prot::write));
            if (config::kPae) REQUIRE(page.execute == has(model.prot, Prot::exec));
            REQUIRE(sim::peek<u32>(PhysAddr{page.phys}) == model.get());
            const Page* frame = pfn_to_page(PhysAddr{page.phys}.pfn());
            if (!model.shared && page.write) REQUIRE(frame->refs() == 1);
        };
        for (u32 table = 0; table < layout::kUserEnd; table += paging::kLargeSize) {
            if (!oracle_has_table(root, table)) continue;
            ++tables;
            for (u32 va = table; va < table + paging::kLargeSize; va += kPageSize)
                if (const auto page = oracle_walk(root, va)) look(va, *page);
        }
        for (const auto& [i, page] : m.model)
            kept += page.prot == Prot::none;
        const SpaceStats stats = m.space->stats();
        REQUIRE(stats.tables == tables);
        REQUIRE(stats.resident >= present);
        REQUIRE(stats.resident <= present + kept);
        // There are at most as many areas as borders in the model.
        u32 most = 0;
        const ModelPage* before = nullptr;
        u32 last = 0;
        for (const auto& [i, page] : m.model) {
            const bool same =
                before != nullptr && last + 1 == i && before->prot == page.prot && before->kind == page.kind;
            most += !same || page.kind == MapKind::shared;
            before = &page, last = i;
        }
        REQUIRE(stats.areas <= most);
    }

    Random random_;
    Booted kernel_;
    Books before_;
    std::vector<std::unique_ptr<Member>> members_;
    CpuSet idle_;
};

void live(u32 seed, u32 steps) {
    Life life{seed};
    for (u32 i = 0; i < steps; ++i) {
        INFO("seed " << seed << ", step " << i);
        life.step();
    }
    INFO("seed " << seed << ", the end");
    life.finish();
}

} // namespace

TEST_CASE("space: a random life is what the model says", "[address_space][random]") {
    for (u32 seed = 1; seed <= 60; ++seed)
        live(seed, 400);
}
