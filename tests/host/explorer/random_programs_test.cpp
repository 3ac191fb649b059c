// Random programs under random schedules: threads that load, store, map, unmap, protect, fork, pin and copy, on CPUs
// that they share and leave. program_memory.hpp judges every access; at the end nothing is lost.
//
// A failure prints the program and its number. `LOFT_PROGRAM=N LOFT_SCHEDULE=seed:M` runs it again, and
// `LOFT_EXPLORE=N` runs N times as many programs.
#include "tests/host/explorer/rig.hpp"
#include "tests/host/spaces/program.hpp"
#include "tests/host/spaces/program_memory.hpp"

#include <cstdio>
#include <cstdlib>

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kPages = 3, kCpus = 3, kMostThreads = 4;

struct Op {
    enum class What : u8 {
        load,
        store,
        map,
        map_shared,
        unmap,
        protect,
        fork,
        read,
        write,
        copy_in,
        copy_out,
        pin,
        kernel_thread, // the CPU runs a kernel thread that uses a frame, and returns to the program
        give_way,      // another thread runs if one is ready
    } what;
    u32 page, offset, pages;
    Prot prot;
    u32 value;
};

std::string text_of(const Op& op) {
    constexpr const char* kNames[] = {"load", "store", "map",     "map shared", "unmap", "protect",       "fork",
                                      "read", "write", "copy in", "copy out",   "pin",   "kernel thread", "give way"};
    return sim::text("{} page {}+{:x}, {} pages, rights {}, value {}", kNames[static_cast<u32>(op.what)], op.page,
                     op.offset, op.pages, static_cast<u32>(op.prot), op.value);
}

using Program = std::vector<std::vector<Op>>; // for each thread

Program make_program(u32 number) {
    std::mt19937 random{number};
    const auto below = [&](u32 n) { return static_cast<u32>(random() % n); };
    constexpr Op::What kAny[] = {
        Op::What::load,    Op::What::load,    Op::What::load,          Op::What::load,     Op::What::load,
        Op::What::load,    Op::What::store,   Op::What::store,         Op::What::store,    Op::What::store,
        Op::What::store,   Op::What::store,   Op::What::map,           Op::What::map,      Op::What::map_shared,
        Op::What::unmap,   Op::What::unmap,   Op::What::protect,       Op::What::fork,     Op::What::read,
        Op::What::protect, Op::What::copy_in, Op::What::copy_out,      Op::What::write,    Op::What::pin,
        Op::What::pin,     Op::What::protect, Op::What::kernel_thread, Op::What::give_way, Op::What::give_way};
    constexpr Prot kRights[] = {kReadWrite, kReadWrite, kRead, Prot::none};
    Program program(2 + below(kMostThreads - 1));
    u32 value = 0x100;
    for (auto& thread : program)
        for (u32 ops = 3 + below(4); ops != 0; --ops) {
            const u32 first = below(kPages);
            thread.push_back({kAny[below(std::size(kAny))], first, below(2) * 4, 1 + below(kPages - first),
                              kRights[below(std::size(kRights))], ++value});
        }
    return program;
}

// Runs programs, one after the other, from the same state: a space with kPages pages, all present and different; a
// child shares the first one.
class Machine {
  public:
    Machine() : scene_{kCpus, 2, 0} {
        warm_up();
        space_ = AddressSpace::create();
        REQUIRE(space_ != nullptr);
        map_pages(*space_, kBase, kPages);
        REQUIRE(space_->unmap(page(0), kPages * kPageSize));
        empty_ = books();
        map_pages(*space_, kBase, kPages);
        run_in(space_);
        for (u32 i = 0; i < kPages; ++i)
            user_store(page(i), i + 1);
        const Result<AddressSpace*> forked = space_->fork();
        REQUIRE(forked);
        child_ = *forked;
        for (u32 i = 1; i < kPages; ++i)
            user_store(page(i), i + 1);
        run_in(nullptr);
        REQUIRE(space_->protect(page(0), kPages * kPageSize, kRead));
        REQUIRE(space_->protect(page(0), kPages * kPageSize, kReadWrite));
        memory_.adopt(*space_, page(0), kPages, kReadWrite);
        memory_.adopt(*child_, page(0), kPages, kReadWrite);
        scene_.loose_books = true;
        scene_.explored.longest = 200'000; // DEBUG walks all of a table at each fork
        scene_.explored.check = [this] {
            sim::expect(static_cast<bool>(space_->unmap(page(0), kPages * kPageSize)), "all memory goes");
            child_->put();
            sim::expect(books() == empty_, "no frame is lost");
        };
    }

    sim::Report run(u32 number, const sim::Plan& plan) {
        const Program program = make_program(number);
        scene_.explored.threads.clear();
        for (u32 i = 0; i < program.size(); ++i)
            scene_.thread(i % kCpus, [this, i, &ops = program[i]] {
                scene_.small_kernel.run_in(i, space_);
                for (const Op& op : ops)
                    perform(i, op);
                scene_.small_kernel.run_in(i, nullptr);
            });
        scene_.explored.preemptions = number % 3;
        scene_.explored.roaming = number % 2 == 1;
        return scene_.attempt(plan);
    }

