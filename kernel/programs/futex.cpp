// Futexes. Contract: futex.hpp.
//
// Sleepers are hashed into a few lists by the word's offset in its page, which is the same for all threads that use the
// word, whatever its address in their space. A sleeper reads the word for the last time under the lock of its list; a
// waker searches the list under the same lock. So a wake-up after a change of the word finds every sleeper that read
// the old value.
//
// A requeued sleeper changes its list. So a thread that has taken the lock of a sleeper's list checks that the sleeper
// is still in it; a requeuing thread holds both locks, the one with the lower address first.
#include "kernel/programs/futex.hpp"
#include "arch/base/chain.hpp"

#include "arch/base/not_copyable.hpp"
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/isa/locked.hpp"
#include "kernel/files/file.hpp"
#include "kernel/threads/sleep.hpp"
#include "mm/ground/spinlock.hpp"
#include "mm/spaces/address_space.hpp"
#include "mm/spaces/user_copy.hpp"
#include "mm/windows/highmem.hpp"

#include <array>
#include <optional>

namespace loft {
namespace {

// Identifies a word: an offset in a shared object, or an address in one space. The key holds a reference to the object.
struct Key {
    MemoryObject* object = nullptr;
    const AddressSpace* space = nullptr; // if there is no object
    u32 page = 0;                        // of the object
    u32 at = 0;                          // offset in that page, or address in the space
    bool shared = false;
    bool operator==(const Key&) const = default;
};

struct List;

// On the stack of the sleeping thread.
struct Sleeper {
    Sleeper* next = nullptr;
    Key key{}; // guarded by the list's lock once the sleeper is in a list
    u32 bits = 0;
    ThreadId thread{};
    hal::Atomic<List*> list; // its list, also after it was woken; changed with the locks of both lists held
    hal::Atomic<u32> woken;  // set with the list's lock held
};

struct List {
    SpinLock lock;
    Chain<Sleeper, &Sleeper::next> sleepers LOFT_GUARDED_BY(lock);

    void add(Sleeper& sleeper) LOFT_REQUIRES(lock) {
        sleepers.push_back(sleeper);
        sleeper.list.store(this);
    }
    // Calls visit(Sleeper&) for each sleeper with this key, until it returns false. `visit` may remove that sleeper.
    template <typename F> void each(const Key& key, F&& visit) LOFT_REQUIRES(lock) {
        sleepers.each([&](Sleeper& sleeper) LOFT_UNCHECKED { return sleeper.key != key || visit(sleeper); });
    }
};
constinit std::array<List, 64> lists;
List& list_of(const Key& key) { return lists[key.at % kPageSize / 4 % lists.size()]; }

// Holds both locks, taken in the order of their addresses; only one if both words are in the same list.
class TwoLists : NotCopyable<TwoLists> {
  public:
    TwoLists(List& a, List& b) : outer_{(&a < &b ? a : b).lock}, second_{(&a < &b ? b : a).lock} {
        if (&a != &b) inner_.emplace(second_);
    }
    ~TwoLists() {
        if (inner_) inner_->leave(second_);
    }

  private:
    SpinGuard outer_; // interrupts are off while it is held
    SpinLock& second_;
    std::optional<HeldLock> inner_;
};

// The word of a futex call; holds a reference to its object during the call.
class Word : NotCopyable<Word> {
  public:
    Word(UserAddr word, bool shared) {
        AddressSpace* const space = active_space();
        if (word.value() % 4 != 0) error_ = Errno::inval;
        if (word.value() % 4 != 0 || word.value() >= layout::kUserEnd || space == nullptr) return;
        key_ = {nullptr, space, 0, word.value(), shared};
        if (shared) {
            const Result<AddressSpace::WordPlace> place = space->place_of(VirtAddr{word.value()});
            if (!place) return;
            if (place->object != nullptr) key_ = {place->object, nullptr, place->page, word.page_offset(), true};
        }
        ok_ = true;
    }
    ~Word() {
        for (u32 i = 0; ok_ && key_.object != nullptr && i < references_; ++i)
            key_.object->put();
    }
    explicit operator bool() const { return ok_; }
    SysResult error() const { return error_; }
    const Key& key() const { return key_; }
    List& list() const { return list_of(key_); }

