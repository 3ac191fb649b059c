// The model of what programs may see. Contract: program_memory.hpp.
#include "tests/host/spaces/program_memory.hpp"

#include "mm/frames/page_alloc.hpp"
#include "mm/spaces/user_copy.hpp"
#include "mm/windows/highmem.hpp"
#include "tests/host/oracle.hpp"
#include "tests/sim/explorer.hpp"
#include "tests/sim/machine.hpp"

#include <algorithm>

namespace loft::test {
namespace {

ProgramMemory* the_model;

void add(std::vector<u32>& values, u32 value) {
    if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
}
template <typename T> void add_new(std::vector<T>& list, const T& item) {
    if (std::find(list.begin(), list.end(), item) == list.end()) list.push_back(item);
}
bool contains(const std::vector<u32>& values, u32 value) {
    return std::find(values.begin(), values.end(), value) != values.end();
}

constexpr u32 page_of(VirtAddr va) { return va.value() >> kPageShift; }

std::string listed(const std::vector<u32>& values) {
    std::string all;
    for (const u32 value : values)
        all += sim::text("{}{:x}", all.empty() ? "" : " or ", value);
    return all.empty() ? "nothing" : all;
}

const char* name_of(FaultAccess access) {
    return access == FaultAccess::read ? "read" : access == FaultAccess::write ? "write" : "execute";
}

[[noreturn]] void not_allowed(const std::string& what) {
    throw sim::NotAllowed{sim::text("not allowed: CPU {} {}", sim::machine().current(), what)};
}

} // namespace

ProgramMemory::ProgramMemory() {
    if (the_model != nullptr) throw std::logic_error{"one ProgramMemory at a time"};
    the_model = this;
    sim::noted_store_drained = &drained;
    sim::user_word_copied = &copied;
}
ProgramMemory::~ProgramMemory() {
    the_model = nullptr;
    sim::noted_store_drained = nullptr;
    sim::user_word_copied = nullptr;
}
ProgramMemory* ProgramMemory::current() { return sim::detail::exploring ? the_model : nullptr; }

bool ProgramMemory::Binding::allows(FaultAccess access) const {
    if (memory == 0) return false;
    switch (access) {
    case FaultAccess::read:
        return prot != Prot::none;
    case FaultAccess::write:
        return has(prot, Prot::write);
    case FaultAccess::exec:
        return has(prot, Prot::exec);
    }
    return false;
}

ProgramMemory::Binding ProgramMemory::Change::after(u32 page, Binding before) const {
    switch (kind) {
    case Kind::map:
        return {fresh[page - first], prot};
    case Kind::unmap:
        return {};
    case Kind::protect:
        return before.memory == 0 ? before : Binding{before.memory, prot};
    }
    return before;
}

// --- before an exploration

void ProgramMemory::adopt(AddressSpace& space, VirtAddr at, u32 pages, Prot prot, const AddressSpace* shares) {
    now_ = start_;
    Space& model = space_of(&space);
    for (u32 i = 0; i < pages; ++i) {
        const VirtAddr va = at + i * kPageSize;
        const auto mapped = oracle_walk(space.root().value(), va.value());
        u32 memory = 0;
        if (shares != nullptr) {
            memory = states(space_of(shares), page_of(va))[0].binding.memory;
            now_.memory[memory].shared = true;
        } else {
            Memory fresh;
            if (mapped) {
                contents_.emplace_back();
                std::memcpy(contents_.back().data(), sim::ram_at(mapped->phys), kPageSize);
                fresh.initial = contents_.back().data();
            }
            memory = new_memory(std::move(fresh));
        }
        model.pages[page_of(va)] = {State{{memory, prot}, 0}};
    }
    start_ = now_;
}

void ProgramMemory::may_be_unmapped(AddressSpace& space, VirtAddr at, u32 pages) {
    now_ = start_;
    for (u32 i = 0; i < pages; ++i)
        now_.memory[states(space_of(&space), page_of(at + i * kPageSize))[0].binding.memory].kept = true;
    start_ = now_;
}

void ProgramMemory::adopt(Page* page) {
    now_ = start_;
    const Pfn pfn = page_to_pfn(page);
    contents_.emplace_back();
    std::memcpy(contents_.back().data(), sim::ram_at(pfn.phys().value()), kPageSize);
    const u32 memory = new_memory({contents_.back().data(), false, false, {}});
    space_of(nullptr).pages[pfn.value()] = {State{{memory, Prot::read | Prot::write}, 0}};
    start_ = now_;
}

void ProgramMemory::restart() { now_ = start_; }

// --- the state

ProgramMemory::Space& ProgramMemory::space_of(const AddressSpace* space) {
    const auto [it, fresh] = now_.spaces.try_emplace(space);
    if (fresh) it->second.index = now_.made++;
    return it->second;
}

ProgramMemory::Space& ProgramMemory::running() {
    const AddressSpace* const space = active_space();
    if (space == nullptr) not_allowed("accesses a program's memory, and runs none");
    return space_of(space);
}

u32 ProgramMemory::new_memory(Memory memory) {
    now_.memory.push_back(std::move(memory));
    return static_cast<u32>(now_.memory.size()) - 1;
}

std::vector<ProgramMemory::State>& ProgramMemory::states(Space& space, u32 page) {
    std::vector<State>& list = space.pages[page];
    if (list.empty()) list.push_back({});
    return list;
}

std::vector<ProgramMemory::Binding> ProgramMemory::bindings(Space& space, u32 page) {
    std::vector<Binding> all;
    for (const State& state : states(space, page))
        add_new(all, state.binding);
    return all;
}

// Each change in progress may take effect now. Accesses and forks in progress see the bindings that result.
void ProgramMemory::settle(Space& space, u32 page) {
    std::vector<State>& list = states(space, page);
    for (u32 i = 0; i < list.size(); ++i)
        for (const Change& change : space.changes) {
            if (page < change.first || page >= change.end || (list[i].applied & change.bit) != 0) continue;
            add_new(list, {change.after(page, list[i].binding), list[i].applied | change.bit});
        }
    for (const Binding binding : bindings(space, page)) {
        for (Access& access : space.accesses)
            if (access.page == page) see(access, binding);
        for (Fork& fork : space.forks)
            see(fork, page, binding);
    }
}

void ProgramMemory::see(Access& access, Binding binding) {
    add_new(access.seen, binding);
    if (!access.by_kernel || !binding.allows(access.kind) || contains(access.memory, binding.memory)) return;
    access.memory.push_back(binding.memory);
    for (const u32 value : word(binding.memory, access.offset))
        add(access.values, value);
    Values others;
    add_writes_in_progress(binding.memory, access.offset, others);
    if (!others.empty()) access.disturbed = true;
    if (access.writes) put_value(binding.memory, access.offset, *access.writes, false);
}

// The memory that an access may reach now.
std::vector<u32> ProgramMemory::reach(Space& space, u32 page, FaultAccess kind) {
    std::vector<u32> all;
    for (const Binding& binding : bindings(space, page))
        if (binding.allows(kind)) add(all, binding.memory);
    return all;
}

// The child gets the same memory if it is shared, else a copy.
void ProgramMemory::see(Fork& fork, u32 page, Binding binding) {
    if (binding.memory != 0 && !now_.memory[binding.memory].shared) {
        u32& copy = fork.copies[binding.memory];
        if (copy == 0) copy = new_memory(Memory{now_.memory[binding.memory]});
        binding.memory = copy;
    }
    add_new(fork.pages[page], binding);
}

ProgramMemory::Values& ProgramMemory::word(u32 memory, u32 offset) {
    if (memory == 0) throw std::logic_error{"a word of no memory"};
    Memory& page = now_.memory[memory];
    const auto [it, fresh] = page.words.try_emplace(offset);
    if (fresh) {
        u32 value = 0;
        if (page.initial != nullptr) std::memcpy(&value, page.initial + offset, sizeof value);
        it->second = {value};
    }
    return it->second;
}

// A store has become visible, or may become visible at any moment from now on.
void ProgramMemory::put_value(u32 memory, u32 offset, u32 value, bool certain) {
    Values& values = word(memory, offset);
    if (certain) values.clear();
    add(values, value);
    add_writes_in_progress(memory, offset, values);
    for (auto& [address, space] : now_.spaces) {
        for (Access& access : space.accesses) {
            if (access.offset != offset || !contains(access.memory, memory)) continue;
            if (access.writes != value) add(access.values, value);
            access.disturbed = true;
        }
        for (const Fork& fork : space.forks)
            if (const auto it = fork.copies.find(memory); it != fork.copies.end()) add(word(it->second, offset), value);
    }
}

// The values that accesses of the kernel may store to the word at any moment.
void ProgramMemory::add_writes_in_progress(u32 memory, u32 offset, Values& values) const {
    for (const auto& [address, space] : now_.spaces)
        for (const Access& access : space.accesses)
            if (access.writes && access.offset == offset && contains(access.memory, memory))
                add(values, *access.writes);
}

// The word has been seen to have this value. It is known then, unless a store that the model does not know the moment
// of may come, or have come, later.
void ProgramMemory::seen_value(u32 memory, u32 offset, u32 value) {
    Values later;
    add_writes_in_progress(memory, offset, later);
    if (!later.empty()) return;
    for (const auto& [address, space] : now_.spaces)
        for (const Fork& fork : space.forks)
            for (const auto& [from, copy] : fork.copies)
                if (copy == memory) return;
    word(memory, offset) = {value};
}

// --- accesses of programs

// The newest store of this CPU that is still in its buffer and goes to that word.
const ProgramMemory::Store* ProgramMemory::newest_own(const Space& space, u32 page, u32 offset,
                                                      const std::vector<u32>& where) const {
    const Store* newest = nullptr;
    sim::machine().here().buffer.each([&](const sim::PendingStore& pending) {
        if (pending.note == 0) return;
        const Store& store = now_.stores[pending.note - 1];
        const bool same_memory =
            std::any_of(where.begin(), where.end(), [&](const u32 memory) { return contains(store.memory, memory); });
        const bool same_page = store.space == space.index && store.page == page && page != kPinned;
        if (store.offset == offset && (same_memory || same_page)) newest = &store;
    });
    return newest;
}

// What a load may give.
ProgramMemory::Values ProgramMemory::expected(const Space& space, u32 page, u32 offset, const std::vector<u32>& where) {
    Values values;
    const Store* const own = newest_own(space, page, offset, where);
    if (own != nullptr) add(values, own->value);
    if (own == nullptr || where.size() > 1 || own->memory.size() > 1)
        for (const u32 memory : where)
            for (const u32 one : word(memory, offset))
                add(values, one);
    return values;
}

// A load has taken place just now.
void ProgramMemory::judge_load(const Space& space, u32 page, VirtAddr at, const std::vector<u32>& where, u32 value) {
    const u32 offset = at.page_offset();
    for (const u32 memory : where)
        sim::touch(sim::place::word_of_program(memory, offset), false);
    const Values allowed = expected(space, page, offset, where);
    if (!contains(allowed, value))
        not_allowed(sim::text("loads {:x} from {:08x}; the memory of {} has {} there", value, at.value(),
                              &space == &now_.spaces[nullptr] ? "its page" : "the program", listed(allowed)));
    if (where.size() == 1 && allowed.size() > 1 && newest_own(space, page, offset, where) == nullptr)
        seen_value(where[0], offset, value);
}

void ProgramMemory::loaded(VirtAddr va, u32 value) {
    Space& space = running();
    sim::touch(sim::place::program(space.index), false);
    const std::vector<u32> where = reach(space, page_of(va), FaultAccess::read);
    if (where.empty())
        not_allowed(sim::text("loads {:x} from {:08x}, where nothing is mapped for reading", value, va.value()));
    judge_load(space, page_of(va), va, where, value);
}

u32 ProgramMemory::stored(VirtAddr va, u32 value) {
    Space& space = running();
    sim::touch(sim::place::program(space.index), false);
    Store store{space.index, page_of(va), va.page_offset(), value, reach(space, page_of(va), FaultAccess::write)};
    if (store.memory.empty())
        not_allowed(sim::text("stores {:x} to {:08x}, where nothing is mapped for writing", value, va.value()));
    now_.stores.push_back(std::move(store));
    return static_cast<u32>(now_.stores.size());
}

void ProgramMemory::drained(u32 note) {
    ProgramMemory& model = *the_model;
    const Store store = model.now_.stores[note - 1];
    sim::touch(sim::place::program(store.space), false);
    for (const u32 memory : store.memory) {
        sim::touch(sim::place::word_of_program(memory, store.offset), true);
        model.put_value(memory, store.offset, store.value, store.memory.size() == 1);
    }
}

void ProgramMemory::copied(VirtAddr word, u32 value, FaultAccess access) {
    ProgramMemory* const model = current();
    if (model == nullptr) return;
    if (access == FaultAccess::read)
        model->loaded(word, value);
    else
        drained(model->stored(word, value)); // a copy of the kernel bypasses the store buffer
}

u32 ProgramMemory::begin(Space& space, u32 page, u32 offset, FaultAccess kind, bool by_kernel,
                         std::optional<u32> writes) {
    const u32 number = now_.numbers++;
    space.accesses.push_back({number, page, offset, kind, by_kernel, writes});
    Access& access = space.accesses.back();
    for (const Binding& binding : bindings(space, page))
        see(access, binding);
    if (by_kernel) {
        // Not what see() has found: the store buffer of this CPU comes first.
        access.values.clear(); // of a write: those that others store meanwhile
        if (!writes) access.values = expected(space, page, offset, access.memory);
        for (const u32 memory : access.memory)
            add_writes_in_progress(memory, offset, access.values);
    }
    return number;
}

ProgramMemory::Access& ProgramMemory::access_of(Space& space, u32 number) {
    return *std::find_if(space.accesses.begin(), space.accesses.end(),
                         [&](const Access& access) { return access.number == number; });
}

u32 ProgramMemory::begin_access(VirtAddr va, FaultAccess access) {
    sim::touch(sim::place::program(running().index), false);
    return begin(running(), page_of(va), va.page_offset(), access, false, {});
}

void ProgramMemory::end_access(u32 number) {
    std::erase_if(running().accesses, [&](const Access& access) { return access.number == number; });
}

void ProgramMemory::killed(u32 number) {
    Space& space = running();
    sim::touch(sim::place::program(space.index), false);
    const Access access = access_of(space, number);
    end_access(number);
    if (std::all_of(access.seen.begin(), access.seen.end(),
                    [&](const Binding& binding) { return binding.allows(access.kind); }))
        not_allowed(sim::text("is killed by a {} of page {:x}, which allowed it all the time", name_of(access.kind),
                              access.page));
}

// --- accesses of the kernel for programs

// Ends an access of the kernel: it was made (and, a read, has given `read`), or refused, or not tried.
void ProgramMemory::end(Space& space, u32 number, Done done, std::optional<u32> read) {
    const Access access = access_of(space, number);
    std::erase_if(space.accesses, [&](const Access& one) { return one.number == number; });
    const auto allows = [&](const Binding& binding) { return binding.allows(access.kind); };
    const VirtAddr va{access.page << kPageShift | access.offset}; // of a page of the kernel: in the frame
    if (done != Done::yes) {
        if (done == Done::no && std::all_of(access.seen.begin(), access.seen.end(), allows))
            not_allowed(
                sim::text("cannot {} {:08x} in a copy, and could all the time", name_of(access.kind), va.value()));
        if (access.writes)
            for (const u32 memory : access.memory)
                take_back(memory, access.offset, *access.writes);
        return;
    }
    if (std::none_of(access.seen.begin(), access.seen.end(), allows))
        not_allowed(sim::text("can {} {:08x} in a copy, and never could", name_of(access.kind), va.value()));
    if (read && !contains(access.values, *read))
        not_allowed(sim::text("reads {:x} in a copy from {:08x}; the memory had {} there", *read, va.value(),
                              listed(access.values)));
    if (access.memory.size() != 1) return;
    const u32 memory = access.memory[0];
    if (read && !access.disturbed) seen_value(memory, access.offset, *read);
    if (!access.writes) return;
    // The values of others that the word had before the call are gone; those that came during it may have come later.
    Values& values = word(memory, access.offset);
    values = access.values;
    add(values, *access.writes);
    add_writes_in_progress(memory, access.offset, values);
}

// A write in progress was refused: its value is in no word.
void ProgramMemory::take_back(u32 memory, u32 offset, u32 value) {
    std::erase(word(memory, offset), value);
    for (auto& [address, space] : now_.spaces) {
        for (Access& access : space.accesses)
            if (access.offset == offset && contains(access.memory, memory)) std::erase(access.values, value);
        for (const Fork& fork : space.forks)
            if (const auto it = fork.copies.find(memory); it != fork.copies.end())
                std::erase(word(it->second, offset), value);
    }
}

// call(words) makes the access and returns the number of bytes that it did not copy; `next` says why not. Returns the
// number of words that it did copy.
template <typename F>
u32 ProgramMemory::kernel_access(const AddressSpace* space, u32 page, u32 offset, u32 words, const u32* writes,
                                 F&& call, const Done& next) {
    const FaultAccess kind = writes != nullptr ? FaultAccess::write : FaultAccess::read;
    const u64 place = sim::place::program(space_of(space).index);
    sim::touch(place, true);
    std::vector<u32> numbers, values(words);
    for (u32 i = 0; i < words; ++i) {
        const u32 at = offset + 4 * i;
        numbers.push_back(begin(space_of(space), page + at / kPageSize, at % kPageSize, kind, true,
                                writes != nullptr ? std::optional{writes[i]} : std::nullopt));
    }
    const u32 left = call(values.data());
    const u32 done = words - (left + 3) / 4;
    sim::touch(place, true);
    for (u32 i = 0; i < words; ++i)
        end(space_of(space), numbers[i],
            i < done    ? Done::yes
            : i == done ? next
                        : Done::not_tried,
            i < done && writes == nullptr ? std::optional{values[i]} : std::nullopt);
    return done;
}

std::optional<u32> ProgramMemory::read(AddressSpace& space, VirtAddr va) {
    u32 value = 0;
    const u32 done = kernel_access(&space, page_of(va), va.page_offset(), 1, nullptr, [&](u32* word) {
        const u32 left = read_space(space, word, UserAddr{va.value()}, sizeof *word);
        value = *word;
        return left;
    });
    return done == 1 ? std::optional{value} : std::nullopt;
}

bool ProgramMemory::write(AddressSpace& space, VirtAddr va, u32 value) {
    return kernel_access(&space, page_of(va), va.page_offset(), 1, &value,
                         [&](u32*) { return write_space(space, UserAddr{va.value()}, &value, sizeof value); }) == 1;
}

u32 ProgramMemory::copy_in(VirtAddr va, std::vector<u32>& words) {
    const u32 bytes = static_cast<u32>(words.size() * sizeof(u32));
    return kernel_access(active_space(), page_of(va), va.page_offset(), bytes / 4, nullptr, [&](u32* values) {
        const u32 left = copy_from_user(words.data(), UserAddr{va.value()}, bytes);
        std::memcpy(values, words.data(), bytes);
        return left;
    });
}

u32 ProgramMemory::copy_out(VirtAddr va, const std::vector<u32>& words) {
    const u32 bytes = static_cast<u32>(words.size() * sizeof(u32));
    return kernel_access(active_space(), page_of(va), va.page_offset(), bytes / 4, words.data(),
                         [&](u32*) { return copy_to_user(UserAddr{va.value()}, words.data(), bytes); });
}

std::optional<u32> ProgramMemory::copy_in(VirtAddr va) {
    std::vector<u32> word(1);
    return copy_in(va, word) == 1 ? std::optional{word[0]} : std::nullopt;
}

bool ProgramMemory::copy_out(VirtAddr va, u32 value) { return copy_out(va, std::vector{value}) == 1; }

std::optional<std::string> ProgramMemory::copy_string(VirtAddr va, u32 size) {
    std::string text(size, '?');
    Result<u32> length = Error::bad_address;
    Done next = Done::no;
    const auto call = [&](u32* values) -> u32 {
        length = strncpy_from_user(text.data(), UserAddr{va.value()}, size);
        if (!length) return size;
        next = Done::not_tried; // nothing is promised of what follows the NUL
        std::memcpy(values, text.data(), size);
        return size - std::min(size, (*length + 1) / 4 * 4);
    };
    kernel_access(active_space(), page_of(va), va.page_offset(), size / 4, nullptr, call, next);
    if (!length) return std::nullopt;
    if (*length != text.find('\0') && !(*length == size && text.find('\0') == std::string::npos))
        not_allowed(sim::text("copies a string whose length is not {}", *length));
    return text.substr(0, *length);
}

ProgramMemory::Pin ProgramMemory::pin(AddressSpace& space, VirtAddr va) {
    Pin pin{nullptr, &space, page_of(va), {}};
    const u64 place = sim::place::program(space_of(&space).index);
    sim::touch(place, true);
    const u32 number = begin(space_of(&space), page_of(va), va.page_offset(), FaultAccess::write, false, {});
    const Result<u32> pinned = get_user_pages(space, UserAddr{va.value() & kPageMask}, 1, true, &pin.page);
    sim::touch(place, true);
    const Access access = access_of(space_of(&space), number);
    end(space_of(&space), number, pinned ? Done::yes : Done::no, {});
    if (!pinned) return {};
    for (const Binding& binding : access.seen)
        if (binding.allows(FaultAccess::write)) add(pin.memory, binding.memory);
    return pin;
}

// --- accesses of the kernel through windows

u32 ProgramMemory::load_at(Space& space, u32 page, const std::vector<u32>& where, VirtAddr at) {
    const u32 value = hal::load<u32>(at);
    sim::touch(sim::place::program(space.index), false);
    judge_load(space, page, at, where, value);
    return value;
}

void ProgramMemory::store_at(const Space& space, u32 page, const std::vector<u32>& where, VirtAddr at, u32 value) {
    sim::schedule_point(sim::Point::memory);
    u8* const to = sim::machine().access(at, sizeof value, sim::Access::write);
    sim::touch(sim::place::program(space.index), false);
    now_.stores.push_back({space.index, page, at.page_offset(), value, where});
    sim::machine().store(to, &value, sizeof value, static_cast<u32>(now_.stores.size()));
}

u32 ProgramMemory::load(const Pin& pin, u32 offset) {
    const LocalMap map{pin.page};
    return load_at(space_of(pin.space), kPinned, pin.memory, map.addr() + offset);
}

void ProgramMemory::store(const Pin& pin, u32 offset, u32 value) {
    const LocalMap map{pin.page};
    store_at(space_of(pin.space), kPinned, pin.memory, map.addr() + offset, value);
}

bool ProgramMemory::knows(const Page* page) const {
    const auto kernel = start_.spaces.find(nullptr);
    return kernel != start_.spaces.end() && kernel->second.pages.contains(page_to_pfn(page).value());
}

u32 ProgramMemory::load(const Page* page, VirtAddr at) {
    const u32 number = page_to_pfn(page).value();
    Space& kernel = space_of(nullptr);
    return load_at(kernel, number, reach(kernel, number, FaultAccess::read), at);
}

void ProgramMemory::store(const Page* page, VirtAddr at, u32 value) {
    const u32 number = page_to_pfn(page).value();
    Space& kernel = space_of(nullptr);
    store_at(kernel, number, reach(kernel, number, FaultAccess::write), at, value);
}

std::vector<u32> ProgramMemory::copy_from(Page* page, u32 offset, u32 words) {
    std::vector<u32> result(words);
    kernel_access(nullptr, page_to_pfn(page).value(), offset, words, nullptr, [&](u32* values) {
        memcpy_from_page(values, page, offset, words * 4);
        std::copy_n(values, words, result.begin());
        return 0;
    });
    return result;
}

void ProgramMemory::copy_to(Page* page, u32 offset, const std::vector<u32>& words) {
    const u32 number = static_cast<u32>(words.size());
    kernel_access(nullptr, page_to_pfn(page).value(), offset, number, words.data(), [&](u32*) {
        memcpy_to_page(page, offset, words.data(), number * 4);
        return 0;
    });
}

void ProgramMemory::unpin(const Pin& pin) { put_page(pin.page); }

// --- calls that change the memory of a program

template <typename F> Status ProgramMemory::change(AddressSpace& space, Change wanted, F&& call) {
    const u64 place = sim::place::program(space_of(&space).index);
    sim::touch(place, true);
    {
        Space& model = space_of(&space);
        u32 used = 0;
        for (const Change& other : model.changes)
            used |= other.bit;
        wanted.bit = ~used & (used + 1);
        model.changes.push_back(wanted);
        for (u32 page = wanted.first; page < wanted.end; ++page)
            settle(model, page);
    }
    const Status status = call();
    sim::touch(place, true);
    Space& model = space_of(&space);
    std::erase_if(model.changes, [&](const Change& one) { return one.bit == wanted.bit; });
    for (u32 page = wanted.first; page < wanted.end; ++page) {
        std::vector<State> left;
        for (State state : states(model, page)) {
            if (((state.applied & wanted.bit) != 0) != static_cast<bool>(status)) continue;
            state.applied &= ~wanted.bit;
            add_new(left, state);
        }
        model.pages[page] = left;
    }
    return status;
}

Status ProgramMemory::map(AddressSpace& space, VirtAddr at, u32 pages, Prot prot, MapKind kind) {
    Change wanted{Change::Kind::map, 0, page_of(at), page_of(at) + pages, prot, {}};
    for (u32 i = 0; i < pages; ++i)
        wanted.fresh.push_back(new_memory({nullptr, kind == MapKind::shared, false, {}}));
    return change(space, wanted, [&]() -> Status {
        const Result<VirtAddr> mapped = space.map(at, pages * kPageSize, prot, kind, true);
        if (!mapped) return mapped.error();
        return {};
    });
}

Status ProgramMemory::unmap(AddressSpace& space, VirtAddr at, u32 pages) {
    return take_away(space, at, pages, [&] { return space.unmap(at, pages * kPageSize); });
}

Status ProgramMemory::take_away(AddressSpace& space, VirtAddr at, u32 pages, const std::function<Status()>& call) {
    return change(space, {Change::Kind::unmap, 0, page_of(at), page_of(at) + pages, Prot::none, {}}, call);
}

Status ProgramMemory::protect(AddressSpace& space, VirtAddr at, u32 pages, Prot prot) {
    return change(space, {Change::Kind::protect, 0, page_of(at), page_of(at) + pages, prot, {}},
                  [&] { return space.protect(at, pages * kPageSize, prot); });
}

AddressSpace* ProgramMemory::fork(AddressSpace& space) {
    const u64 place = sim::place::program(space_of(&space).index);
    sim::touch(place, true);
    const u32 number = now_.numbers++;
    {
        Space& model = space_of(&space);
        Fork& fork = model.forks.emplace_back(Fork{number, {}, {}});
        std::vector<u32> pages;
        for (const auto& [page, list] : model.pages)
            pages.push_back(page);
        for (const u32 page : pages)
            for (const Binding& binding : bindings(model, page))
                see(fork, page, binding);
        // The caller's own stores come before the fork.
        sim::machine().here().buffer.each([&](const sim::PendingStore& pending) {
            if (pending.note == 0) return;
            const Store& store = now_.stores[pending.note - 1];
            for (const u32 memory : store.memory)
                if (const auto it = fork.copies.find(memory); it != fork.copies.end()) {
                    Values& values = word(it->second, store.offset);
                    if (store.memory.size() == 1) values.clear();
                    add(values, store.value);
                    add_writes_in_progress(memory, store.offset, values);
                }
        });
    }
    const Result<AddressSpace*> child = space.fork();
    sim::touch(place, true);
    Space& model = space_of(&space);
    const auto it =
        std::find_if(model.forks.begin(), model.forks.end(), [&](const Fork& one) { return one.number == number; });
    const Fork fork = *it;
    model.forks.erase(it);
    if (!child) return nullptr;
    Space& copy = space_of(*child);
    for (const auto& [page, bindings] : fork.pages)
        for (const Binding& binding : bindings)
            copy.pages[page].push_back({binding, 0});
    return *child;
}

void ProgramMemory::put(AddressSpace* space) {
    sim::touch(sim::place::program(space_of(space).index), true);
    now_.spaces.erase(space);
    space->put();
}

// --- the end

// All words of a page of the kernel.
void ProgramMemory::check_page(u32 number, const Memory& memory) {
    const u8* const frame = sim::ram_at(u64{number} << kPageShift);
    std::array<u8, kPageSize> page;
    std::memcpy(page.data(), frame, kPageSize);
    for (const auto& [offset, values] : memory.words) {
        u32 value;
        std::memcpy(&value, frame + offset, sizeof value);
        if (!contains(values, value))
            not_allowed(sim::text("left {:x} in frame {:x}, offset {:x}, of a page that has {} there", value, number,
                                  offset, listed(values)));
        std::memcpy(page.data() + offset, memory.initial + offset, sizeof value);
    }
    if (std::memcmp(page.data(), memory.initial, kPageSize) == 0) return;
    const auto at = std::mismatch(page.begin(), page.end(), memory.initial).first - page.begin();
    not_allowed(sim::text("stored to frame {:x}, offset {:x}, of a page where nobody did", number, at));
}

void ProgramMemory::check_end() const {
    for (const auto& [space, model] : now_.spaces)
        for (const auto& [page, list] : model.pages) {
            if (list.size() != 1) continue;
            const Binding binding = list[0].binding;
            if (space == nullptr) {
                check_page(page, now_.memory[binding.memory]);
                continue;
            }
            const auto mapped = oracle_walk(space->root().value(), page << kPageShift);
            if (binding.memory == 0) {
                if (mapped) not_allowed(sim::text("left page {:x} mapped, which is unmapped", page));
                continue;
            }
            const Memory& memory = now_.memory[binding.memory];
            // An entry without rights keeps its frame, and an object its pages.
            if (!mapped && (binding.prot == Prot::none || memory.shared || memory.kept)) continue;
            for (const auto& [offset, values] : memory.words) {
                const u32 value = mapped ? sim::peek<u32>(PhysAddr{mapped->phys + offset}) : 0;
                if (!contains(values, value))
                    not_allowed(sim::text("left {:x} at page {:x}, offset {:x}, of a program that has {} there", value,
                                          page, offset, listed(values)));
            }
        }
}

} // namespace loft::test