  private:
    static void load(VirtAddr va) {
        try {
            static_cast<void>(user_load(va));
        } catch (const Killed&) {
        }
    }
    static void store(VirtAddr va, u32 value) {
        try {
            user_store(va, value);
        } catch (const Killed&) {
        }
    }

    void perform(u32 thread, const Op& op) {
        const VirtAddr at = page(op.page), word = at + op.offset;
        switch (op.what) {
        case Op::What::load:
            return load(word);
        case Op::What::store:
            return store(word, op.value);
        case Op::What::map:
        case Op::What::map_shared:
            static_cast<void>(memory_.map(*space_, at, op.pages, op.prot,
                                          op.what == Op::What::map_shared ? MapKind::shared : MapKind::anonymous));
            return;
        case Op::What::unmap:
            static_cast<void>(memory_.unmap(*space_, at, op.pages));
            return;
        case Op::What::protect:
            static_cast<void>(memory_.protect(*space_, at, op.pages, op.prot));
            return;
        case Op::What::fork:
            return fork(thread, op);
        case Op::What::read:
            static_cast<void>(memory_.read(*space_, word));
            return;
        case Op::What::write:
            static_cast<void>(memory_.write(*space_, word, op.value));
            return;
        case Op::What::copy_in: {
            std::vector<u32> words(op.pages);
            memory_.copy_in(word, words);
            return;
        }
        case Op::What::copy_out: {
            std::vector<u32> words(op.pages);
            for (u32 i = 0; i < op.pages; ++i)
                words[i] = op.value | i << 16;
            memory_.copy_out(word, words);
            return;
        }
        case Op::What::pin: {
            const auto pin = memory_.pin(*space_, at);
            if (pin.page == nullptr) return;
            static_cast<void>(memory_.load(pin, 0));
            memory_.store(pin, op.offset, op.value);
            load(word);
            static_cast<void>(memory_.load(pin, op.offset));
            memory_.unpin(pin);
            return;
        }
        case Op::What::give_way:
            return hal::reschedule();
        case Op::What::kernel_thread: {
            scene_.small_kernel.run_in(thread, nullptr);
            Page* const frame = alloc_page(Gfp::high);
            memset_page(frame, 0, 0x5a, kPageSize);
            free_page(frame);
            scene_.small_kernel.run_in(thread, space_);
            return;
        }
        }
    }

    // The thread runs the child for a while.
    void fork(u32 thread, const Op& op) {
        AddressSpace* const child = memory_.fork(*space_);
        sim::expect(child != nullptr, "fork works");
        scene_.small_kernel.run_in(thread, child);
        load(page(0));
        store(page(op.page) + op.offset, op.value);
        load(page(op.page) + op.offset);
        load(page(kPages - 1));
        scene_.small_kernel.run_in(thread, space_);
        static_cast<void>(memory_.read(*child, page(op.page)));
        memory_.put(child);
    }

    Scene scene_;
    ProgramMemory& memory_ = scene_.memory;
    AddressSpace* space_ = nullptr;
    AddressSpace* child_ = nullptr;
    Books empty_;
};

} // namespace

TEST_CASE("explorer: random programs see what they may see", "[.explorer][explorer-programs]") {
    // 100,000 schedules in one configuration, fewer in those that run them, too.
    constexpr u32 kSchedules = 50, kPrograms = kWhole ? 2000 : kSlow ? 1000 : 100;
    u64 programs = schedules(kPrograms);
    if (const char* const wish = std::getenv("LOFT_EXPLORE"))
        if (const u64 times = std::strtoull(wish, nullptr, 10); times != 0) programs *= times;
    u64 first = 0;
    if (const char* const wish = std::getenv("LOFT_PROGRAM")) {
        first = std::strtoull(wish, nullptr, 10);
        programs = 1;
    }
    Machine machine;
    u64 all = 0, longest = 0;
    for (u64 number = first; number < first + programs; ++number) {
        const sim::Report report = machine.run(static_cast<u32>(number), sim::random(kSchedules));
        all += report.schedules;
        longest = std::max(longest, report.longest);
        if (report.failure.empty()) continue;
        const Program program = make_program(static_cast<u32>(number));
        for (u32 i = 0; i < program.size(); ++i)
            for (const Op& op : program[i])
                UNSCOPED_INFO("thread " << i + 1 << ": " << text_of(op));
        INFO(report.trace);
        INFO("LOFT_PROGRAM=" << number << " LOFT_SCHEDULE='" << report.schedule << "'");
        FAIL(report.failure);
    }
    std::printf("explorer: random programs: %llu programs, %llu schedules by chance, up to %llu steps\n",
                static_cast<unsigned long long>(programs), static_cast<unsigned long long>(all),
                static_cast<unsigned long long>(longest));
}
