// The MP tables. Contract: mp_table.hpp.
#include "arch/i386/firmware/mp_table.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/firmware/firmware_scan.hpp"

#include <cstring>
#include <optional>

namespace loft {
namespace {

// --- The tables in memory (MultiProcessor Specification 1.4, 4.1 to 4.3).

struct [[gnu::packed]] FloatingPointer {
    char signature[4];
    u32 table;
    u8 length; // in units of 16 bytes
    u8 revision, checksum;
    u8 default_configuration; // 0: there is a table
    u8 features;
    u8 reserved[3];
};
static_assert(sizeof(FloatingPointer) == 16);
constexpr u8 kHasImcr = 1 << 7;

struct [[gnu::packed]] MpHeader {
    char signature[4];
    u16 length;
    u8 revision, checksum;
    char oem[8], product[12];
    u32 oem_table;
    u16 oem_table_length, entries;
    u32 lapic_address;
    u16 extended_length;
    u8 extended_checksum, reserved;
};
static_assert(sizeof(MpHeader) == 44);

// The base entries: their first byte is the type, which determines the length.
struct [[gnu::packed]] CpuEntry {
    static constexpr u8 kType = 0, kEnabled = 1 << 0;
    u8 type, lapic_id, lapic_version, flags;
    u32 signature, features;
    u32 reserved[2];
};
struct [[gnu::packed]] BusEntry {
    static constexpr u8 kType = 1;
    u8 type, id;
    char name[6];
};
struct [[gnu::packed]] IoApicEntry {
    static constexpr u8 kType = 2, kUsable = 1 << 0;
    u8 type, id, version, flags;
    u32 address;
};
// Connects a bus (I/O) or a pin of the system (local) to an input of an APIC.
struct [[gnu::packed]] InterruptEntry {
    static constexpr u8 kIo = 3, kLocal = 4;
    static constexpr u8 kVectored = 0, kNmi = 1; // `kind`
    static constexpr u8 kEveryApic = 0xff;
    u8 type, kind;
    u16 flags;
    u8 bus, irq, apic, input;
};
static_assert(sizeof(CpuEntry) == 20 && sizeof(BusEntry) == 8 && sizeof(IoApicEntry) == 8 &&
              sizeof(InterruptEntry) == 8);

struct FoundPointer {
    PhysAddr at;
    FloatingPointer pointer;
};
std::optional<FoundPointer> find_floating_pointer(PhysicalReader read) {
    std::optional<FoundPointer> found;
    scan_firmware(read, [&](PhysAddr at, std::span<const u8> bytes) {
        if (std::memcmp(bytes.data(), "_MP_", 4) != 0 || byte_sum(bytes) != 0) return false;
        FloatingPointer pointer;
        std::memcpy(&pointer, bytes.data(), sizeof pointer);
        if (pointer.length != 1) return false;
        found = {at, pointer};
        return true;
    });
    return found;
}

// Without a table, the machine has one of seven default configurations (chapter 5): two CPUs with APIC ids 0 and 1, and
// an I/O APIC with each ISA interrupt on the input of its number, except the timer on input 2.
void add_default_configuration(CpuTopology& topology) {
    topology.add_cpu(0, true);
    topology.add_cpu(1, true);
    topology.add_io_apic({2, PhysAddr{u64{0xfec0'0000}}, 0});
    topology.add_override({0, 2, {}});
}

class Reading {
  public:
    explicit Reading(CpuTopology& topology) : topology_{topology} {}

    void add(const CpuEntry& e) { topology_.add_cpu(e.lapic_id, (e.flags & CpuEntry::kEnabled) != 0); }
    void add(const BusEntry& e) {
        if (std::memcmp(e.name, "ISA   ", 6) == 0) isa_bus_ = e.id;
    }
    // The tables have no global interrupt numbers. The inputs of the first I/O APIC count as the first ones: ISA
    // interrupts arrive there. Other I/O APICs count as behind it.
    void add(const IoApicEntry& e) {
        constexpr u32 kBehindTheFirst = 1;
        if (!(e.flags & IoApicEntry::kUsable)) return;
        topology_.add_io_apic({e.id, PhysAddr{u64{e.address}}, topology_.io_apics.empty() ? 0 : kBehindTheFirst});
    }
    void add(const InterruptEntry& e) {
        if (e.type == InterruptEntry::kLocal) {
            // CPUs come before their pins: entries are sorted by type (4.3).
            if (e.kind == InterruptEntry::kNmi)
                topology_.add_local_nmi({e.apic == InterruptEntry::kEveryApic ? CpuTopology::LocalNmi::kEvery : e.apic,
                                         e.input,
                                         {e.flags}});
            return;
        }
        const bool here =
            !topology_.io_apics.empty() && (e.apic == topology_.io_apics[0].id || e.apic == InterruptEntry::kEveryApic);
        if (!here) return;
        if (e.kind == InterruptEntry::kNmi)
            room_ &= topology_.add_nmi_source({e.input, {e.flags}});
        else if (e.kind == InterruptEntry::kVectored && e.bus == isa_bus_)
            topology_.add_override({e.irq, e.input, {e.flags}});
    }

    bool had_room() const { return room_; }

  private:
    CpuTopology& topology_;
    u32 isa_bus_ = ~u32{0};
    bool room_ = true;
};

template <typename Entry> bool read_entry(PhysicalReader read, PhysAddr at, u32 left, Reading& reading, u32& bytes) {
    bytes = sizeof(Entry);
    if (left < sizeof(Entry)) return false;
    const std::optional<Entry> entry = read_as<Entry>(read, at);
    if (entry) reading.add(*entry);
    return entry.has_value();
}

// The header, if the whole table can be read and its checksum is right.
std::optional<MpHeader> read_mp_header(PhysicalReader read, PhysAddr table) {
    const std::optional<MpHeader> header = read_as<MpHeader>(read, table);
    if (!header || std::memcmp(header->signature, "PCMP", 4) != 0 || header->length < sizeof(MpHeader) ||
        !checksum_is_right(read, table, header->length))
        return std::nullopt;
    return header;
}

bool read_table(PhysicalReader read, PhysAddr table, CpuTopology& topology) {
    const std::optional<MpHeader> header = read_mp_header(read, table);
    if (!header) {
        log(LogLevel::warn, "mp", "the MP table at {} is unreadable or broken", table);
        return false;
    }
    Reading reading{topology};
    for (u32 offset = sizeof(MpHeader), bytes = 0; offset < header->length; offset += bytes) {
        const PhysAddr at = table + offset;
        const u32 left = header->length - offset;
        u8 type = 0xff;
        bool sound = read(at, &type, sizeof type);
        if (type == CpuEntry::kType)
            sound = read_entry<CpuEntry>(read, at, left, reading, bytes);
        else if (type == BusEntry::kType)
            sound = read_entry<BusEntry>(read, at, left, reading, bytes);
        else if (type == IoApicEntry::kType)
            sound = read_entry<IoApicEntry>(read, at, left, reading, bytes);
        else if (type == InterruptEntry::kIo || type == InterruptEntry::kLocal)
            sound = read_entry<InterruptEntry>(read, at, left, reading, bytes);
        else
            sound = false;
        if (!sound) {
            log(LogLevel::warn, "mp", "the entry at {:x} of the MP table is unknown or cut off; the rest is ignored",
                offset);
            break;
        }
    }
    if (!reading.had_room())
        log(LogLevel::warn, "mp", "more sources of NMIs than {}: the others are ignored", topology.nmi_sources.size());
    return true;
}

} // namespace

bool read_mp_tables(PhysicalReader read, CpuTopology& topology) {
    const std::optional<FoundPointer> found = find_floating_pointer(read);
    if (!found) return false;
    const FloatingPointer& pointer = found->pointer;
    if (pointer.default_configuration != 0)
        add_default_configuration(topology);
    else if (pointer.table == 0 || !read_table(read, PhysAddr{u64{pointer.table}}, topology))
        return false;
    topology.has_imcr = (pointer.features & kHasImcr) != 0;
    return true;
}

void find_mp_tables(PhysicalReader read, RangeFound found) {
    static constexpr const char* kName = "MP tables";
    const std::optional<FoundPointer> place = find_floating_pointer(read);
    if (!place) return;
    found(place->at, sizeof(FloatingPointer), kName);
    const PhysAddr table{u64{place->pointer.table}};
    if (place->pointer.table == 0) return;
    if (const std::optional<MpHeader> header = read_mp_header(read, table)) found(table, header->length, kName);
}

} // namespace loft
