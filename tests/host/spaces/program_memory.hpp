// What programs and the kernel may see: x86-TSO (SDM vol. 3, 8.2.2) over the virtual memory of each address space, and
// over the pages of the kernel.
//
// A model that knows words of memory, stores and calls, but no frame, no table and no TLB. In an exploration it judges
// every access of a program, and of the kernel to a page through a window (kmap, kmap_local, vmap):
//
//     a store      is the value of its word from the moment it leaves the store buffer
//     a load       gives the newest store of its own CPU to that word that is still in the buffer, else the word's
//                  value
//     map, unmap, protect
//                  between call and return an access may find the state before or after, for each page; afterwards no
//                  access finds the state before
//     fork         each word of the child has a value that the parent's word had between call and return
//     a copy       of the kernel from or to a program: each aligned word counts by itself. It is accessed at one moment
//                  between call and return; by a program's address, that access is judged as one of the program
//     a window     shows one page, from the map to the unmap; a load or store there is one of that page
//     a fault      kills only if, at some moment of the access, the page was not mapped or lacked the right
//
// An outcome that none of these rules allows ends the schedule as a failure. Where the model does not know which of two
// states holds, it allows both, so that a correct kernel never fails.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "mm/spaces/address_space.hpp"
#include "tests/host/spaces/program.hpp"

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <vector>

namespace loft::test {

// The pages of a space from kBase on.
constexpr VirtAddr page(u32 i) { return VirtAddr{kBase + i * kPageSize}; }

class ProgramMemory : NotCopyable<ProgramMemory> {
  public:
    // One at a time. While it exists, user_load and user_store (program.hpp) are judged in explorations.
    ProgramMemory();
    ~ProgramMemory();
    static ProgramMemory* current(); // null: there is none, or no exploration runs

    // --- Before an exploration.
    // These pages of the space are part of the model, with the contents that they have now. With `shares`: they are
    // shared memory, the same as that of this space at the same addresses.
    void adopt(AddressSpace& space, VirtAddr at, u32 pages, Prot prot, const AddressSpace* shares = nullptr);
    // The kernel may unmap these pages, which have been adopted, and has their contents elsewhere: they are those of a
    // file.
    void may_be_unmapped(AddressSpace& space, VirtAddr at, u32 pages);
    // This page of the kernel is part of the model, with the contents that it has now.
    void adopt(Page* page);
    // For Case::reset: the state that adopt() has described.
    void restart();

    // --- In a schedule: calls of mm, with their effect on the model. Addresses are fixed.
    Status map(AddressSpace& space, VirtAddr at, u32 pages, Prot prot, MapKind kind = MapKind::anonymous);
    Status unmap(AddressSpace& space, VirtAddr at, u32 pages);
    Status protect(AddressSpace& space, VirtAddr at, u32 pages, Prot prot);
    // A call that takes these pages away from the space, as the end of an object does that comes before them.
    Status take_away(AddressSpace& space, VirtAddr at, u32 pages, const std::function<Status()>& call);
    AddressSpace* fork(AddressSpace& space); // null: no memory
    void put(AddressSpace* space);           // the last reference

    // One aligned word of any space, by read_space and write_space. False, or empty: it cannot be accessed.
    std::optional<u32> read(AddressSpace& space, VirtAddr va);
    bool write(AddressSpace& space, VirtAddr va, u32 value);
    // The same for the space of this CPU, by copy_from_user and copy_to_user.
    std::optional<u32> copy_in(VirtAddr va);
    bool copy_out(VirtAddr va, u32 value);
    // Aligned words, one after the other. The number of words that could be accessed.
    u32 copy_in(VirtAddr va, std::vector<u32>& words);
    u32 copy_out(VirtAddr va, const std::vector<u32>& words);
    // A string, by strncpy_from_user; `size` is a multiple of 4.
    std::optional<std::string> copy_string(VirtAddr va, u32 size);
    // A page that is pinned for writing, and accessed by the kernel through windows.
    struct Pin {
        Page* page = nullptr; // null: it could not be pinned
        const AddressSpace* space = nullptr;
        u32 number = 0; // of the page in the space
        std::vector<u32> memory{};
    };
    Pin pin(AddressSpace& space, VirtAddr va);
    u32 load(const Pin& pin, u32 offset); // through a local map
    void store(const Pin& pin, u32 offset, u32 value);
    void unpin(const Pin& pin);

