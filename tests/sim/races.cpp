// Vector clocks, and the accesses that a later one could race with. Contract: races.hpp.
#include "tests/sim/races.hpp"

#include "tests/sim/agents.hpp"
#include "tests/sim/errors.hpp"
#include "tests/sim/explorer.hpp"
#include "tests/sim/machine.hpp"
#include "tests/sim/place_map.hpp"
#include "tests/sim/statics.hpp"

#include <algorithm>
#include <array>
#include <deque>

namespace loft::sim::races {
namespace {

constexpr u64 kGranule = 8;

constexpr bool writes(Kind kind) { return kind != Kind::read && kind != Kind::cpu_read && kind != Kind::cell_read; }
constexpr bool of_a_cell(Kind kind) { return kind == Kind::cell_read || kind == Kind::cell_write; }
constexpr bool one_instruction(Kind kind) { return kind == Kind::cpu_read || kind == Kind::cpu_write; }
// Whatever conflicts with an access of the kind `old` conflicts with one of the kind `now`, too.
constexpr bool covers(Kind now, Kind old) {
    return (writes(now) || !writes(old)) && (!of_a_cell(now) || of_a_cell(old)) &&
           (!one_instruction(now) || one_instruction(old));
}

// For each agent: the number of its last interval that precedes. An agent begins a new interval when it releases.
using Clock = std::array<u32, kMaxAgents>;

void join(Clock& into, const Clock& from) {
    for (u32 i = 0; i < kMaxAgents; ++i)
        into[i] = std::max(into[i], from[i]);
}

struct Access {
    const void* from = nullptr; // null: there is none
    u32 interval = 0;
    u8 agent = 0, thread = 0;
    u8 bytes = 0; // of the granule: a bit for each
    Kind kind = Kind::read;
};
struct Granule {
    std::vector<Access> accesses;
    Access freed; // an object in it is free
};
struct Frame {
    bool accessed = false; // there are granules
    Access last;           // its last allocation or release
};
struct Function { // that has not ended
    u64 lowest;
    Access begin;
};
struct ThreadStack {
    Stack memory;
    std::vector<Function> functions; // the last one is the innermost
    std::vector<u64> foreign;        // granules that other agents have accessed
    Access ended;                    // the last end of a function
};
struct Stored { // in a store buffer
    u64 at = 0;
    u32 size = 0;
    bool orders = false;
    Clock clock{};
};

// What an address is.
enum class Memory : u8 { other, own_stack, plain };

class Plainness { // the static objects of mm, a bit for each granule
  public:
    Plainness() {
        for (const StaticObject& object : kernel_statics()) {
            const u64 at = reinterpret_cast<std::uintptr_t>(object.at);
            if (begin_ == 0) begin_ = round_down(at, kGranule);
            for (u64 i = (at - begin_) / kGranule; i <= (at + object.size - 1 - begin_) / kGranule; ++i) {
                if (bits_.size() <= i) bits_.resize(i + 1);
                bits_[i] = true;
            }
        }
    }
    bool has(u64 at) const {
        const u64 i = (at - begin_) / kGranule;
        return i < bits_.size() && bits_[i];
    }

  private:
    u64 begin_ = 0; // the objects are sorted
    std::vector<bool> bits_;
};

// The templates that are used here may be the copies of instrumented code: their accesses do not count.
bool busy = false;
struct Busy {
    Busy() { busy = true; }
    ~Busy() { busy = false; }
};

class Races {
  public:
    void begin(const std::vector<Stack>& stacks, bool points) {
        stacks_.clear();
        for (const Stack& memory : stacks)
            stacks_.push_back({memory, {}, {}, {}});
        points_ = points;
        running_ = kNobody;
        for (u32 i = 0; i < kMaxAgents; ++i) {
            clocks_[i] = {};
            clocks_[i][i] = 1;
        }
        released_.clear();
        granules_.clear();
        frames_.clear();
        for (auto& buffer : buffers_)
            buffer.clear();
    }
    void run(u32 agent, u32 thread, const Stack& stack) {
        running_ = agent;
        thread_ = static_cast<u8>(thread);
        stack_ = stack;
        own_ = stack_at(reinterpret_cast<std::uintptr_t>(stack.begin));
    }
    bool nobody() const { return running_ == kNobody; }

