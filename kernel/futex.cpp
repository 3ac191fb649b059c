// Futexes. Contract: futex.hpp.
//
// Sleepers wait in a few lists by where in its page the word lies: that is the same for everyone who names the word,
// whatever address or frame they know it by. Under the lock of the list a sleeper reads the word for the last time,
// and a waker looks for sleepers: so a wake-up that comes after the word was changed finds everyone who has seen it
// unchanged.
#include "kernel/futex.hpp"

#include "arch/i386/timer.hpp"
#include "kernel/process.hpp"
#include "kernel/sleep.hpp"
#include "mm/spinlock.hpp"
#include "mm/user_copy.hpp"

#include <array>

namespace loft {
namespace {

// Where a word is: in a space, and, if it may be shared with another one, in a frame. The frame is pinned while
// somebody waits, so that it does not become another word.
struct Key {
    const AddressSpace* space = nullptr;
    UserAddr word{};
    Page* page = nullptr; // null: private
    u32 offset() const { return word.page_offset(); }
    bool matches(const Key& other) const {
        return offset() == other.offset() &&
               ((space == other.space && word == other.word) || (page != nullptr && page == other.page));
    }
};

// On the stack of the one who sleeps.
struct Sleeper {
    Sleeper* next = nullptr;
    Key key{};
    ThreadId thread{};
    hal::Atomic<u32> woken;
};

struct List {
    SpinLock lock;
    Sleeper* first = nullptr;
    Sleeper* last = nullptr;

    void add(Sleeper& sleeper) {
        (last != nullptr ? last->next : first) = &sleeper;
        last = &sleeper;
    }
    void remove(const Sleeper& sleeper) {
        Sleeper* before = nullptr;
        for (Sleeper* at = first; at != nullptr; before = at, at = at->next) {
            if (at != &sleeper) continue;
            (before != nullptr ? before->next : first) = at->next;
            if (last == at) last = before;
            return;
        }
    }
};
constinit std::array<List, 64> lists;
List& list_of(const Key& key) { return lists[key.offset() / 4 % lists.size()]; }

// A word that programs share is pinned as if it were written: in memory that fork has shared for reading only, each
// gets his own first.
Result<Key> make_key(UserAddr word, bool shared) {
    AddressSpace* space = active_space();
    if (space == nullptr) return Error::bad_address;
    Key key{space, word, nullptr};
    if (shared) {
        const Result<u32> pinned = get_user_pages(*space, word, 1, true, &key.page);
        if (!pinned) return pinned.error();
    }
    return key;
}
void drop_key(const Key& key) {
    if (key.page != nullptr) put_page(key.page);
}

// Enters the list if the word is what it should be. The memory may be taken away again and again by another thread of
// the program; one that is never there when it is looked at might as well have changed.
SysResult enter(List& list, Sleeper& me, u32 value) {
    constexpr u32 kTries = 8;
    for (u32 i = 0; i < kTries; ++i) {
        if (fault_in_readable(me.key.word, 4) != 0) return Errno::fault;
        const SpinGuard guard{list.lock};
        u32 found = 0;
        if (copy_from_user_inatomic(&found, me.key.word, 4) != 0) continue;
        if (found != value) return Errno::again;
        list.add(me);
        return 0u;
    }
    return Errno::again;
}

SysResult sleep(List& list, Sleeper& me, u64 until_us) {
    const auto wait = [&](auto&& rang) {
        while (me.woken.load() == 0 && !rang() && !must_stop())
            hal::park();
    };
    if (until_us == kForever) {
        wait([] { return false; });
    } else {
        const Alarm alarm{until_us};
        wait([&] { return alarm.rang(); });
    }
    const SpinGuard guard{list.lock};
    if (me.woken.load() != 0) return 0u;
    list.remove(me);
    return must_stop() ? Errno::intr : Errno::timedout;
}

} // namespace

SysResult futex_wait(UserAddr word, u32 value, u64 until_us, bool shared) {
    if (word.value() % 4 != 0) return Errno::inval;
    const Result<Key> key = make_key(word, shared);
    if (!key) return key.error() == Error::no_memory ? Errno::nomem : Errno::fault;
    Sleeper me;
    me.key = *key;
    me.thread = hal::current_thread();
    List& list = list_of(me.key);
    SysResult result = enter(list, me, value);
    if (!result.failed()) result = sleep(list, me, until_us);
    drop_key(*key);
    return result;
}

SysResult futex_wake(UserAddr word, u32 most, bool shared) {
    if (word.value() % 4 != 0) return Errno::inval;
    const Result<Key> key = make_key(word, shared);
    if (!key) return key.error() == Error::no_memory ? Errno::nomem : Errno::fault;
    List& list = list_of(*key);
    u32 woken = 0;
    {
        const SpinGuard guard{list.lock};
        for (Sleeper* at = list.first; at != nullptr && woken < most;) {
            Sleeper* const next = at->next;
            if (at->key.matches(*key)) {
                list.remove(*at);
                // Its stack is its own again as soon as the lock is free.
                const ThreadId thread = at->thread;
                at->woken.store(1);
                hal::unpark(thread);
                ++woken;
            }
            at = next;
        }
    }
    drop_key(*key);
    return woken;
}

} // namespace loft