    // A word of a page that has been adopted, at an address where mm says that the page is mapped.
    bool knows(const Page* page) const;
    u32 load(const Page* page, VirtAddr at);
    void store(const Page* page, VirtAddr at, u32 value);
    // Words of such a page, by memcpy_from_page and memcpy_to_page.
    std::vector<u32> copy_from(Page* page, u32 offset, u32 words);
    void copy_to(Page* page, u32 offset, const std::vector<u32>& words);
    u32 new_value() { return 0x1000'0000 | ++now_.numbers; } // no store of this schedule has it yet

    // After a schedule: the tables and the frames have what the model has.
    void check_end() const;

    // --- For program.cpp: one access of a program on this CPU.
    u32 begin_access(VirtAddr va, FaultAccess access); // returns its number
    void loaded(VirtAddr va, u32 value);               // the load has given this value
    [[nodiscard]] u32 stored(VirtAddr va, u32 value);  // the store goes into the buffer, with this note
    void end_access(u32 access);                       // it was allowed
    void killed(u32 access);                           // its fault was not resolved
    // A copy of the kernel by a program's address has just accessed this word. A part of a word is judged at the end of
    // the copy only.
    static void copied(VirtAddr word, u32 value, FaultAccess access);

  private:
    using Values = std::vector<u32>; // those that a word may have; each once

    struct Memory {                  // the contents of a page
        const u8* initial = nullptr; // of the words that are not listed; null: zeros
        bool shared = false;
        bool kept = false;             // if no entry maps it
        std::map<u32, Values> words{}; // by offset
    };
    struct Binding {    // of a page of a space
        u32 memory = 0; // index; 0: nothing is mapped
        Prot prot = Prot::none;
        bool operator==(const Binding&) const = default;
        bool allows(FaultAccess access) const;
    };
    struct State {
        Binding binding;
        u32 applied = 0; // a bit for each change in progress that has taken effect
        bool operator==(const State&) const = default;
    };
    struct Change {
        enum class Kind : u8 { map, unmap, protect } kind;
        u32 bit;
        u32 first, end; // page numbers
        Prot prot;
        std::vector<u32> fresh{}; // map: the memory of each page
        Binding after(u32 page, Binding before) const;
    };
    struct Access { // in progress
        u32 number;
        u32 page, offset;
        FaultAccess kind;
        bool by_kernel;
        std::optional<u32> writes{}; // by the kernel: this value
        std::vector<u32> memory{};   // by the kernel: what it may reach
        bool disturbed = false;      // another store may have come meanwhile
        std::vector<Binding> seen{}; // what the page was bound to meanwhile
        Values values{};             // what the word was meanwhile
    };
    struct Fork {
        u32 number;
        std::map<u32, std::vector<Binding>> pages{}; // what each page was bound to meanwhile
        std::map<u32, u32> copies{};                 // memory -> the child's
    };
    struct Space {
        u32 index = 0;
        std::map<u32, std::vector<State>> pages{}; // by page number: what may hold now
        std::vector<Change> changes{};             // in progress
        std::vector<Access> accesses{};
        std::vector<Fork> forks{};
    };
    struct Store {
        u32 space; // its index
        u32 page, offset, value;
        std::vector<u32> memory; // it goes to one of these
    };
    static constexpr u32 kPinned = ~0u; // the page of an access by the kernel to a pinned page
    struct All {
        std::vector<Memory> memory{Memory{}};          // [0] is not used
        std::map<const AddressSpace*, Space> spaces{}; // null: the kernel's pages, by frame number
        std::vector<Store> stores{};
        u32 numbers = 0; // of accesses and forks
        u32 made = 0;    // spaces
    };

    static void drained(u32 note);
    Space& space_of(const AddressSpace* space);
    Space& running();
    u32 new_memory(Memory memory);
    std::vector<State>& states(Space& space, u32 page);
    std::vector<Binding> bindings(Space& space, u32 page);
    void settle(Space& space, u32 page);
    void see(Access& access, Binding binding);
    std::vector<u32> reach(Space& space, u32 page, FaultAccess kind);
    void see(Fork& fork, u32 page, Binding binding);
    Values& word(u32 memory, u32 offset);
    void add_writes_in_progress(u32 memory, u32 offset, Values& values) const;
    void put_value(u32 memory, u32 offset, u32 value, bool certain);
    const Store* newest_own(const Space& space, u32 page, u32 offset, const std::vector<u32>& where) const;
    Values expected(const Space& space, u32 page, u32 offset, const std::vector<u32>& where);
    void judge_load(const Space& space, u32 page, VirtAddr at, const std::vector<u32>& where, u32 value);
    u32 load_at(Space& space, u32 page, const std::vector<u32>& where, VirtAddr at);
    void store_at(const Space& space, u32 page, const std::vector<u32>& where, VirtAddr at, u32 value);
    void seen_value(u32 memory, u32 offset, u32 value);
    static void check_page(u32 number, const Memory& memory);
    void take_back(u32 memory, u32 offset, u32 value);
    template <typename F> Status change(AddressSpace& space, Change change, F&& call);
    Access& access_of(Space& space, u32 number);
    u32 begin(Space& space, u32 page, u32 offset, FaultAccess kind, bool by_kernel, std::optional<u32> writes);
    enum class Done : u8 { yes, no, not_tried };
    void end(Space& space, u32 number, Done done, std::optional<u32> read);
    template <typename F>
    u32 kernel_access(const AddressSpace* space, u32 page, u32 offset, u32 words, const u32* writes, F&& call,
                      const Done& next = Done::no);

    All start_, now_;
    std::deque<std::array<u8, kPageSize>> contents_; // of adopted pages
};

} // namespace loft::test