    void release(u64 place) {
        if (nobody()) return;
        join(released_.at(place), mine());
        ++mine()[running_];
    }
    void acquire(u64 place) {
        if (nobody()) return;
        if (const Clock* const clock = released_.find(place)) join(mine(), *clock);
    }

    void buffered() {
        const PendingStore& store = machine().here().buffer.last();
        buffers_[cpu_of(running_)].push_back(
            {reinterpret_cast<std::uintptr_t>(store.at), store.size, store.kind != PendingStore::Kind::data, mine()});
        ++mine()[running_];
    }
    void drained(u32 cpu) {
        const Stored store = buffers_[cpu].front();
        buffers_[cpu].pop_front();
        if (!store.orders) return;
        for (u64 at = store.at; at < store.at + store.size; at += 4)
            released_.at(at) = store.clock;
    }
    void word(const void* word, u32 bytes, bool write, const void* from) {
        if (nobody()) return;
        access(word, bytes, write ? Kind::cell_write : Kind::cell_read, from);
        const u64 first = reinterpret_cast<std::uintptr_t>(word);
        for (u64 at = first; at < first + bytes; at += 4)
            load(at);
        if (!write) return;
        for (u64 at = first; at < first + bytes; at += 4)
            join(released_.at(at), mine());
        ++mine()[running_];
    }

    // A step begins with this access to plain memory.
    bool is_point(const void* at) const {
        return points_ && !nobody() && memory_at(reinterpret_cast<std::uintptr_t>(at)) == Memory::plain;
    }
    void access(const void* where, u64 bytes, Kind kind, const void* from) {
        if (nobody()) return;
        const u64 at = reinterpret_cast<std::uintptr_t>(where);
        const Memory memory = memory_at(at);
        if (memory == Memory::other) return;
        // The frames of a handler's functions are gone when the thread below them continues.
        if (memory == Memory::own_stack && role_of(running_) == Role::interrupt) return;
        const Access now = make(kind, from);
        if (at - kRamBase < kRamLimit)
            check_frame(at, now);
        else if (memory == Memory::plain)
            check_function(at, bytes, now);
        meet(at, bytes, now);
    }

    void frames(u32 pfn, u32 order, Kind kind, const void* from) {
        if (nobody()) return;
        const Access now = make(kind, from);
        for (u32 i = 0; i < 1u << order; ++i) {
            const u64 at = kRamBase + (u64{pfn + i} << kPageShift);
            Frame& frame = frames_.at(pfn + i);
            frame.last = now;
            if (!std::exchange(frame.accessed, false)) continue;
            for (u64 place = at; place < at + kPageSize; place += kGranule) {
                Granule* const granule = granules_.find(place);
                if (granule == nullptr) continue;
                granule->freed = {};
                meet(place, kGranule, now);
                granules_.at(place) = {};
            }
        }
    }
    void object(const void* where, u32 bytes, Kind kind, const void* from) {
        if (nobody()) return;
        const u64 at = reinterpret_cast<std::uintptr_t>(where);
        const Access now = make(kind, from);
        for (u64 place = at; place < at + bytes; place += kGranule)
            granules_.at(place).freed = {};
        access(where, bytes, kind, from);
        if (kind != Kind::frees) return;
        for (u64 place = at; place < at + bytes; place += kGranule)
            granules_.at(place).freed = now;
    }

    // The objects of a function are freed when it ends.
    void function_begins(u64 lowest, const void* from) {
        if (nobody() || own_ == nullptr || !stack_.has(lowest)) return;
        own_->functions.push_back({lowest, make(Kind::allocates, from)});
    }
    void function_ends(const void* from) {
        if (nobody() || own_ == nullptr || own_->functions.empty()) return;
        const u64 begin = own_->functions.back().lowest;
        own_->functions.pop_back();
        own_->ended = make(Kind::frees, from);
        if (own_->foreign.empty()) return;
        const u64 end = own_->functions.empty() ? ~u64{0} : own_->functions.back().lowest;
        const auto gone = std::partition(own_->foreign.begin(), own_->foreign.end(),
                                         [&](u64 place) { return place < begin || place >= end; });
        for (auto place = gone; place != own_->foreign.end(); ++place) {
            meet(*place, kGranule, own_->ended);
            granules_.at(*place) = {};
        }
        own_->foreign.erase(gone, own_->foreign.end());
    }

