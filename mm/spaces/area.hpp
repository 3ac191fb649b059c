// The areas of an address space: what a program has been promised, in order of address, without overlap.
//
// Areas are cut where a range begins or ends that is to be treated in its own way (isolate), and joined again where two
// neighbours say the same, so that a program which maps page after page has one area and not thousands.
#pragma once

#include "arch/base/error.hpp"
#include "arch/base/not_copyable.hpp"
#include "arch/base/thread_safety.hpp"
#include "mm/spaces/memory_object.hpp"

#include <boost/intrusive/set.hpp>

namespace loft {

enum class Prot : u8 { none = 0, read = 1, write = 2, exec = 4 };
constexpr Prot operator|(Prot a, Prot b) { return static_cast<Prot>(static_cast<u8>(a) | static_cast<u8>(b)); }
constexpr bool has(Prot all, Prot some) { return (static_cast<u8>(all) & static_cast<u8>(some)) != 0; }

enum class MapKind : u8 {
    anonymous, // private: zeros, or the contents of an object, at first; copied on write
    shared,    // the pages of an object: the same memory in every space that maps it
    stack,     // private, and grows down to its limit
    grows,     // only asked for: a stack that is there as a whole at first
    guard,     // nothing, ever: an access is a bad address
};

// Whole pages of user addresses, end exclusive.
struct PageRange {
    u32 begin = 0;
    u32 end = 0;
    constexpr u32 pages() const { return (end - begin) >> kPageShift; }
};

struct UserArea : boost::intrusive::set_base_hook<boost::intrusive::link_mode<boost::intrusive::normal_link>> {
    u32 begin = 0;
    u32 end = 0;
    Prot prot = Prot::none;
    MapKind kind = MapKind::anonymous;
    u32 limit = 0;                  // stack: it may grow down to here
    MemoryObject* object = nullptr; // what its pages come from, counted; null: zeros of its own
    u32 first = 0;                  // which page of the object lies at `begin`

    bool is_private() const { return kind == MapKind::anonymous || kind == MapKind::stack; }
    u32 page_of(VirtAddr va) const { return first + ((va.value() - begin) >> kPageShift); }
};

// What the pages of a new area come from: those of an object, from its page `first` on.
struct Backing {
    MemoryObject* object = nullptr;
    u32 first = 0;
};

// As far below its end an area of MapKind::grows reaches at most, as the stack of a program does.
inline constexpr u32 kGrowth = 8 * MiB;

// A stack stays this far from what lies below it when it grows.
inline constexpr u32 kStackGap = 16 * kPageSize;

// All calls: under the mutex of the space.
class AreaTree : NotCopyable<AreaTree> {
  public:
    AreaTree() = default;
    ~AreaTree() = default;

    // An area that is in no tree yet, a copy of `what`. Takes over the reference to the object. Null: no memory, and
    // the reference stays the caller's.
    [[nodiscard]] static UserArea* make(const UserArea& what);
    // Puts it into the tree; its range is free. It joins its neighbours if it can, and may not exist any more then.
    void add(UserArea& area);
    static void end(UserArea& area); // one that is in no tree
    // Cuts areas at both ends of the range, so that it consists of whole ones. False: no memory, and nothing is
    // different.
    [[nodiscard]] bool isolate(PageRange range);
    // Takes the areas of an isolated range out, and ends them.
    void erase(PageRange range);
    // Gives all areas of an isolated range these rights, and joins what can be joined.
    void set_prot(PageRange range, Prot prot);

    // The area of this address; a stack grows to it if it may.
    UserArea* reach(VirtAddr va);
    bool is_free(PageRange range) const;                // no area, and nothing that a stack may grow into
    bool is_mapped(PageRange range, bool& guard) const; // no hole; `guard`: there is a guard area in it
    // The highest free range of `bytes`; nothing if there is none.
    Result<u32> find_hole(u32 bytes);

    u32 count() const { return count_; }
    // visit(UserArea&) in order, for those that have pages in the range; ends when it returns false. The analysis of
    // locks ends here: the visitor says what it needs, and whoever passes it has that.
    template <typename F> bool each(PageRange range, F&& visit) LOFT_UNCHECKED {
        for (auto it = first_above(range.begin); it != set_.end() && it->begin < range.end; ++it)
            if (!visit(*it)) return false;
        return true;
    }

  private:
    struct ByAddress {
        using type = u32;
        u32 operator()(const UserArea& area) const { return area.begin; }
    };
    using Set = boost::intrusive::set<UserArea, boost::intrusive::key_of_value<ByAddress>,
                                      boost::intrusive::constant_time_size<false>>;
    using Iterator = Set::iterator;

    Iterator first_above(u32 at); // the first area that ends above `at`
    Set::const_iterator first_above(u32 at) const;
    bool cut(u32 at);
    Iterator join(Iterator left); // with its right neighbour, if both say the same
    void join_around(PageRange range);
    void take_out(UserArea& area);
    u32 scan_holes(u32 bytes, u32 from);

    Set set_;
    u32 count_ = 0;
    // Above `search_from_` there is no hole of more than `skipped_` bytes: a program that maps again and again does not
    // look through all of its areas each time.
    u32 search_from_ = 0;
    u32 skipped_ = ~u32{0};
};

u32 areas_in_use(); // of the whole machine; any context
void area_init();   // boot; after the object cache

} // namespace loft
