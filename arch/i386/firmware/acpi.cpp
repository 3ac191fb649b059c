// From the root pointer to the MADT. Contract: acpi.hpp.
#include "arch/i386/firmware/acpi.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/firmware/firmware_scan.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

namespace loft {
namespace {

// --- The tables in memory (ACPI 6.5, tables 5.3, 5.4, 5.19 and following).

struct [[gnu::packed]] RootPointer {
    char signature[8];
    u8 checksum;
    char oem[6];
    u8 revision;
    u32 rsdt;
    // From revision 2 on:
    u32 length;
    u64 xsdt;
    u8 extended_checksum;
    u8 reserved[3];
};
static_assert(sizeof(RootPointer) == 36);
constexpr u32 kRevision1Bytes = 20;

struct [[gnu::packed]] TableHeader {
    char signature[4];
    u32 length;
    u8 revision, checksum;
    char oem[6], oem_table[8];
    u32 oem_revision, creator, creator_revision;
};
static_assert(sizeof(TableHeader) == 36);

// The FADT (5.2.9): only the addresses of two more tables are used; early revisions lack the 64-bit fields.
struct [[gnu::packed]] Fadt {
    TableHeader header;
    u32 facs, dsdt;
    u8 other[88];
    u64 long_facs, long_dsdt;
};
static_assert(sizeof(Fadt) == 148);
constexpr u32 kRevision1FadtBytes = 44; // up to the two 32-bit addresses

struct [[gnu::packed]] Madt {
    TableHeader header;
    u32 lapic_address; // not used: the local APIC is moved to its reset address (lapic.cpp)
    u32 flags;
};

namespace madt {
struct [[gnu::packed]] Entry {
    u8 type, length;
};
constexpr u32 kEnabled = 1 << 0;

struct [[gnu::packed]] LocalApic {
    static constexpr u8 kType = 0;
    Entry entry;
    u8 uid, lapic_id;
    u32 flags;
};
struct [[gnu::packed]] IoApic {
    static constexpr u8 kType = 1;
    Entry entry;
    u8 id, reserved;
    u32 address, first_gsi;
};
struct [[gnu::packed]] Override {
    static constexpr u8 kType = 2;
    Entry entry;
    u8 bus, irq;
    u32 gsi;
    u16 flags;
};
struct [[gnu::packed]] NmiSource {
    static constexpr u8 kType = 3;
    Entry entry;
    u16 flags;
    u32 gsi;
};
struct [[gnu::packed]] LocalNmi {
    static constexpr u8 kType = 4;
    static constexpr u8 kEveryUid = 0xff;
    Entry entry;
    u8 uid;
    u16 flags;
    u8 pin;
};
struct [[gnu::packed]] LocalX2Apic {
    static constexpr u8 kType = 9;
    Entry entry;
    u16 reserved;
    u32 lapic_id, flags, uid;
};
struct [[gnu::packed]] LocalX2Nmi {
    static constexpr u8 kType = 10;
    static constexpr u32 kEveryUid = 0xffff'ffff;
    Entry entry;
    u16 flags;
    u32 uid;
    u8 pin, reserved[3];
};
} // namespace madt

// --- Finding the MADT.

constexpr u32 kMaxTableBytes = MiB;    // a longer table has a corrupt length
constexpr u32 kMaxAllBytes = 16 * MiB; // limit of all tables: the lists may name a table any number of times

template <u32 N> bool has_signature(const char (&field)[N], const char (&name)[N + 1]) {
    return std::memcmp(field, name, N) == 0;
}

// The header, if the whole table can be read and its checksum is right.
std::optional<TableHeader> read_header(PhysicalReader read, PhysAddr at) {
    const std::optional<TableHeader> header = read_as<TableHeader>(read, at);
    if (!header || header->length < sizeof(TableHeader) || header->length > kMaxTableBytes ||
        !checksum_is_right(read, at, header->length))
        return std::nullopt;
    return header;
}

struct Root {
    PhysAddr at;
    RootPointer pointer;
    u32 bytes() const { return pointer.xsdt != 0 ? pointer.length : kRevision1Bytes; }
};
std::optional<Root> find_root_pointer(PhysicalReader read) {
    std::optional<Root> root;
    scan_firmware(read, [&](PhysAddr at, std::span<const u8> bytes) {
        if (std::memcmp(bytes.data(), "RSD PTR ", 8) != 0 || !checksum_is_right(read, at, kRevision1Bytes))
            return false;
        std::optional<RootPointer> pointer = read_as<RootPointer>(read, at);
        if (!pointer) return false;
        // The 64-bit part of a pointer is not used if it is missing or its checksum is wrong.
        const bool extended = pointer->revision >= 2 && pointer->length >= sizeof(RootPointer) &&
                              pointer->length <= 4 * KiB && checksum_is_right(read, at, pointer->length);
        if (!extended) pointer->xsdt = 0;
        root = {at, *pointer};
        return true;
    });
    return root;
}

// Calls visit(table's address) for each entry of a root table with addresses of 4 (RSDT) or 8 bytes (XSDT), until it
// returns true.
template <typename F>
bool each_table(PhysicalReader read, PhysAddr root, const char* name, u32 entry_bytes, bool tell, F&& visit) {
    const std::optional<TableHeader> header = read_header(read, root);
    if (!header || std::memcmp(header->signature, name, 4) != 0) {
        if (tell) log(LogLevel::warn, "acpi", "the {} at {} is unreadable or broken", name, root);
        return false;
    }
    for (u32 offset = sizeof(TableHeader); offset + entry_bytes <= header->length; offset += entry_bytes) {
        u64 address = 0;
        if (!read(root + offset, &address, entry_bytes)) return false;
        if (address != 0 && visit(PhysAddr{address})) return true;
    }
    return false;
}

// First the XSDT, then the RSDT. `tell`: log one that is broken.
template <typename F> bool each_table(PhysicalReader read, const RootPointer& root, bool tell, F&& visit) {
    return (root.xsdt != 0 && each_table(read, PhysAddr{u64{root.xsdt}}, "XSDT", 8, tell, visit)) ||
           (root.rsdt != 0 && each_table(read, PhysAddr{u64{root.rsdt}}, "RSDT", 4, tell, visit));
}

std::optional<PhysAddr> find_madt(PhysicalReader read) {
    const std::optional<Root> root = find_root_pointer(read);
    std::optional<PhysAddr> found;
    if (!root) return found;
    each_table(read, root->pointer, true, [&](PhysAddr at) {
        const std::optional<TableHeader> entry = read_as<TableHeader>(read, at);
        if (!entry || !has_signature<4>(entry->signature, "APIC")) return false;
        if (entry->length >= sizeof(Madt) && read_header(read, at))
            found = at;
        else
            log(LogLevel::warn, "acpi", "the MADT at {} is unreadable or broken", at);
        return found.has_value();
    });
    return found;
}

// Reports each valid table, up to a total size of kMaxAllBytes.
class TableFinder {
  public:
    TableFinder(PhysicalReader read, RangeFound found) : read_{read}, found_{found} {}