  private:
    Clock& mine() { return clocks_[running_]; }
    Access make(Kind kind, const void* from) {
        return {from, mine()[running_], static_cast<u8>(running_), thread_, 0xff, kind};
    }
    bool precedes(const Access& access) { return mine()[access.agent] >= access.interval; }

    Memory memory_at(u64 at) const {
        if (stack_.has(at)) return Memory::own_stack;
        if (at - kRamBase < kRamLimit) return Memory::plain;
        if (statics_.has(at)) return Memory::plain;
        for (const ThreadStack& stack : stacks_)
            if (stack.memory.has(at)) return Memory::plain;
        return Memory::other;
    }
    ThreadStack* stack_at(u64 at) {
        for (ThreadStack& stack : stacks_)
            if (stack.memory.has(at)) return &stack;
        return nullptr;
    }

    // Reads from the store buffer of the CPU, or from memory: ordered after the store that the value is from.
    void load(u64 at) {
        const std::deque<Stored>& own = buffers_[cpu_of(running_)];
        for (auto store = own.rbegin(); store != own.rend(); ++store)
            if (at - store->at < store->size) return join(mine(), store->clock);
        if (const Clock* const clock = released_.find(at)) join(mine(), *clock);
    }

    static bool conflict(const Access& a, const Access& b) {
        if (!writes(a.kind) && !writes(b.kind)) return false;
        if (of_a_cell(a.kind) && of_a_cell(b.kind)) return false;
        if (cpu_of(a.agent) != cpu_of(b.agent)) return true;
        return !one_instruction(role_of(a.agent) == Role::program ? a.kind : b.kind);
    }

    void meet(u64 at, u64 bytes, Access now) {
        const u64 end = at + bytes;
        for (u64 place = round_down(at, kGranule); place < end; place += kGranule) {
            const u64 first = std::max(at, place) - place, last = std::min(end - place, kGranule);
            now.bytes = static_cast<u8>((1u << last) - (1u << first));
            if (at - kRamBase < kRamLimit) frames_.at((at - kRamBase) >> kPageShift).accessed = true;
            meet(granules_.at(place), place + first, now);
        }
    }
    void meet(Granule& granule, u64 at, const Access& now) {
        if (granule.freed.from != nullptr) used_after_free(granule.freed, now, at);
        for (const Access& old : granule.accesses) {
            if ((old.bytes & now.bytes) == 0) continue;
            if (old.agent != now.agent) {
                if (conflict(old, now) && !precedes(old)) race(old, now, at);
            } else if (old.interval == now.interval && (now.bytes & ~old.bytes) == 0 && covers(old.kind, now.kind)) {
                return; // whatever races with this access races with that one
            }
        }
        std::erase_if(granule.accesses, [&](const Access& old) {
            return (old.bytes & ~now.bytes) == 0 && covers(now.kind, old.kind) && precedes(old);
        });
        granule.accesses.push_back(now);
    }
    // The frame of an access must be allocated, and its allocation must precede.
    void check_frame(u64 at, const Access& now) {
        const Frame* const frame = frames_.find((at - kRamBase) >> kPageShift);
        if (frame == nullptr || frame->last.from == nullptr) return;
        if (frame->last.kind == Kind::frees) used_after_free(frame->last, now, at);
        if (!precedes(frame->last)) race(frame->last, now, at);
    }