    // Takes over the references of `count` sleepers that were moved to another word.
    void inherit(u32 count) { references_ += count; }

  private:
    Key key_{};
    u32 references_ = 1;
    Errno error_ = Errno::fault;
    bool ok_ = false;
};

// When the list's lock is released, the sleeper's stack frame may be gone.
void wake(List& list, Sleeper& sleeper) LOFT_REQUIRES(list.lock) {
    list.sleepers.remove(sleeper);
    const ThreadId thread = sleeper.thread;
    sleeper.woken.store(1);
    hal::unpark(thread);
}

int wake_some(List& list, const Key& key, int most, u32 bits) LOFT_REQUIRES(list.lock) {
    int woken = 0;
    list.each(key, [&](Sleeper& sleeper) LOFT_REQUIRES(list.lock) {
        if ((sleeper.bits & bits) == 0) return true;
        wake(list, sleeper);
        return ++woken < most;
    });
    return woken;
}

// Runs `then` with the lock held if the word has the expected value. Another thread of the program may unmap the memory
// repeatedly; after kTries faults the result is the same as for a changed word.
template <typename Guard, typename F>
SysResult if_equal(UserAddr word, u32 value, Guard&& make_guard,
                   F&& then) LOFT_UNCHECKED { // the guard is returned by value
    constexpr u32 kTries = 8;
    for (u32 i = 0; i < kTries; ++i) {
        if (fault_in_readable(word, 4) != 0) return Errno::fault;
        const auto guard = make_guard();
        u32 found = 0;
        if (copy_from_user_inatomic(&found, word, 4) != 0) continue;
        if (found != value) return Errno::again;
        return then();
    }
    return Errno::again;
}

// Removes the sleeper from its list; false if it was woken before. Afterwards no waker accesses it.
bool take_out(Sleeper& me) {
    for (;;) {
        List* const list = me.list.load();
        const SpinGuard guard{list->lock};
        if (me.list.load() != list) continue;
        if (me.woken.load() != 0) return false;
        list->sleepers.remove(me);
        return true;
    }
}

SysResult sleep(Sleeper& me, u64 until_us) {
    const auto wait = [&](auto&& rang) {
        while (me.woken.load() == 0 && !rang() && !must_stop())
            hal::park();
    };
    if (until_us == kForever) {
        wait([] { return false; });
    } else if (until_us > now_us()) {
        const Alarm alarm{until_us};
        wait([&] { return alarm.rang(); });
    }
    if (!take_out(me)) return 0u;
    return must_stop() ? Errno::intr : Errno::timedout;
}

// FUTEX_WAKE_OP, futex(2).
struct WakeOp {
    u32 operation, comparison;
    int operand, limit;