    void note_root(const Root& root) {
        found_(root.at, root.bytes(), kName);
        if (root.pointer.xsdt != 0) note(PhysAddr{u64{root.pointer.xsdt}});
        if (root.pointer.rsdt != 0) note(PhysAddr{u64{root.pointer.rsdt}});
    }

    // False: the limit is exceeded.
    bool note(PhysAddr at) {
        const std::optional<TableHeader> header = read_as<TableHeader>(read_, at);
        if (!header || header->length > kMaxTableBytes) return true;
        if (header->length > left_) return false;
        left_ -= std::max<u32>(header->length, sizeof(TableHeader));
        if (!read_header(read_, at)) return true;
        found_(at, header->length, kName);
        return !has_signature<4>(header->signature, "FACP") || note_fadt(at, header->length);
    }

  private:
    static constexpr const char* kName = "ACPI tables";

    bool note_fadt(PhysAddr at, u32 bytes) {
        Fadt fadt{};
        if (bytes < kRevision1FadtBytes || !read_(at, &fadt, std::min<u32>(bytes, sizeof fadt))) return true;
        for (const u64 facs : {u64{fadt.facs}, u64{fadt.long_facs}})
            if (facs != 0) note_facs(PhysAddr{facs});
        for (const u64 dsdt : {u64{fadt.dsdt}, u64{fadt.long_dsdt}}) {
            const std::optional<TableHeader> header = read_as<TableHeader>(read_, PhysAddr{dsdt});
            if (dsdt != 0 && header && has_signature<4>(header->signature, "DSDT") && !note(PhysAddr{dsdt}))
                return false;
        }
        return true;
    }

    // The firmware changes the FACS, so it has no checksum (5.2.10).
    void note_facs(PhysAddr at) {
        struct {
            char signature[4];
            u32 length;
        } head;
        if (read_(at, &head, sizeof head) && has_signature<4>(head.signature, "FACS") && head.length >= 64 &&
            head.length <= kPageSize)
            found_(at, head.length, kName);
    }

    PhysicalReader read_;
    RangeFound found_;
    u32 left_ = kMaxAllBytes;
};

// --- Reading the MADT.

// The MADT is read twice. NMI pins name a CPU by its ACPI number; only the CPU entries relate that to an APIC id, and
// they may come later. Only the CPUs in use are kept, so the size does not depend on the number of CPUs.
struct Numbered {
    u32 uid, lapic_id;
};
class CpuReading {
  public:
    explicit CpuReading(CpuTopology& topology) : topology_{topology} {}

