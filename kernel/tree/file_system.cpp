// Names, the table of inodes, and writing to files. Contract: file_system.hpp.
#include "kernel/tree/file_system.hpp"

#include "arch/base/panic.hpp"
#include "mm/cache/swap_area.hpp"
#include "mm/windows/highmem.hpp"

#include <algorithm>

namespace loft {
namespace {

// One reference to an inode until the end of the scope; it does not free an inode without names: names_ is held.
class Held : NotCopyable<Held> {
  public:
    explicit Held(Inode* inode) : inode_{inode} {}
    ~Held() {
        if (inode_ != nullptr) inode_->put();
    }
    Inode& operator*() const { return *inode_; }
    Inode* operator->() const { return inode_; }
    explicit operator bool() const { return inode_ != nullptr; }

  private:
    Inode* inode_;
};

constinit hal::Atomic<u32> last_id{0};

} // namespace

FileSystem::FileSystem() : id_{last_id.fetch_add(1) + 1} {}

// --- The table.

void FileSystem::insert(Inode& inode) {
    chain_of(inode.number()).push_front(inode);
    ++count_;
    nameless_ += inode.links() == 0;
    forget_unused();
}

// The inode of a number, which an entry has named.
FileSystem::Found FileSystem::get(u32 number) {
    Inode* found = nullptr;
    chain_of(number).each([&](Inode& inode) {
        if (inode.number() == number) found = &inode;
        return found == nullptr;
    });
    if (found == nullptr) {
        const Found loaded = load(number);
        if (!loaded) return loaded;
        found = *loaded;
        found->get();
        insert(*found);
        return found;
    }
    if (found->links() == 0) return Errno::uclean; // an entry refers to it all the same
    found->get();
    return found;
}

void FileSystem::forget_unused() {
    if (!reloads_ || count_ <= kMostUnused) return;
    for (Inode::InTable& chain : table_)
        while (Inode* const unused =
                   chain.take([](const Inode& inode) { return inode.refs() == 1 && inode.links() != 0; })) {
            --count_;
            unused->put();
        }
}

// Frees what has neither names nor users, but for the list of dirty objects. The table has the only reference then:
// nobody can get another one. True: something was freed.
bool FileSystem::reap() {
    if (nameless_ == 0) return false;
    const u32 before = nameless_;
    for (u32 last = 0; nameless_ != 0 && nameless_ != last;) { // a directory's parent may have had no other user
        last = nameless_;
        for (Inode::InTable& chain : table_)
            while (Inode* const dead =
                       chain.take([](Inode& inode) { return inode.links() == 0 && inode.leave_dirty_list(); })) {
                --count_;
                --nameless_;
                free(*dead);
                if (dead->parent_ != nullptr) dead->parent_->put();
                dead->put();
            }
    }
    return nameless_ != before;
}

bool FileSystem::free_unused() {
    MutexGuard guard{names_};
    return reap();
}

void FileSystem::release(Inode* inode) {
    FileSystem& system = inode->system();
    // Who removes the last name from here on looks for users after it has counted, maybe before put(). Then the count
    // differs after it.
    const u32 before = system.removed_.load();
    const bool nameless = inode->links() == 0;
    inode->put();
    if (nameless || system.removed_.load() != before) static_cast<void>(system.free_unused());
}

Errno FileSystem::empty_table() {
    MutexGuard guard{names_};
    reap();
    for (Inode::InTable& chain : table_)
        if (!chain.each([](const Inode& inode) { return inode.refs() == 1; })) return Errno::busy;
    for (Inode::InTable& chain : table_)
        while (Inode* const unused = chain.pop_front()) {
            --count_;
            unused->put();
        }
    return Errno{};
}

void FileSystem::set_covered(Inode& directory, bool covered) {
    MutexGuard guard{names_};
    directory.covered_ = covered;
}

Errno FileSystem::set_links(Inode& inode, u32 links) {
    if (const Errno error = write_links(inode, links); is_error(error)) return error;
    nameless_ += (links == 0) - (inode.links() == 0);
    inode.links_.store(links);
    if (links == 0) removed_.fetch_add(1);
    return Errno{};
}

// A name of the inode in `directory` has gone. A directory has one name only.
Errno FileSystem::drop_link(Inode& inode, Inode& directory) {
    const Errno error = set_links(inode, inode.is_directory() || inode.links() == 0 ? 0 : inode.links() - 1);
    if (is_error(error) || !inode.is_directory()) return error;
    directory.get();
    inode.parent_ = &directory;
    return Errno{};
}

// --- Looking up.

Errno FileSystem::check(Inode& directory, std::string_view name, bool change) {
    LOFT_ASSERT(&directory.system() == this);
    if (!directory.is_directory()) return Errno::notdir;
    if (name.size() > kMostName) return Errno::nametoolong;
    if (directory.links() == 0) return Errno::noent;
    if (change && is_read_only()) return Errno::rofs;
    return Errno{};
}

FileSystem::Found FileSystem::find(Inode& directory, std::string_view name) {
    const Result<Entry, Errno> entry = find_entry(directory, name);
    if (!entry) return entry.error();
    return entry->number == 0 ? Found{Errno::noent} : get(entry->number);
}

FileSystem::Found FileSystem::root() {
    MutexGuard guard{names_};
    return get(root_number());
}

FileSystem::Found FileSystem::lookup(Inode& directory, std::string_view name) {
    MutexGuard guard{names_};
    if (const Errno error = check(directory, name, false); is_error(error)) return error;
    return find(directory, name);
}

FileSystem::Found FileSystem::parent(Inode& directory) {
    MutexGuard guard{names_};
    if (Inode* const parent = directory.parent_; parent != nullptr) {
        parent->get();
        return parent;
    }
    if (const Errno error = check(directory, {}, false); is_error(error)) return error;
    if (directory.number() == root_number()) return get(root_number());
    const Result<u32, Errno> number = parent_number(directory);
    return number ? get(*number) : Found{number.error()};
}

Errno FileSystem::list(Inode& directory, u64& position, ListVisitor& visitor) {
    MutexGuard guard{names_};
    if (!directory.is_directory()) return Errno::notdir;
    return directory.links() == 0 ? Errno::noent : list_entries(directory, position, visitor);
}

// --- Changing names.

FileSystem::Found FileSystem::create(Inode& directory, std::string_view name, u32 mode, bool mine,
                                     std::string_view target) {
    MutexGuard guard{names_};
    reap();
    if (const Errno error = check(directory, name, false); is_error(error)) return error;
    const Result<Entry, Errno> entry = find_entry(directory, name);
    if (!entry) return entry.error();
    if (entry->number != 0) return mine ? Found{Errno::exist} : get(entry->number);
    if (is_read_only()) return Errno::rofs;
    const bool is_directory = kind_of_mode(mode) == InodeKind::directory;
    if (is_directory && directory.links() >= most_links()) return Errno::mlink;
    const Found made = make(directory, mode, target);
    if (!made) return made.error();
    Inode& inode = **made;
    inode.get();
    insert(inode);
    Errno error = is_directory ? set_links(directory, directory.links() + 1) : Errno{};
    if (!is_error(error)) {
        error = add_entry(directory, name, inode);
        if (is_error(error) && is_directory) (void)set_links(directory, directory.links() - 1);
    }
    if (!is_error(error)) return &inode;
    (void)set_links(inode, 0);
    inode.put();
    reap();
    return error;
}

Errno FileSystem::link(Inode& directory, std::string_view name, Inode& inode) {
    MutexGuard guard{names_};
    reap();
    if (const Errno error = check(directory, name, false); is_error(error)) return error;
    const Result<Entry, Errno> entry = find_entry(directory, name);
    if (!entry) return entry.error();
    if (entry->number != 0) return Errno::exist;
    if (is_read_only()) return Errno::rofs;
    if (&inode.system() != this) return Errno::xdev;
    if (inode.is_directory()) return Errno::perm;
    if (inode.links() == 0) return Errno::noent;
    if (inode.links() >= most_links()) return Errno::mlink;
    if (const Errno error = set_links(inode, inode.links() + 1); is_error(error)) return error;
    const Errno error = add_entry(directory, name, inode);
    if (is_error(error)) (void)drop_link(inode, directory);
    return error;
}

Errno FileSystem::remove(Inode& directory, std::string_view name, bool is_directory) {
    MutexGuard guard{names_};
    if (const Errno error = check(directory, name, true); is_error(error)) return error;
    const Found found = find(directory, name);
    if (!found) return found.error();
    {
        const Held inode{*found};
        if (inode->is_directory() != is_directory) return is_directory ? Errno::notdir : Errno::isdir;
        if (inode->is_frozen()) return Errno::perm;
        if (is_directory) {
            if (inode->covered_ || inode->number() == root_number() || &*inode == &directory) return Errno::busy;
            const Result<bool, Errno> empty = is_empty(*inode);
            if (!empty) return empty.error();
            if (!*empty) return Errno::notempty;
        }
        if (const Errno error = remove_entry(directory, name); is_error(error)) return error;
        if (is_directory && directory.links() > 2)
            if (const Errno error = set_links(directory, directory.links() - 1); is_error(error)) return error;
        if (const Errno error = drop_link(*inode, directory); is_error(error)) return error;
    }
    reap();
    return Errno{};
}

Errno FileSystem::unlink(Inode& directory, std::string_view name) { return remove(directory, name, false); }
Errno FileSystem::rmdir(Inode& directory, std::string_view name) { return remove(directory, name, true); }

// True if `directory` is `above` or below it. A disk with a circle of directories is damaged: the walk ends.
Result<bool, Errno> FileSystem::is_below(Inode& directory, Inode& above) {
    constexpr u32 kMostDepth = 1u << 15;
    directory.get();
    Inode* at = &directory;
    for (u32 depth = 0; depth < kMostDepth; ++depth) {
        const Held here{at};
        if (at == &above) return true;
        if (at->number() == root_number()) return false;
        const Result<u32, Errno> up = parent_number(*at);
        if (!up) return up.error();
        const Found next = get(*up);
        if (!next) return next.error();
        at = *next;
        if (!at->is_directory()) {
            at->put();
            return Errno::uclean;
        }
    }
    at->put();
    return Errno::uclean;
}

// Can `target` give its name to `inode`?
Errno FileSystem::may_replace(Inode& to, Inode& target, Inode& inode) {
    if (target.is_directory() && !inode.is_directory()) return Errno::isdir;
    if (!target.is_directory()) return inode.is_directory() ? Errno::notdir : Errno{};
    if (target.covered_ || target.number() == root_number() || &target == &to) return Errno::busy;
    const Result<bool, Errno> empty = is_empty(target);
    if (!empty) return empty.error();
    return *empty ? Errno{} : Errno::notempty;
}

Errno FileSystem::rename(Inode& from, std::string_view old_name, Inode& to, std::string_view new_name, bool replaces) {
    if (&from.system() != &to.system()) return Errno::xdev;
    MutexGuard guard{names_};
    reap();
    const Errno error = move(from, old_name, to, new_name, replaces);
    reap();
    return error;
}

Errno FileSystem::move(Inode& from, std::string_view old_name, Inode& to, std::string_view new_name, bool replaces) {
    if (const Errno error = check(from, old_name, true); is_error(error)) return error;
    if (const Errno error = check(to, new_name, true); is_error(error)) return error;
    const Found found = find(from, old_name);
    if (!found) return found.error();
    const Held inode{*found};
    const Found there = find(to, new_name);
    if (!there && there.error() != Errno::noent) return there.error();
    const Held target{there ? *there : nullptr};
    if (target && !replaces) return Errno::exist;
    const bool is_directory = inode->is_directory(), moves = &from != &to;
    if (is_directory) {
        if (inode->covered_ || inode->number() == root_number()) return Errno::busy;
        const Result<bool, Errno> below = is_below(to, *inode);
        if (!below) return below.error();
        if (*below) return Errno::inval;
    }
    if (target && target->is_directory() && moves) { // above what is renamed, it is not empty
        const Result<bool, Errno> above = is_below(from, *target);
        if (!above) return above.error();
        if (*above) return Errno::notempty;
    }
    if (inode->is_frozen() || (target && target->is_frozen())) return Errno::perm;
    if (target && &*target == &*inode) return Errno{}; // two names of one file: nothing happens
    if (target)
        if (const Errno error = may_replace(to, *target, *inode); is_error(error)) return error;
    const bool one_more = is_directory && moves && !target; // directories in `to`
    if (one_more && to.links() >= most_links()) return Errno::mlink;

    // What the durable name of the target names next is durable before.
    if (target)
        if (const Errno error = settle(); is_error(error)) return error;
    if (one_more)
        if (const Errno error = set_links(to, to.links() + 1); is_error(error)) return error;
    Errno error = target ? change_entry(to, new_name, *inode) : add_entry(to, new_name, *inode);
    if (!is_error(error)) {
        error = settle(); // the new name is durable before the old one goes
        if (!is_error(error) && is_directory && moves) error = set_parent(*inode, to);
        if (!is_error(error)) error = remove_entry(from, old_name);
        if (is_error(error)) { // back, as far as the disk lets it
            if (is_directory && moves) (void)set_parent(*inode, from);
            (void)(target ? change_entry(to, new_name, *target) : remove_entry(to, new_name));
        }
    }
    if (is_error(error)) {
        if (one_more) (void)set_links(to, to.links() - 1);
        return error;
    }
    if (is_directory && (moves || target) && from.links() > 2) error = set_links(from, from.links() - 1);
    if (target && !is_error(error)) error = drop_link(*target, to);
    return error;
}

// --- Data.

// If the file has grown already, either `shown_` says so, or the write is complete: the size was looked up before.
u64 Inode::visible(u64 bytes) {
    const SpinGuard guard{growth_};
    return std::min(bytes, shown_);
}

Errno FileSystem::change(Inode& inode, const InodeChange& what) {
    MutexGuard guard{names_};
    return is_read_only() ? Errno::rofs : write_change(inode, what);
}

Result<u32, Errno> FileSystem::read_link(Inode& link, char* to, u32 bytes) {
    if (link.kind() != InodeKind::link) return Errno::inval;
    const Result<u32, Errno> length = read_target(link, to, bytes);
    return length ? Result<u32, Errno>{static_cast<u32>(std::find(to, to + *length, '\0') - to)} : length;
}

Result<FileSystem::Part, Errno> FileSystem::begin_page(Inode& file, u64 offset, u32 bytes, Page* whole) {
    LOFT_ASSERT(file.size_.is_mine() && bytes != 0);
    if (file.kind() != InodeKind::file) return file.is_directory() ? Errno::isdir : Errno::inval;
    if (is_read_only()) return Errno::rofs;
    if (file.is_frozen()) return Errno::txtbsy;
    const u64 before = file.settled_bytes(), end = offset + bytes;
    if (offset >= most_bytes() || end > most_bytes()) return Errno::fbig;
    // First the page, then its blocks: a page whose blocks are new is in memory until it has been stored, so nobody
    // reads what the blocks had before.
    if (end > before) {
        file.show(before);
        if (const Status grown = file.resize(end); !grown) {
            file.show(~u64{0});
            return errno_of(grown.error());
        }
    }
    const u32 number = static_cast<u32>(offset >> kPageShift);
    const bool is_whole = whole != nullptr && put_whole(file, number, whole);
    const Result<Page*> page = is_whole ? Result<Page*>{whole} : file.page(number);
    Errno error = page ? allocate(file, offset, bytes) : errno_of(page.error());
    if (!is_error(error)) return Part{*page, before};
    if (page) {
        (void)end_page(file, {*page, before}, offset, 0);
    } else {
        (void)file.resize(before);
        file.show(~u64{0});
    }
    return error;
}

// True: the frame is the page, with a reference more for the caller.
bool FileSystem::put_whole(Inode& file, u32 number, Page* whole) {
    get_page(whole);
    if (!file.insert(number, whole)) {
        put_page(whole);
        return false;
    }
    get_page(whole);
    return true;
}

Errno FileSystem::end_page(Inode& file, const Part& part, u64 offset, u32 stored) {
    // Also if nothing was stored: the page may have got blocks.
    if (file.is_written_back()) file.stored_to(static_cast<u32>(offset >> kPageShift));
    put_page(part.page);
    const u64 size = std::max(part.before, stored != 0 ? offset + stored : 0);
    Errno error{};
    if (size < file.settled_bytes()) error = errno_of(file.resize(size));
    if (!is_error(error)) error = set_size(file, size);
    file.show(~u64{0});
    return error;
}

Result<u32, Errno> FileSystem::write(Inode& file, u64 offset, const void* from, u32 bytes) {
    const Result<u32, Errno> written = write_once(file, offset, from, bytes);
    if (written || written.error() != Errno::nospc || !free_unused()) return written;
    return write_once(file, offset, from, bytes);
}

Result<u32, Errno> FileSystem::write_once(Inode& file, u64 offset, const void* from, u32 bytes) {
    MutexGuard guard{file.size_};
    Errno error{};
    u32 done = 0;
    while (done < bytes) {
        const u64 at = offset + done;
        const u32 in_page = static_cast<u32>(at) & ~kPageMask, step = std::min(bytes - done, kPageSize - in_page);
        const Result<Part, Errno> part = begin_page(file, at, step);
        error = part ? Errno{} : part.error();
        if (!part) break;
        memcpy_to_page(part->page, in_page, static_cast<const u8*>(from) + done, step);
        error = end_page(file, *part, at, step);
        if (is_error(error)) break;
        done += step;
    }
    return done != 0 || !is_error(error) ? Result<u32, Errno>{done} : error;
}

Errno FileSystem::truncate(Inode& file, u64 bytes) {
    if (file.kind() != InodeKind::file) return file.is_directory() ? Errno::isdir : Errno::inval;
    if (is_read_only()) return Errno::rofs;
    if (bytes > most_bytes()) return Errno::fbig;
    MutexGuard guard{file.size_};
    const u64 before = file.bytes();
    if (file.is_frozen() && bytes <= file.bytes()) return Errno::txtbsy;
    if (bytes < before) // the pages behind the end cannot come back
        if (const Errno error = may_shrink(file, bytes); is_error(error)) return error;
    if (const Status resized = file.resize(bytes); !resized) return errno_of(resized.error());
    const Errno error = set_size(file, bytes);
    if (is_error(error) && bytes > before) (void)file.resize(before);
    return error;
}

// --- Files as swap areas.

Result<SwapArea*, Errno> FileSystem::swap_on(Inode& file) {
    if (file.is_directory()) return Errno::isdir;
    if (file.kind() != InodeKind::file || disk() == nullptr) return Errno::inval;
    if (is_read_only()) return Errno::rofs;
    {
        MutexGuard guard{file.size_};
        if (file.is_frozen()) return Errno::busy;
        file.set_frozen(true);
    }
    const Result<SwapArea*, Errno> area = open_swap(file);
    if (area)
        file.get();
    else
        file.set_frozen(false);
    return area;
}

// The file is frozen.
Result<SwapArea*, Errno> FileSystem::open_swap(Inode& file) {
    {
        MutexGuard guard{names_}; // whoever removes a name later finds that it is frozen
        if (file.links() == 0) return Errno::noent;
    }
    MutexGuard guard{file.size_};
    // What programs have stored through mappings gets its blocks, and no page is dirty.
    if (const Status written = file.sync(); !written) return errno_of(written.error());
    class Source final : public SwapFile {
      public:
        Source(FileSystem& system, Inode& inode)
            : SwapFile{inode}, system_{system}, inode_{inode}, pages_{static_cast<u32>(
                                                                   std::min<u64>(inode.bytes() >> kPageShift,
                                                                                 SwapArea::kMostSlots))} {}
        u32 pages() const override { return pages_; }
        Result<u32> sector_of(u32 page) override { return system_.sector_of(inode_, page); }

      private:
        FileSystem& system_;
        Inode& inode_;
        const u32 pages_;
    } source{*this, file};
    const Result<SwapArea*> area = SwapArea::open(*disk(), &source);
    if (!area) return area.error() == Error::no_space ? Errno::perm : errno_of(area.error());
    return *area;
}

void FileSystem::swap_off(Inode& file) {
    {
        MutexGuard guard{file.size_};
        file.set_frozen(false);
    }
    release(&file);
}

// --- The whole.

Errno FileSystem::sync() {
    static_cast<void>(free_unused());
    // What became dirty by the first pass, as blocks for pages that programs have stored to, is written by finish().
    const Status written = write_back_all();
    MutexGuard guard{names_};
    const Errno error = finish();
    return written ? error : errno_of(written);
}

} // namespace loft