    explicit WakeOp(u32 code)
        : operation{code >> 28 & 7}, comparison{code >> 24 & 15}, operand{static_cast<int>(code << 8) >> 20},
          limit{static_cast<int>(code << 20) >> 20} {
        if (code >> 31) operand = static_cast<int>(1u << (operand & 31));
    }
    bool known() const { return operation <= 4; }
    bool comparable() const { return comparison <= 5; }
    u32 change(u32 old) const {
        const u32 with = static_cast<u32>(operand);
        const u32 results[]{with, old + with, old | with, old & ~with, old ^ with};
        return results[operation];
    }
    bool passes(int old) const {
        const bool results[]{old == limit, old != limit, old<limit, old <= limit, old> limit, old >= limit};
        return results[comparison];
    }
};

// Changes the word through a window of the kernel, so no page fault is possible.
u32 change_word(Page* page, u32 offset, const WakeOp& op) {
    const LocalMap map{page};
    const VirtAddr word = map.addr() + offset;
    u32 old = hal::load<u32>(word);
    for (;;) {
        const u32 found = compare_exchange_word(word, old, op.change(old));
        if (found == old) return old;
        old = found;
    }
}

} // namespace

SysResult futex_wait(UserAddr address, u32 value, u64 until_us, bool shared, u32 bits) {
    if (bits == 0) return Errno::inval;
    Word word{address, shared};
    if (!word) return word.error();
    Sleeper me;
    me.key = word.key();
    me.bits = bits;
    me.thread = hal::current_thread();
    List& list = word.list();
    const SysResult entered = if_equal(
        address, value, [&] { return SpinGuard{list.lock}; },
        [&]() LOFT_REQUIRES(list.lock) -> SysResult {
            list.add(me);
            return 0u;
        });
    if (entered.failed()) return entered;
    // While it sleeps, its key holds the reference: a thread that moves it takes over this one (inherit) and gets one
    // for the new word.
    const SysResult result = sleep(me, until_us);
    if (!(me.key == word.key())) {
        word.inherit(~u32{0}); // none is left of it
        if (me.key.object != nullptr) me.key.object->put();
    }
    return result;
}

SysResult futex_wake(UserAddr address, int most, bool shared, u32 bits) {
    if (bits == 0) return Errno::inval;
    const Word word{address, shared};
    if (!word) return word.error();
    const SpinGuard guard{word.list().lock};
    return static_cast<u32>(wake_some(word.list(), word.key(), most, bits));
}

SysResult futex_requeue(UserAddr address, UserAddr to, int wake_most, int move_most, bool shared, const u32* expected) {
    if (wake_most < 0 || move_most < 0) return Errno::inval;
    Word from{address, shared};
    if (!from) return from.error();
    const Word target{to, shared};
    if (!target) return target.error();
    u32 woken = 0, moved = 0;
    // Unchecked: two locks that may be one.
    const auto act = [&]() LOFT_UNCHECKED -> SysResult {
        from.list().each(from.key(), [&](Sleeper& sleeper) LOFT_UNCHECKED {
            if (woken < static_cast<u32>(wake_most)) {
                wake(from.list(), sleeper);
                ++woken;
                return true;
            }
            if (moved == static_cast<u32>(move_most)) return false;
            ++moved;
            if (from.key() == target.key()) return true;
            from.list().sleepers.remove(sleeper);
            if (target.key().object != nullptr) target.key().object->get();
            sleeper.key = target.key();
            target.list().add(sleeper);
            from.inherit(1);
            return true;
        });
        return woken + moved;
    };
    const auto lock = [&] { return TwoLists{from.list(), target.list()}; };
    if (expected != nullptr) return if_equal(address, *expected, lock, act);
    const auto guard = lock();
    return act();
}

// Unchecked: two locks that may be one.
SysResult futex_wake_op(UserAddr first, UserAddr second, int most, int most_second, u32 code,
                        bool shared) LOFT_UNCHECKED {
    const Word one{first, shared};
    if (!one) return one.error();
    const Word two{second, shared};
    if (!two) return two.error();
    const WakeOp op{code};
    if (!op.known()) return Errno::nosys;
    const UserPin pin{*active_space(), second, true};
    if (!pin) return Errno::fault;
    SysResult result = Errno::nosys;
    {
        const TwoLists guard{one.list(), two.list()};
        const u32 old = change_word(pin.page(), second.page_offset(), op);
        if (op.comparable()) {
            int woken = wake_some(one.list(), one.key(), most, kAnyBit);
            if (op.passes(static_cast<int>(old))) woken += wake_some(two.list(), two.key(), most_second, kAnyBit);
            result = static_cast<u32>(woken);
        }
    }
    return result;
}

} // namespace loft