    void operator()(const madt::LocalApic& e) { add_cpu(e.lapic_id, e.uid, e.flags); }
    void operator()(const madt::LocalX2Apic& e) { add_cpu(e.lapic_id, e.uid, e.flags); }
    void operator()(const madt::IoApic& e) { topology_.add_io_apic({e.id, PhysAddr{u64{e.address}}, e.first_gsi}); }

    std::span<const Numbered> cpus() const { return cpus_.view(); }

  private:
    void add_cpu(u32 lapic_id, u32 uid, u32 flags) {
        topology_.add_cpu(lapic_id, (flags & madt::kEnabled) != 0);
        for (const Numbered& known : cpus_)
            if (known.lapic_id == lapic_id) return;
        for (const u8 used : topology_.lapic_ids)
            if (used == lapic_id) static_cast<void>(cpus_.add({uid, lapic_id})); // has as many places as lapic_ids
    }

    CpuTopology& topology_;
    FixedList<Numbered, config::kMaxCpus> cpus_;
};

class LineReading {
  public:
    LineReading(CpuTopology& topology, std::span<const Numbered> cpus) : topology_{topology}, cpus_{cpus} {}

    void operator()(const madt::Override& e) {
        if (e.bus == 0) topology_.add_override({e.irq, e.gsi, {e.flags}});
    }
    void operator()(const madt::NmiSource& e) { room_ &= topology_.add_nmi_source({e.gsi, {e.flags}}); }
    void operator()(const madt::LocalNmi& e) {
        add_pin(e.uid == madt::LocalNmi::kEveryUid ? madt::LocalX2Nmi::kEveryUid : e.uid, e.pin, {e.flags});
    }
    void operator()(const madt::LocalX2Nmi& e) { add_pin(e.uid, e.pin, {e.flags}); }

    bool had_room() const { return room_; }

  private:
    void add_pin(u32 uid, u8 pin, LineMode mode) {
        if (uid == madt::LocalX2Nmi::kEveryUid) topology_.add_local_nmi({CpuTopology::LocalNmi::kEvery, pin, mode});
        for (const Numbered& cpu : cpus_)
            if (cpu.uid == uid) topology_.add_local_nmi({cpu.lapic_id, pin, mode});
    }

    CpuTopology& topology_;
    std::span<const Numbered> cpus_;
    bool room_ = true;
};

// Reads the entry at `at` if it is of one of the given kinds.
template <typename... Kinds, typename Reading>
void read_entry(PhysicalReader read, PhysAddr at, madt::Entry head, Reading& reading) {
    const auto read_if = [&]<typename Kind>(const Kind*) {
        if (head.type != Kind::kType) return;
        if (head.length < sizeof(Kind)) {
            log(LogLevel::warn, "acpi", "MADT: an entry of type {} has {} bytes, not {}: ignored", head.type,
                head.length, sizeof(Kind));
        } else if (const std::optional<Kind> entry = read_as<Kind>(read, at)) {
            reading(*entry);
        }
    };
    (read_if(static_cast<const Kinds*>(nullptr)), ...);
}

template <typename... Kinds, typename Reading>
void read_entries(PhysicalReader read, PhysAddr table, u32 bytes, Reading& reading) {
    for (u32 offset = sizeof(Madt); offset + sizeof(madt::Entry) <= bytes;) {
        const PhysAddr at = table + offset;
        const std::optional<madt::Entry> head = read_as<madt::Entry>(read, at);
        if (!head || head->length < sizeof(madt::Entry) || head->length > bytes - offset) {
            log(LogLevel::warn, "acpi", "MADT: the entry at {:x} is cut off; it and the rest are ignored", offset);
            return;
        }
        read_entry<Kinds...>(read, at, *head, reading);
        offset += head->length;
    }
}

} // namespace

void find_acpi_tables(PhysicalReader read, RangeFound found) {
    const std::optional<Root> root = find_root_pointer(read);
    if (!root) return;
    TableFinder finder{read, found};
    finder.note_root(*root);
    if (each_table(read, root->pointer, false, [&](PhysAddr at) { return !finder.note(at); }))
        log(LogLevel::warn, "acpi", "more than {} MiB of tables: the rest is not looked at", kMaxAllBytes / MiB);
}

bool read_acpi(PhysicalReader read, CpuTopology& topology) {
    const std::optional<PhysAddr> table = find_madt(read);
    if (!table) return false;
    const std::optional<TableHeader> header = read_as<TableHeader>(read, *table);
    if (!header) return false;

    CpuReading cpus{topology};
    read_entries<madt::LocalApic, madt::LocalX2Apic, madt::IoApic>(read, *table, header->length, cpus);
    LineReading lines{topology, cpus.cpus()};
    read_entries<madt::Override, madt::NmiSource, madt::LocalNmi, madt::LocalX2Nmi>(read, *table, header->length,
                                                                                    lines);
    if (!lines.had_room())
        log(LogLevel::warn, "acpi", "MADT: more sources of NMIs than {}: the others are ignored",
            topology.nmi_sources.size());
    return true;
}

} // namespace loft
