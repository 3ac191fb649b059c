// The cost of high memory: the same ordinary work on kernels with and without it.
//
// The pages come from where a kernel takes user pages: high memory, or lowmem in a kernel without it.
#include "kernel/proof/bench.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/spaces/address_space.hpp"
#include "mm/spaces/user_tables.hpp"
#include "mm/tables/tlb_batch.hpp"
#include "mm/windows/highmem.hpp"

namespace loft::bench {
namespace {

constexpr u32 kCachePages = 8192; // 32 MiB, as of cached files
constexpr u32 kCacheTableOrder = 3;
static_assert(kCachePages >= kOperations);
static_assert(kCachePages * sizeof(Page*) == kPageSize << kCacheTableOrder);

// A number that looks random, the same for the i-th operation on every kernel (the finalizer of MurmurHash3).
constexpr u32 scramble(u32 i) {
    i ^= i >> 16;
    i *= 0x85eb'ca6bu;
    i ^= i >> 13;
    i *= 0xc2b2'ae35u;
    return i ^ i >> 16;
}

// A file cache: three of four operations read `kBytes` from a random place in it, one writes them.
template <u32 kBytes> void measure_copies(Meter& meter, std::string_view name, Page* const* pages) {
    static std::byte buffer[kBytes];
    meter.measure(name, [=](u32 i) {
        const u32 random = scramble(i);
        Page* const page = pages[random % kCachePages];
        const u32 offset = (random >> 16) % (kPageSize / kBytes) * kBytes;
        if (random >> 30 != 0)
            memcpy_from_page(buffer, page, offset, kBytes);
        else
            memcpy_to_page(page, offset, buffer, kBytes);
    });
}

// The page work of faults on new memory, after a process with memory has ended: free one page, allocate and clear
// another.
void measure_new_pages(Meter& meter, Page** pages) {
    meter.measure("cost.new_page", [=](u32 i) {
        Page*& page = pages[i];
        free_page(page);
        page = alloc_page(Gfp::high);
        clear_highpage(page);
    });
}

// --- Processes: the work of mm from creation to end.

// The areas of a small static program (text, data, heap, stack), each in a page table of its own.
struct Part {
    u32 begin;
    u32 pages; // pages that the program touches
    Prot prot;
};
constexpr Prot kReadWrite = Prot::read | Prot::write;
constexpr Part kParts[] = {{0x0804'8000, 16, Prot::read | Prot::exec},
                           {0x0840'0000, 8, kReadWrite},
                           {0x4000'0000, 32, kReadWrite},
                           {0xbfe0'0000, 8, kReadWrite}};

void fault(AddressSpace& space, u32 va, FaultAccess access) {
    const FaultResult result = space.handle_fault(VirtAddr{va}, access);
    LOFT_ASSERT(result == FaultResult::resolved);
}

AddressSpace* new_program() {
    AddressSpace* const space = AddressSpace::create();
    LOFT_ASSERT(space != nullptr);
    for (const Part& part : kParts) {
        const Result<VirtAddr> at =
            space->map(VirtAddr{part.begin}, part.pages << kPageShift, part.prot, MapKind::anonymous, true);
        LOFT_ASSERT(at);
        for (u32 i = 0; i != part.pages; ++i)
            fault(*space, part.begin + (i << kPageShift),
                  has(part.prot, Prot::write) ? FaultAccess::write : FaultAccess::read);
    }
    return space;
}

constexpr u32 kLives = 32; // per round

// Create a program, touch its 64 pages, end it.
void measure_exec(Meter& meter) {
    meter.measure<1, kLives>("cost.exec_exit", [](u32) { new_program()->put(); });
}

// Fork; the child writes to a page of data, four of the heap, and one of the stack, and ends.
void measure_fork(Meter& meter, AddressSpace* parent) {
    meter.measure<1, kLives>("cost.fork_exit", [=](u32) {
        const Result<AddressSpace*> child = parent->fork();
        LOFT_ASSERT(child);
        fault(**child, kParts[1].begin, FaultAccess::write);
        for (u32 i = 0; i != 4; ++i)
            fault(**child, kParts[2].begin + (i << kPageShift), FaultAccess::write);
        fault(**child, kParts[3].begin, FaultAccess::write);
        (*child)->put();
    });
}

// --- Walks of user page tables by the kernel.

constexpr u32 kTables = 64, kEntries = 1u << (paging::kLargeShift - kPageShift);

// Full page tables for consecutive addresses from 0 on; the contents of the entries do not matter.
class FullTables {
  public:
    // False: no memory.
    [[nodiscard]] bool fill() {
        if (!tables_.create()) return false;
        for (u32 i = 0; i != kTables; ++i) {
            const VirtAddr begin{i * paging::kLargeSize};
            hal::PteCell* const pde = tables_.directory_entry(begin);
            const Pte entry{Pfn{1u}, pte::present | user_pte::held};
            if (!tables_.begin_table(pde, begin, entry)) return false;
            ++filled_;
            const Pte table = hal::pte_read(pde);
            PteMap map{table, begin};
            for (u32 other = 1; other != kEntries; ++other)
                hal::pte_set(map.cell(other), entry);
            tables_.added(table, kEntries - 1);
        }
        return true;
    }
    ~FullTables() {
        for (u32 i = 0; i != filled_; ++i) {
            const VirtAddr begin{i * paging::kLargeSize};
            TlbBatch batch{TlbBatch::Kind::non_global};
            tables_.removed(tables_.directory_entry(begin), begin, kEntries, batch);
            batch.flush();
        }
        tables_.destroy();
    }
    const UserTables& get() const { return tables_; }

  private:
    UserTables tables_;
    u32 filled_ = 0;
};

// Looks up one random entry, as a fault or a pin does; visits all entries of a table, as fork and exit do.
void measure_walks(Meter& meter, const UserTables* tables) {
    static_assert(kTables * kEntries <= 1u << 16);
    meter.measure("cost.walk_one", [=](u32 i) {
        const VirtAddr va{(scramble(i) % (kTables * kEntries)) << kPageShift};
        const PteMap map{hal::pte_read(tables->directory_entry(va)), va};
        (void)hal::pte_read(map.cell());
    });
    meter.measure<kEntries>("cost.walk_all", [=](u32 i) {
        const u32 begin = i / kEntries * paging::kLargeSize;
        u32 seen = 0;
        tables->each_table({begin, begin + paging::kLargeSize}, [&](hal::PteCell* pde, PageRange range) {
            return each_entry(hal::pte_read(pde), range, [&](hal::PteCell*, Pte, VirtAddr) { return ++seen != 0; });
        });
    });
}

// --- The groups, each with its data. False: not enough memory.

bool measure_file_cache(Meter& meter) {
    const auto measure_all = [&](Page** pages) {
        measure_copies<64>(meter, "cost.copy64", pages);
        measure_copies<512>(meter, "cost.copy512", pages);
        measure_copies<4096>(meter, "cost.copy4096", pages);
        measure_new_pages(meter, pages);
    };
    if (!meter.wants([&] { measure_all(nullptr); })) return true;
    // Twice the pages needed: no allocation fails from here on.
    if (zone_info(ZoneId::normal).free < 2 * kCachePages) return false;
    Page* const table = alloc_pages(Gfp::kernel, kCacheTableOrder);
    if (table == nullptr) return false;
    Page** const pages = hal::lowmem_ptr<Page*>(direct_addr(page_to_pfn(table)));
    for (u32 i = 0; i != kCachePages; ++i)
        pages[i] = alloc_page(Gfp::high);

    measure_all(pages);

    for (u32 i = 0; i != kCachePages; ++i)
        free_page(pages[i]);
    free_pages(table, kCacheTableOrder);
    return true;
}

bool measure_programs(Meter& meter) {
    const auto measure_all = [&](AddressSpace* parent) {
        measure_exec(meter);
        measure_fork(meter, parent);
    };
    if (!meter.wants([&] { measure_all(nullptr); })) return true;
    if (zone_info(ZoneId::normal).free < 1024) return false; // several times the pages of two programs
    AddressSpace* const parent = new_program();
    measure_all(parent);
    parent->put();
    return true;
}

bool measure_tables(Meter& meter) {
    if (!meter.wants([&] { measure_walks(meter, nullptr); })) return true;
    FullTables tables;
    if (!tables.fill()) return false;
    measure_walks(meter, &tables.get());
    return true;
}

} // namespace

bool measure_cost(Meter& meter) {
    return measure_file_cache(meter) && measure_programs(meter) && measure_tables(meter);
}

} // namespace loft::bench
