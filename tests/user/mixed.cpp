// Mixed work on files and memory, in several processes with several threads each: files are read, written, mapped,
// synced, cut, renamed and removed; private memory is more than the machine has; forks share it; pages are shared by
// all. Every word that is read is compared with what was stored there last.
//     mixed SEED SECONDS MIB FILES DIRECTORY...
// MIB: private memory of one process that does nothing else. FILES: files in each directory, at most 32.
//
// The unit of a store is 1 KiB. Word i of unit u of a file has in its upper 24 bits a hash of the file, of how often
// it was made anew, of u and of i; in its lowest 8 bits the version of the unit, 1 to 255. A unit that was never
// stored to, or was cut off since, is all zeros: its version is 0. So data of another file or place, of a removed
// file, or of an earlier store is seen. The versions are in memory that all processes share. A lock of each chunk of
// 32 units guards them; who changes the size or the name of a file takes all of its locks.
//
// Every thread counts its operations. One that has done none for five minutes hangs.
#include "tests/user/user.hpp"

namespace {

// ------------------------------------------------------------------------------------------------------------- sizes

constexpr u32 kUnit = 1024, kWords = kUnit / 4, kChunk = 32, kChunks = 16, kUnits = kChunk * kChunks;
constexpr u32 kChunkBytes = kChunk * kUnit, kFileBytes = kUnits * kUnit;
constexpr u32 kMostFiles = 32, kMostDirectories = 4;
constexpr u32 kProcesses = 4, kThreads = 3, kWorkers = kProcesses * kThreads;
constexpr u32 kOwnPages = 192; // private pages of each worker
constexpr u32 kHangSeconds = 300, kProgressSeconds = 10;

// --------------------------------------------------------------------------------------------------------- calls

using sys::word;
constexpr u32 kReadWrite = 2, kCreate = 0100, kExclusive = 0200, kNoSpace = 28;
int open(const char* path, u32 flags) { return sys::call(5, word(path), flags, 0644); }
int pread(u32 file, void* to, u32 bytes, u32 offset) { return sys::call(180, file, word(to), bytes, offset, 0); }
int pwrite(u32 file, const void* from, u32 bytes, u32 offset) {
    return sys::call(181, file, word(from), bytes, offset, 0);
}
int unlink(const char* path) { return sys::call(10, word(path)); }
int rename(const char* from, const char* to) { return sys::call(38, word(from), word(to)); }
int ftruncate(u32 file, u32 bytes) { return sys::call(93, file, bytes); }
int lseek_end(u32 file) { return sys::call(19, file, 0, 2); }
int fsync(u32 file) { return sys::call(118, file); }
int fdatasync(u32 file) { return sys::call(148, file); }
void sync() { sys::call(36); }
constexpr u32 kAsync = 1, kSync = 4;
int msync(void* at, u32 bytes, u32 flags) { return sys::call(144, word(at), bytes, flags); }
void* map_file(u32 file, u32 bytes, u32 flags, u32 page) {
    return reinterpret_cast<void*>(sys::call6(192, 0, bytes, sys::kRead | sys::kWrite, flags, file, page));
}
void kill(u32 pid) { sys::call(270, pid, pid, kKill); }
u32 seconds_now() {
    sys::TimeSpec now{};
    sys::call(265, 1, word(&now));
    return now.seconds;
}

// ---------------------------------------------------------------------------------------------------- shared memory

class Lock {
  public:
    // Drepper, "Futexes are tricky", the second mutex: 0 free, 1 taken, 2 taken and a thread may be waiting.
    void lock() {
        u32 seen = 0;
        if (__atomic_compare_exchange_n(&word_, &seen, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) return;
        if (seen != 2) seen = __atomic_exchange_n(&word_, 2, __ATOMIC_SEQ_CST);
        while (seen != 0) {
            sys::futex(&word_, sys::kFutexWait, 2);
            seen = __atomic_exchange_n(&word_, 2, __ATOMIC_SEQ_CST);
        }
    }
    void unlock() {
        if (__atomic_exchange_n(&word_, 0, __ATOMIC_SEQ_CST) == 2) sys::futex(&word_, sys::kFutexWake, 1);
    }

  private:
    volatile u32 word_ = 0;
};

struct File {
    const char* directory; // null: memory that all processes share
    u8* memory;
    u32 number;
    Lock lock[kChunks];
    u32 life; // how often it was made anew; its name says whether it was renamed
    bool renamed;
    volatile u32 units; // its size
    volatile u8 version[kUnits];
};

enum Work : u32 { kReads, kWrites, kLoads, kStores, kCopies, kSyncs, kCuts, kRemovals, kRenames, kOwn, kForks, kWorks };
constexpr const char* kNames[kWorks]{"reads", "writes",   "loads",   "stores",       "private copies", "syncs",
                                     "cuts",  "removals", "renames", "private uses", "forks"};

struct Worker {
    volatile u32 done; // operations
    volatile u32 work; // the present one
    u32 seen, since;   // for the process that looks for threads that hang
};

struct Shared {
    File file[kMostDirectories * kMostFiles + 1];
    Worker worker[kWorkers + 1];
    volatile u32 count[kWorks];
    volatile u32 compared; // KiB
    volatile u32 wrong, refused, stop, ready;
    u32 step; // the large process checks every so many pages at its end
};
Shared* shared = nullptr;
u32 files = 0;

// --------------------------------------------------------------------------------------------------------- signatures

struct Random {
    u32 state;
    u32 next() {
        state = state * 1'664'525 + 1'013'904'223;
        return state >> 8;
    }
    u32 below(u32 end) { return next() % end; }
    bool one_in(u32 n) { return below(n) == 0; }
};

constexpr u32 mix(u32 a) {
    a = (a ^ a >> 16) * 0x7feb'352du;
    a = (a ^ a >> 15) * 0x846c'a68bu;
    return a ^ a >> 16;
}
u32 base_of(const File& file, u32 unit) { return mix(mix(file.number + 1) + file.life * kUnits + unit); }
constexpr u32 word_at(u32 base, u32 i, u32 version) {
    return version == 0 ? 0 : ((base + i * 2'654'435'761u) & ~0xffu) | version;
}
void fill(u32* to, u32 base, u32 words, u32 version) {
    for (u32 i = 0; i < words; ++i)
        to[i] = word_at(base, i, version);
}

// Says the first few.
void wrong(const char* what, u32 where, u32 place, u32 i, u32 is, u32 expected) {
    if (add(shared->wrong, 1) < 40)
        Line{} << "mixed: WRONG: " << what << " " << where << ", " << place << ", word " << i << " is "
               << reinterpret_cast<const void*>(is) << ", not " << reinterpret_cast<const void*>(expected);
}
bool holds(const volatile u32* at, u32 base, u32 words, u32 version, const char* what, u32 where, u32 place) {
    add(shared->compared, words / kWords);
    for (u32 i = 0; i < words; ++i)
        if (const u32 is = at[i]; is != word_at(base, i, version)) {
            wrong(what, where, place, i, is, word_at(base, i, version));
            return false;
        }
    return true;
}
void unexpected(const char* what, const File& file, int result) {
    if (add(shared->wrong, 1) < 40)
        Line{} << "mixed: WRONG: " << what << " of file " << file.number << " says " << result;
}

// ---------------------------------------------------------------------------------------------------------- files

class Path {
  public:
    Path(const File& file, bool renamed) {
        put(file.directory);
        put(renamed ? "/mixed-g" : "/mixed-f");
        *at_++ = static_cast<char>('0' + file.number / 100);
        *at_++ = static_cast<char>('0' + file.number / 10 % 10);
        *at_++ = static_cast<char>('0' + file.number % 10);
        *at_ = '\0';
    }
    operator const char*() const { return text_; }

  private:
    void put(const char* text) {
        while (*text != '\0')
            *at_++ = *text++;
    }
    char text_[64];
    char* at_ = text_;
};

// Memory may be short, and then a call fails: it is tried again for two seconds.
template <typename F> int patiently(F&& call) {
    int result = -kEnomem;
    for (u32 turn = 0; turn < 100 && result == -kEnomem; ++turn) {
        result = call();
        if (result != -kEnomem) break;
        add(shared->refused, 1);
        sys::sleep_ms(20);
    }
    return result;
}
template <typename F> void expect_zero(const char* what, const File& file, F&& call) {
    const int result = patiently(call);
    if (result != 0) unexpected(what, file, result);
}

constexpr u32 kNoFile = ~0u;
u32 open_file(const File& file, u32 flags = kReadWrite) {
    const int opened = patiently([&] { return open(Path{file, file.renamed}, flags); });
    if (opened >= 0) return static_cast<u32>(opened);
    unexpected("open", file, opened);
    return kNoFile;
}

// All bytes, by one call or by several: with little memory a call may stop early.
template <typename F> u32 all_of(const char* what, const File& file, u32 bytes, bool may_be_less, F&& some) {
    u32 done = 0;
    while (done < bytes) {
        const int got = patiently([&] { return some(done); });
        if (got == 0 && may_be_less) break;
        if (got <= 0) {
            unexpected(what, file, got);
            break;
        }
        done += static_cast<u32>(got);
    }
    return done;
}

void check_units(const File& file, const u8* at, u32 unit, u32 count, const char* what) {
    for (u32 i = 0; i < count; ++i)
        if (!holds(reinterpret_cast<const volatile u32*>(at + i * kUnit), base_of(file, unit + i), kWords,
                   file.version[unit + i], what, file.number, unit + i))
            return;
}

constexpr u32 next_version(u32 version) { return version % 255 + 1; }

// One chunk or all chunks of a file are locked by these.
void lock_all(File& file) {
    for (Lock& lock : file.lock)
        lock.lock();
}
void unlock_all(File& file) {
    for (Lock& lock : file.lock)
        lock.unlock();
}

struct Part {
    u32 unit, count;
};
Part part_of(Random& random, u32 chunk) {
    const u32 first = random.below(kChunk);
    return {chunk * kChunk + first, 1 + random.below(kChunk - first)};
}

// What one thread has: its private pages, a buffer, and a mapping that stays.
struct Own {
    Random random;
    u32 number;
    u8* buffer;  // of a chunk
    u8* pages;   // private
    u8* version; // of each private page
    u8* mapped = nullptr;
    File* of = nullptr;
    u32 life = 0;
};

void read_part(Own& own, File& file, u32 chunk) {
    const Part part = part_of(own.random, chunk);
    const u32 size = file.units; // it may become larger meanwhile, by stores into other chunks
    const u32 from = part.unit * kUnit, bytes = part.count * kUnit;
    const u32 handle = open_file(file);
    if (handle == kNoFile) return;
    const u32 got = all_of("pread", file, bytes, true,
                           [&](u32 done) { return pread(handle, own.buffer + done, bytes - done, from + done); });
    sys::close(handle);
    const u32 least = size <= part.unit ? 0 : size - part.unit < part.count ? size - part.unit : part.count;
    if (got < least * kUnit || got % kUnit != 0) unexpected("pread, bytes", file, static_cast<int>(got));
    check_units(file, own.buffer, part.unit, got / kUnit, "pread of file");
}

void write_part(Own& own, File& file, u32 chunk) {
    const Part part = part_of(own.random, chunk);
    const u32 from = part.unit * kUnit, bytes = part.count * kUnit;
    for (u32 i = 0; i < part.count; ++i)
        fill(reinterpret_cast<u32*>(own.buffer + i * kUnit), base_of(file, part.unit + i), kWords,
             next_version(file.version[part.unit + i]));
    const u32 handle = open_file(file);
    if (handle == kNoFile) return;
    // In two pieces, at any byte.
    const u32 cut = own.random.one_in(3) ? 1 + own.random.below(bytes - 1) : bytes;
    const u32 done = all_of("pwrite", file, bytes, false, [&](u32 at) {
        return pwrite(handle, own.buffer + at, (at < cut ? cut : bytes) - at, from + at);
    });
    if (done == bytes)
        for (u32 i = 0; i < part.count; ++i)
            file.version[part.unit + i] = static_cast<u8>(next_version(file.version[part.unit + i]));
    for (u32 size = file.units; size < part.unit + part.count;)
        if (__atomic_compare_exchange_n(&file.units, &size, part.unit + part.count, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST))
            break;
    if (own.random.one_in(40)) expect_zero("fsync", file, [&] { return fsync(handle); });
    sys::close(handle);
}

// The mapping of the file that the thread keeps; or a new one. It stays while others change the size, and when the file
// has no name any more.
u8* mapping_of(Own& own, File& file) {
    if (file.memory != nullptr) return file.memory;
    if (own.of == &file && own.life == file.life) return own.mapped;
    const u32 handle = open_file(file);
    if (handle == kNoFile) return nullptr;
    void* const at = map_file(handle, kFileBytes, sys::kShared, 0);
    sys::close(handle);
    if (sys::failed(at)) {
        if (reinterpret_cast<int>(at) != -kEnomem) unexpected("mmap", file, reinterpret_cast<int>(at));
        add(shared->refused, 1);
        return nullptr;
    }
    if (own.mapped != nullptr && sys::munmap(own.mapped, kFileBytes) != 0) unexpected("munmap", file, -1);
    own.mapped = static_cast<u8*>(at);
    own.of = &file;
    own.life = file.life;
    return own.mapped;
}

void use_mapping(Own& own, File& file, u32 chunk, bool store_too) {
    const u32 first = chunk * kChunk, size = file.units;
    if (size <= first) return;
    const u32 count = size - first < kChunk ? size - first : kChunk;
    u8* const at = mapping_of(own, file);
    if (at == nullptr) return;
    u8* const here = at + first * kUnit;
    check_units(file, here, first, count, "mapping of file");
    if (!store_too) return;
    for (u32 i = own.random.below(count); i < count; i += 1 + own.random.below(8)) {
        const u32 version = next_version(file.version[first + i]);
        fill(reinterpret_cast<u32*>(here + i * kUnit), base_of(file, first + i), kWords, version);
        file.version[first + i] = static_cast<u8>(version);
    }
    if (file.memory == nullptr && own.random.one_in(10)) {
        const u32 how = own.random.one_in(2) ? kSync : kAsync;
        expect_zero("msync", file, [&] { return msync(here, kChunkBytes, how); });
    }
}

// A private mapping: what is stored there is not the file's.
void use_copy(Own& own, File& file, u32 chunk) {
    const u32 first = chunk * kChunk, size = file.units;
    if (size <= first) return;
    const u32 count = size - first < kChunk ? size - first : kChunk;
    const u32 handle = open_file(file);
    if (handle == kNoFile) return;
    void* const at = map_file(handle, kChunkBytes, sys::kPrivate, first * kUnit / kPage);
    if (sys::failed(at)) {
        if (reinterpret_cast<int>(at) != -kEnomem) unexpected("private mmap", file, reinterpret_cast<int>(at));
        add(shared->refused, 1);
        sys::close(handle);
        return;
    }
    auto* const here = static_cast<u8*>(at);
    check_units(file, here, first, count, "private mapping of file");
    const u32 mine = own.random.below(count);
    fill(reinterpret_cast<u32*>(here + mine * kUnit), ~base_of(file, first + mine), kWords, 7);
    const u32 got = all_of("pread", file, kUnit, true, [&](u32 done) {
        return pread(handle, own.buffer + done, kUnit - done, (first + mine) * kUnit + done);
    });
    sys::close(handle);
    check_units(file, own.buffer, first + mine, got / kUnit, "file behind a private mapping");
    holds(reinterpret_cast<u32*>(here + mine * kUnit), ~base_of(file, first + mine), kWords, 7, "private page of file",
          file.number, first + mine);
    if (sys::munmap(here, kChunkBytes) != 0) unexpected("munmap", file, -1);
}

void forget_from(File& file, u32 unit) {
    file.units = unit;
    for (u32 i = unit; i < kUnits; ++i)
        file.version[i] = 0;
}

// What follows is done with all locks of the file.
void cut(Own& own, File& file) {
    const u32 handle = open_file(file);
    if (handle == kNoFile) return;
    const u32 units = own.random.below(kUnits + 1);
    const int result = patiently([&] { return ftruncate(handle, units * kUnit); });
    if (result != 0)
        unexpected("ftruncate", file, result);
    else
        forget_from(file, units);
    sys::close(handle);
}

bool check_all(Own& own, const File& file, u32 handle, const char* what) {
    const u32 bytes = file.units * kUnit, before = shared->wrong;
    if (lseek_end(handle) != static_cast<int>(bytes)) unexpected("the size", file, lseek_end(handle));
    for (u32 at = 0; at < bytes; at += kChunkBytes) {
        const u32 size = bytes - at < kChunkBytes ? bytes - at : kChunkBytes;
        const u32 got = all_of("pread", file, size, false,
                               [&](u32 done) { return pread(handle, own.buffer + done, size - done, at + done); });
        check_units(file, own.buffer, at / kUnit, got / kUnit, what);
    }
    return shared->wrong == before;
}

void make(File& file) {
    const u32 handle = open_file(file, kReadWrite | kCreate | kExclusive);
    if (handle != kNoFile) sys::close(handle);
}

void remove(Own& own, File& file) {
    const u32 handle = open_file(file);
    if (handle == kNoFile) return;
    expect_zero("unlink", file, [&] { return unlink(Path{file, file.renamed}); });
    // It is there as long as somebody has it open.
    if (own.random.one_in(2)) check_all(own, file, handle, "removed file");
    sys::close(handle);
    ++file.life;
    file.renamed = false;
    forget_from(file, 0);
    make(file);
}

void rename_file(File& file) {
    const int result = patiently([&] { return rename(Path{file, file.renamed}, Path{file, !file.renamed}); });
    if (result != 0)
        unexpected("rename", file, result);
    else
        file.renamed = !file.renamed;
}

// Without any lock: the file may be gone.
void sync_something(Own& own, const File& file) {
    if (own.random.one_in(30)) return sync();
    const int handle = open(Path{file, file.renamed}, kReadWrite);
    if (handle < 0) return;
    const bool data = own.random.one_in(2);
    expect_zero("fsync", file,
                [&] { return data ? fdatasync(static_cast<u32>(handle)) : fsync(static_cast<u32>(handle)); });
    sys::close(static_cast<u32>(handle));
}

// ---------------------------------------------------------------------------------------------------- private memory

u32 base_of_own(const Own& own, u32 page) { return mix(mix(own.number + 0x1'0000) + page); }

bool check_own(const Own& own, u32 page, const char* what) {
    return holds(reinterpret_cast<const volatile u32*>(own.pages + page * kPage), base_of_own(own, page), kPage / 4,
                 own.version[page], what, own.number, page);
}
void store_own(Own& own, u32 page) {
    own.version[page] = static_cast<u8>(next_version(own.version[page]));
    fill(reinterpret_cast<u32*>(own.pages + page * kPage), base_of_own(own, page), kPage / 4, own.version[page]);
}

void use_own(Own& own, u32 pages) {
    u32 page = own.random.below(pages);
    for (u32 left = 16; left != 0; --left, page = (page + 1 + own.random.below(3)) % pages) {
        if (!check_own(own, page, "private page of")) return;
        if (own.random.one_in(3)) store_own(own, page);
    }
    if (!own.random.one_in(8)) return;
    // New pages are zeros.
    page = own.random.below(pages);
    void* const at = own.pages + page * kPage;
    if (sys::mmap(at, kPage, sys::kRead | sys::kWrite, sys::kPrivate | sys::kAnonymous | sys::kFixed) != at)
        add(shared->refused, 1);
    else
        own.version[page] = 0;
}

// The child sees the pages as they were at the fork, whatever the parent stores, and the other way round.
void fork_and_use(Own& own) {
    const int child = sys::fork();
    if (child == 0) {
        bool right = true;
        for (u32 turn = 0; turn < 2; ++turn) {
            for (u32 page = 0; page < kOwnPages; ++page)
                right = check_own(own, page, "page in a child of") && right;
            for (u32 page = own.random.below(4); page < kOwnPages; page += 3)
                store_own(own, page);
        }
        sys::exit_group(right ? 0 : 1);
    }
    if (sys::failed(child)) {
        add(shared->refused, 1);
        return;
    }
    for (u32 page = own.random.below(4); page < kOwnPages; page += 5)
        store_own(own, page);
    int status = -1;
    const int ended = sys::waitpid(child, &status);
    if (ended != child || status != 0) {
        add(shared->wrong, 1);
        Line{} << "mixed: WRONG: child " << child << ", waitpid says " << ended << ", status " << status;
    }
    for (u32 page = 0; page < kOwnPages; ++page)
        if (!check_own(own, page, "page after a child of")) return;
}

// ------------------------------------------------------------------------------------------------------------ workers

Work choose(Random& random) {
    constexpr u8 kOfHundred[kWorks]{16, 18, 14, 14, 6, 4, 5, 3, 2, 16, 2};
    u32 at = random.below(100), work = 0;
    while (at >= kOfHundred[work])
        at -= kOfHundred[work++];
    return static_cast<Work>(work);
}

void one_operation(Own& own, Work work) {
    if (work == kOwn) return use_own(own, kOwnPages);
    if (work == kForks) return fork_and_use(own);
    // Half of the work is done on a few files.
    File& file = shared->file[own.random.one_in(2) ? own.random.below(files) : own.random.below(files) % 4];
    if (file.memory != nullptr) work = own.random.one_in(2) ? kLoads : kStores;
    if (work == kSyncs) return sync_something(own, file);
    if (work == kCuts || work == kRemovals || work == kRenames) {
        lock_all(file);
        if (work == kCuts) cut(own, file);
        if (work == kRemovals) remove(own, file);
        if (work == kRenames) rename_file(file);
        return unlock_all(file);
    }
    const u32 chunk = own.random.below(kChunks);
    file.lock[chunk].lock();
    if (work == kReads) read_part(own, file, chunk);
    if (work == kWrites) write_part(own, file, chunk);
    if (work == kLoads || work == kStores) use_mapping(own, file, chunk, work == kStores);
    if (work == kCopies) use_copy(own, file, chunk);
    file.lock[chunk].unlock();
}

Own make_own(u32 number, u32 seed, u32 pages) {
    return {{mix(seed * 64 + number)}, number, new_memory(kChunkBytes), new_memory(pages * kPage), new_memory(pages)};
}

void work(u32 number, u32 seed) {
    Own own = make_own(number, seed, kOwnPages);
    Worker& worker = shared->worker[number];
    while (shared->stop == 0) {
        const Work what = choose(own.random);
        worker.work = what;
        one_operation(own, what);
        add(shared->count[what], 1);
        worker.done = worker.done + 1;
    }
    for (u32 page = 0; page < kOwnPages; ++page)
        check_own(own, page, "private page at the end of");
}

u32 seed = 0;
[[noreturn]] void process(u32 first) {
    static u32 number[kThreads];
    static Thread threads[kThreads];
    u32 started = 0;
    for (; started < kThreads; ++started) {
        number[started] = first + started;
        if (!threads[started].start([](void* mine) { work(*static_cast<u32*>(mine), seed); }, &number[started])) break;
    }
    if (started != kThreads) add(shared->wrong, 1), Line{} << "mixed: WRONG: no thread";
    for (u32 i = 0; i < started; ++i)
        threads[i].join();
    sys::exit_group(0);
}

// It has the most private memory.
[[noreturn]] void large_process(u32 mib) {
    const u32 pages = mib * (1024 * 1024 / kPage);
    Own own = make_own(kWorkers, seed, pages);
    Worker& worker = shared->worker[kWorkers];
    worker.work = kOwn;
    for (u32 page = 0; page < pages; ++page) {
        store_own(own, page);
        worker.done = worker.done + 1;
    }
    shared->ready = 1;
    while (shared->stop == 0) {
        use_own(own, pages);
        add(shared->count[kOwn], 1);
        worker.done = worker.done + 1;
        sys::sleep_ms(20); // else most of the load would be its faults
    }
    for (u32 page = 0; page < pages; page += shared->step)
        check_own(own, page, "large program's page at the end of");
    sys::exit_group(0);
}

// ---------------------------------------------------------------------------------------------- the process that looks

constexpr u32 kNoHang = 1;
u32 child[kProcesses + 1], running = 0;

void kill_all() {
    for (const u32 pid : child)
        if (pid != 0) kill(pid);
    int status = 0;
    while (sys::waitpid(-1, &status) > 0) {
    }
}

// A process that has ended before its time, or not well.
void reap(bool hang) {
    for (u32& pid : child) {
        int status = -1;
        if (pid == 0 || sys::waitpid(static_cast<int>(pid), &status, hang ? 0 : kNoHang) == 0) continue;
        if (status != 0 || !hang) {
            add(shared->wrong, 1);
            Line{} << "mixed: WRONG: process " << pid << " has ended with status " << status;
        }
        pid = 0;
        --running;
    }
}

u32 count_hung(u32 now) {
    u32 hung = 0;
    for (u32 i = 0; i <= kWorkers; ++i) {
        Worker& worker = shared->worker[i];
        if (worker.done != worker.seen) worker.seen = worker.done, worker.since = now;
        if (now - worker.since < kHangSeconds) continue;
        Line{} << "mixed: HUNG: thread " << i << " in its " << kNames[worker.work];
        ++hung;
    }
    return hung;
}

u32 operations() {
    u32 sum = 0;
    for (const volatile u32& count : shared->count)
        sum += count;
    return sum;
}

void start_processes(u32 mib) {
    for (u32 i = 0; i <= kProcesses; ++i) {
        const int pid = sys::fork();
        if (pid == 0) i < kProcesses ? process(i * kThreads) : large_process(mib);
        REQUIRE(pid > 0);
        child[i] = static_cast<u32>(pid);
        ++running;
    }
}

} // namespace

int main(int argc, char** argv) {
    REQUIRE(argc >= 6 && argc <= 5 + static_cast<int>(kMostDirectories));
    seed = number_of(argv[1]);
    const u32 seconds = number_of(argv[2]), mib = number_of(argv[3]), each = number_of(argv[4]);
    REQUIRE(each >= 1 && each <= kMostFiles);
    shared = reinterpret_cast<Shared*>(new_memory(sizeof(Shared), sys::kShared | sys::kAnonymous));
    shared->step = seconds < 60 ? 8 : 1;
    for (int i = 5; i < argc; ++i)
        for (u32 n = 0; n < each; ++n) {
            File& file = shared->file[files];
            file.directory = argv[i];
            file.number = files++;
            make(file);
        }
    File& memory = shared->file[files];
    memory.memory = new_memory(kFileBytes, sys::kShared | sys::kAnonymous);
    memory.number = files++;
    memory.units = kUnits;

    start_processes(mib);
    // The time begins when the large process has all of its memory.
    u32 begin = seconds_now(), told = begin, hung = 0;
    bool counts = false;
    for (Worker& worker : shared->worker)
        worker.since = begin;
    for (u32 now = begin; !(counts && now - begin >= seconds) && hung == 0 && running == kProcesses + 1;) {
        sys::sleep_ms(200);
        now = seconds_now();
        reap(false);
        if (!counts && shared->ready != 0) {
            counts = true;
            begin = now;
        }
        if (now - told < kProgressSeconds) continue;
        told = now;
        hung = count_hung(now);
        Line{} << "mixed: " << now - begin << (counts ? " s: " : " s, memory is being filled: ") << operations()
               << " operations, " << shared->compared / 1024 << " MiB compared, " << shared->wrong << " wrong, "
               << shared->refused << " refused";
    }
    shared->stop = 1;
    if (hung != 0 || running != kProcesses + 1) {
        kill_all();
    } else {
        reap(true);
        // All that is in the files, once more.
        Own own = make_own(kWorkers + 1, seed, 1);
        for (u32 i = 0; i + 1 < files; ++i) {
            File& file = shared->file[i];
            const u32 handle = open_file(file);
            if (handle == kNoFile) continue;
            check_all(own, file, handle, "file at the end");
            sys::close(handle);
            expect_zero("unlink", file, [&] { return unlink(Path{file, file.renamed}); });
        }
        sync();
    }
    for (u32 i = 0; i < kWorks; ++i)
        Line{} << "mixed: " << shared->count[i] << " " << kNames[i];
    Line{} << "mixed: the end: " << operations() << " operations in " << seconds_now() - begin << " s, "
           << shared->wrong << " wrong, " << hung << " threads hang, " << shared->refused << " refused";
    return shared->wrong != 0 || hung != 0;
}
