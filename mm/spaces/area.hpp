// The areas of an address space: ranges of addresses with rights and a kind, in order of address, without overlap.
//
// isolate() cuts areas at the ends of a range, before the range is changed. Adjacent areas with equal attributes are
// joined, so that a program that maps page after page has one area and not thousands.
#pragma once

#include "arch/base/error.hpp"
#include "arch/base/not_copyable.hpp"
#include "arch/base/thread_safety.hpp"
#include "mm/cache/memory_object.hpp"

#include <boost/intrusive/set.hpp>

namespace loft {

enum class Prot : u8 { none = 0, read = 1, write = 2, exec = 4 };
constexpr Prot operator|(Prot a, Prot b) { return static_cast<Prot>(static_cast<u8>(a) | static_cast<u8>(b)); }
constexpr bool has(Prot all, Prot some) { return (static_cast<u8>(all) & static_cast<u8>(some)) != 0; }

enum class MapKind : u8 {
    anonymous, // private: at first zeros or the contents of an object; copied on write
    shared,    // the pages of an object: the same memory in every space that maps it
    stack,     // private; grows down to its limit
    grows,     // only an argument of map(): makes a stack that has its whole size from the start
    guard,     // never has a page: each access is a bad address
};

// Whole pages of user addresses, end exclusive.
struct PageRange {
    u32 begin = 0;
    u32 end = 0;
    constexpr u32 pages() const { return (end - begin) >> kPageShift; }
};

struct UserArea : boost::intrusive::set_base_hook<boost::intrusive::link_mode<boost::intrusive::normal_link>>, Mapping {
    u32 begin = 0;
    u32 end = 0;
    Prot prot = Prot::none;
    MapKind kind = MapKind::anonymous;
    u32 limit = 0;                  // stack: the lowest address to which it may grow
    MemoryObject* object = nullptr; // the source of its pages, with a reference; null: zeros
    u32 first = 0;                  // the number of the object's page at `begin`
    bool may_write = true;          // shared: it may get the right to write; else the file was opened for reading only
    bool locked = false;            // its pages stay in memory (mmap(2), MAP_LOCKED)

    // Its object knows it: the space unmaps pages before they go away, and takes the right to write from them.
    bool is_linked() const { return object != nullptr && object->knows_areas(); }
    bool is_private() const { return kind == MapKind::anonymous || kind == MapKind::stack; }
    u32 page_of(VirtAddr va) const { return first + ((va.value() - begin) >> kPageShift); }
};

// The source of the pages of a new area: an object, from its page `first` on.
struct Backing {
    MemoryObject* object = nullptr;
    u32 first = 0;
    bool may_write = true; // a shared area: UserArea::may_write
    bool locked = false;   // UserArea::locked
};

// An area of MapKind::grows grows up to this size, like the stack of a program.
inline constexpr u32 kGrowth = 8 * MiB;

// A stack that grows keeps this distance from the area below it.
inline constexpr u32 kStackGap = 16 * kPageSize;

// All calls: the caller holds the mutex of the space.
class AreaTree : NotCopyable<AreaTree> {
  public:
    explicit AreaTree(AddressSpace& space) : space_{space} {}
    ~AreaTree() = default;

    // A copy of `what` that is in no tree yet. It takes over the caller's reference to the object. Null: no memory, and
    // the caller keeps the reference.
    [[nodiscard]] static UserArea* make(const UserArea& what);
    // Inserts the area; its range must be free. The area may be joined with its neighbours, and `area` is invalid then.
    // `from`: the area of another tree that it is a copy of, with its pages.
    void add(UserArea& area, const UserArea* from = nullptr);
    static void end(UserArea& area); // frees an area that is in no tree
    // Cuts areas at both ends of the range, so that it consists of whole areas. False: no memory; nothing has changed.
    [[nodiscard]] bool isolate(PageRange range);
    // Removes and frees the areas of an isolated range.
    void erase(PageRange range);
    // Gives all areas of an isolated range these rights, and joins areas that are equal then.
    void set_prot(PageRange range, Prot prot);

    // The area of this address; a stack grows down to it if it may. Null: none.
    UserArea* reach(VirtAddr va);
    bool is_free(PageRange range) const;                // no area, no room for growth of a stack, no gap below one
    bool is_mapped(PageRange range, bool& guard) const; // no hole; `guard`: the range contains a guard area
    // The highest free range of `bytes`. Error: no_space.
    Result<u32> find_hole(u32 bytes);

    u32 count() const { return count_; }
    // Calls visit(UserArea&) in order for each area with pages in the range; ends if it returns false. The
    // thread-safety analysis does not follow the call: the visitor declares the locks that it needs, and the caller
    // must hold them.
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
    Iterator join(Iterator left); // with its right neighbour, if can_join
    void join_around(PageRange range);
    void insert(UserArea& area, const UserArea* from);
    void take_out(UserArea& area);
    u32 scan_holes(u32 bytes, u32 from);

    AddressSpace& space_;
    Set set_;
    u32 count_ = 0;
    // There is no hole of more than `skipped_` bytes above `search_from_`. So a program that maps repeatedly does not
    // search all of its areas each time.
    u32 search_from_ = 0;
    u32 skipped_ = ~u32{0};
};

u32 areas_in_use(); // of the whole machine; any context
void area_init();   // boot; after the object cache

} // namespace loft