    // An object on the stack of another thread: its function must not have ended, and its begin must precede.
    void check_function(u64 at, u64 bytes, const Access& now) {
        ThreadStack* const stack = stack_at(at);
        if (stack == nullptr) return;
        for (u64 place = round_down(at, kGranule); place < at + bytes; place += kGranule)
            stack->foreign.push_back(place);
        const auto& live = stack->functions;
        if (live.empty() || at < live.back().lowest) {
            if (stack->ended.from != nullptr) used_after_free(stack->ended, now, at);
            return;
        }
        const auto of = std::find_if(live.begin(), live.end(), [at](const Function& f) { return f.lowest <= at; });
        if (!precedes(of->begin)) race(of->begin, now, at);
    }

    static std::string who(const Access& access) {
        std::string name = agent_name(access.agent);
        if (role_of(access.agent) == Role::program && access.thread != 0) name += text(" thread {}", access.thread);
        return name;
    }
    static std::string said(const Access& access) {
        constexpr const char* kVerbs[] = {"reads", "writes", "reads", "writes",
                                          "loads", "stores", "frees", "allocates"};
        return text("{} {} it at {}", who(access), kVerbs[static_cast<u32>(access.kind)], code_name(access.from));
    }
    std::string name(u64 at) const {
        for (u32 i = 0; i < stacks_.size(); ++i)
            if (stacks_[i].memory.has(at)) return text("the stack of thread {}", i + 1);
        return place_name(at);
    }
    void used_after_free(const Access& freed, const Access& now, u64 at) const {
        explore_stop(text("use after free of {}: {}, then {}", name(at), said(freed), said(now)));
    }
    void race(const Access& old, const Access& now, u64 at) const {
        explore_stop(text("race on {}: {}, {}, and nothing orders them", name(at), said(old), said(now)));
    }

    const Plainness statics_;
    std::vector<ThreadStack> stacks_;
    ThreadStack* own_ = nullptr; // of the running agent
    bool points_ = false;
    u32 running_ = kNobody;
    u8 thread_ = 0;
    Stack stack_;
    std::array<Clock, kMaxAgents> clocks_{};
    PlaceMap<Clock> released_; // of memory: 4 bytes each
    PlaceMap<Granule> granules_;
    PlaceMap<Frame> frames_;
    std::array<std::deque<Stored>, kMaxExploredCpus> buffers_;
};
Races& all() {
    static Races races;
    return races;
}

} // namespace

void begin(const std::vector<Stack>& stacks, bool points) {
    const Busy here;
    all().begin(stacks, points);
}
void run(u32 agent, u32 thread, const Stack& stack) { all().run(agent, thread, stack); }
void release(u64 place) {
    const Busy here;
    all().release(place);
}
void acquire(u64 place) {
    const Busy here;
    all().acquire(place);
}
void buffered() {
    const Busy here;
    all().buffered();
}
void drained(u32 cpu) {
    const Busy here;
    all().drained(cpu);
}
void access(const void* at, u64 bytes, Kind kind, const void* from) {
    const Busy here;
    all().access(at, bytes, kind, from);
}
void word(const void* at, u32 bytes, bool write, const void* from) {
    const Busy here;
    all().word(at, bytes, write, from);
}
void frames(u32 pfn, u32 order, Kind kind, const void* from) {
    const Busy here;
    all().frames(pfn, order, kind, from);
}
void object(const void* at, u32 bytes, Kind kind, const void* from) {
    const Busy here;
    all().object(at, bytes, kind, from);
}
void function_begins(const void* lowest, const void* from) {
    if (busy) return;
    const Busy here;
    all().function_begins(reinterpret_cast<std::uintptr_t>(lowest), from);
}
void function_ends(const void* from) {
    if (busy) return;
    const Busy here;
    all().function_ends(from);
}
void seen(const void* at, u64 bytes, bool write, const void* from) {
    if (busy) return;
    busy = true;
    const bool point = all().is_point(at);
    busy = false;
    if (point) {
        detail::explore_point(Point::plain);
        const u64 first = reinterpret_cast<std::uintptr_t>(at);
        for (u64 place = round_down(first, kGranule); place < first + bytes; place += kGranule)
            explore_plain(place, write);
    }
    access(at, bytes, write ? Kind::write : Kind::read, from);
}

} // namespace loft::sim::races
