// From the root pointer to the MADT. Contract: acpi.hpp.
#include "arch/i386/acpi.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/firmware_scan.hpp"

#include <cstring>
#include <optional>

namespace loft {
namespace {

// --- The tables, byte for byte (ACPI 6.5, tables 5.3, 5.4, 5.19 and following).

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

struct [[gnu::packed]] Madt {
    TableHeader header;
    u32 lapic_address; // the APIC base MSR knows better
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

constexpr u32 kMaxTableBytes = 256 * KiB; // a longer one is a broken length

template <typename T> std::optional<T> read_as(PhysicalReader read, PhysAddr from) {
    T value;
    if (!read(from, &value, sizeof value)) return std::nullopt;
    return value;
}

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

std::optional<RootPointer> find_root_pointer(PhysicalReader read) {
    std::optional<RootPointer> root;
    scan_firmware(read, [&](PhysAddr at, std::span<const u8> bytes) {
        if (std::memcmp(bytes.data(), "RSD PTR ", 8) != 0 || !checksum_is_right(read, at, kRevision1Bytes))
            return false;
        root = read_as<RootPointer>(read, at);
        if (!root) return false;
        // The 64-bit half of a pointer that is wrong or not there is not used.
        const bool extended = root->revision >= 2 && root->length >= sizeof(RootPointer) &&
                              root->length <= 4 * KiB && checksum_is_right(read, at, root->length);
        if (!extended) root->xsdt = 0;
        return true;
    });
    return root;
}

// Looks through a root table, whose entries are addresses of 4 (RSDT) or 8 bytes (XSDT).
std::optional<PhysAddr> find_madt_in(PhysicalReader read, PhysAddr table, const char* name, u32 entry_bytes) {
    const std::optional<TableHeader> header = read_header(read, table);
    if (!header || std::memcmp(header->signature, name, 4) != 0) {
        log(LogLevel::warn, "acpi", "the {} at {} is unreadable or broken", name, table);
        return std::nullopt;
    }
    for (u32 offset = sizeof(TableHeader); offset + entry_bytes <= header->length; offset += entry_bytes) {
        u64 address = 0;
        if (!read(table + offset, &address, entry_bytes)) break;
        const std::optional<TableHeader> entry = read_as<TableHeader>(read, PhysAddr{address});
        if (!entry || !has_signature<4>(entry->signature, "APIC")) continue;
        if (entry->length >= sizeof(Madt) && read_header(read, PhysAddr{address})) return PhysAddr{address};
        log(LogLevel::warn, "acpi", "the MADT at {} is unreadable or broken", PhysAddr{address});
    }
    return std::nullopt;
}

std::optional<PhysAddr> find_madt(PhysicalReader read) {
    const std::optional<RootPointer> root = find_root_pointer(read);
    if (!root) return std::nullopt;
    std::optional<PhysAddr> found;
    if (root->xsdt != 0) found = find_madt_in(read, PhysAddr{u64{root->xsdt}}, "XSDT", 8);
    if (!found && root->rsdt != 0) found = find_madt_in(read, PhysAddr{u64{root->rsdt}}, "RSDT", 4);
    return found;
}

// --- Reading it.

// NMI pins are told by the ACPI number of a CPU, which only the entries of the CPUs connect with an APIC id.
struct Numbered {
    u32 uid, lapic_id;
};
struct PinOfUid {
    u32 uid;
    u8 pin;
    u16 flags;
};
struct Reading {
    CpuTopology& topology;
    FixedList<Numbered, 256> cpus;
    FixedList<PinOfUid, config::kMaxCpus + 1> pins;
    bool room = true; // for everything so far

    void operator()(const madt::LocalApic& e) { add_cpu(e.lapic_id, e.uid, e.flags); }
    void operator()(const madt::LocalX2Apic& e) { add_cpu(e.lapic_id, e.uid, e.flags); }
    void operator()(const madt::IoApic& e) {
        room &= topology.io_apics.add({e.id, PhysAddr{u64{e.address}}, e.first_gsi});
    }
    void operator()(const madt::Override& e) {
        if (e.bus == 0 && e.irq < 16) room &= topology.overrides.add({e.irq, e.gsi, {e.flags}});
    }
    void operator()(const madt::NmiSource& e) { room &= topology.nmi_sources.add({e.gsi, {e.flags}}); }
    void operator()(const madt::LocalNmi& e) {
        room &= pins.add(
            {e.uid == madt::LocalNmi::kEveryUid ? madt::LocalX2Nmi::kEveryUid : e.uid, e.pin, e.flags});
    }
    void operator()(const madt::LocalX2Nmi& e) { room &= pins.add({e.uid, e.pin, e.flags}); }

    void add_cpu(u32 lapic_id, u32 uid, u32 flags) {
        topology.add_cpu(lapic_id, (flags & madt::kEnabled) != 0);
        static_cast<void>(cpus.add({uid, lapic_id}));
    }

    void connect_pins() {
        for (const PinOfUid& pin : pins) {
            if (pin.pin > 1) continue; // there are no others
            if (pin.uid == madt::LocalX2Nmi::kEveryUid)
                topology.local_nmis.add({CpuTopology::LocalNmi::kEvery, pin.pin, {pin.flags}});
            for (const Numbered& cpu : cpus)
                if (cpu.uid == pin.uid) topology.local_nmis.add({cpu.lapic_id, pin.pin, {pin.flags}});
        }
    }
};

// Reads the entry at `at` as one of the given kinds, if it is one.
template <typename... Kinds>
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

} // namespace

bool read_acpi(PhysicalReader read, CpuTopology& topology) {
    const std::optional<PhysAddr> table = find_madt(read);
    if (!table) return false;
    const std::optional<TableHeader> header = read_as<TableHeader>(read, *table);
    if (!header) return false;

    Reading reading{topology, {}, {}};
    for (u32 offset = sizeof(Madt); offset + sizeof(madt::Entry) <= header->length;) {
        const PhysAddr at = *table + offset;
        const std::optional<madt::Entry> head = read_as<madt::Entry>(read, at);
        if (!head || head->length < sizeof(madt::Entry) || head->length > header->length - offset) {
            log(LogLevel::warn, "acpi", "MADT: the entry at {:x} is cut off; it and the rest are ignored",
                offset);
            break;
        }
        read_entry<madt::LocalApic, madt::IoApic, madt::Override, madt::NmiSource, madt::LocalNmi,
                   madt::LocalX2Apic, madt::LocalX2Nmi>(read, at, *head, reading);
        offset += head->length;
    }
    reading.connect_pins();
    if (!reading.room) log(LogLevel::warn, "acpi", "MADT: more entries than expected; some are ignored");
    return true;
}

} // namespace loft
