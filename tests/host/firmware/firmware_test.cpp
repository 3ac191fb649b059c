// ACPI and MP tables: those of QEMU, other valid ones, and both with wrong bytes.
#include "arch/i386/firmware/find.hpp"
#include "tests/host/booted.hpp"

#include <cstring>
#include <map>
#include <set>
#include <string>

using namespace loft;
using namespace loft::test;

namespace {

using Bytes = std::vector<u8>;

Bytes from_hex(std::string_view text) {
    Bytes bytes;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2)
        bytes.push_back(static_cast<u8>(std::stoul(std::string{text.substr(i, 2)}, nullptr, 16)));
    return bytes;
}

// QEMU 7.2, pc, 2 CPUs, 1 GiB; the addresses are where its BIOS put them.
constexpr u32 kRootAt = 0xf59d0, kRsdtAt = 0x3ffe1aff, kFadtAt = 0x3ffe19ab, kMadtAt = 0x3ffe1a1f, kMpAt = 0xf5ba0,
              kMpTableAt = 0xf5bb0;
const char* const kRoot = "5253442050545220fc424f4348532000ff1afe3f";
const char* const kRsdt = "52534454340000000188424f434853204258504320202020010000004258504301000000ab19fe3f1f1afe3f9f1a"
                          "fe3fd71afe3f";
const char* const kFadt = "46414350740000000181424f4348532042585043202020200100000042585043010000000000fe3f4000fe3f0100"
                          "0900b2000000f1f00000000600000000000004060000000000000000000008060000e0af00000000000004020004"
                          "04000000ff0fff0f000000000000000032000000a5800000";
const char* const kMadt = "41504943800000000177424f4348532042585043202020200100000042585043010000000000e0fe010000000008"
                          "0000010000000008010101000000010c00000000c0fe00000000020a0000020000000000020a0005050000000d00"
                          "020a0009090000000d00020a000a0a0000000d00020a000b0b0000000d000406ff000001";
const char* const kMp = "5f4d505fb05b0f000104860000000000";
const char* const kMpTable =
    "50434d50d00004e9424f434853435055302e3120202020202020202000000000000013000000e0fe0000000000"
    "00140363060000fdab8117000000000000000001005043492020200101495341202020020011010000c0fe0300"
    "01000004000903000100000c000b030000000100000203000000010100010300000001030003030000000104"
    "000403000000010600060300000001070007030000000108000803000000010c000c03000000010d000d0300"
    "0000010e000e03000000010f000f0403000001000000040100000100ff01";

// Memory: pieces of bytes by address. Below 1 MiB, bytes outside all pieces read as 0.
std::map<u64, Bytes> memory;
u32 reads;
std::vector<std::pair<u64, u64>> found;

bool read_memory(PhysAddr from, void* to, u32 bytes) {
    ++reads;
    REQUIRE(bytes <= kPageSize); // the limit of one read
    std::memset(to, 0, bytes);
    const u64 begin = from.value(), end = begin + bytes;
    u64 there = 0;
    for (const auto& [at, piece] : memory) {
        const u64 first = std::max(begin, at), last = std::min<u64>(end, at + piece.size());
        if (first >= last) continue;
        std::memcpy(static_cast<u8*>(to) + (first - begin), piece.data() + (first - at), last - first);
        there += last - first;
    }
    return end <= MiB || there == bytes;
}

void close_table(Bytes& table, std::size_t at, std::size_t bytes) {
    table[at] = 0;
    u8 sum = 0;
    for (std::size_t i = 0; i < std::min(bytes, table.size()); ++i)
        sum = static_cast<u8>(sum + table[i]);
    table[at] = static_cast<u8>(-sum);
}

void qemu_machine() {
    memory.clear();
    memory[kRootAt] = from_hex(kRoot);
    memory[kRsdtAt] = from_hex(kRsdt);
    memory[kFadtAt] = from_hex(kFadt);
    memory[kMadtAt] = from_hex(kMadt);
    memory[kMpAt] = from_hex(kMp);
    memory[kMpTableAt] = from_hex(kMpTable);
    reads = 0;
}

CpuTopology look(u32 boot_id = 0) {
    found.clear();
    find_firmware_tables(read_memory, [](PhysAddr begin, u32 bytes, const char*) {
        found.push_back({begin.value(), begin.value() + bytes});
    });
    return find_topology(read_memory, boot_id);
}
bool was_found(u64 begin, u64 bytes) {
    return std::find(found.begin(), found.end(), std::pair{begin, begin + bytes}) != found.end();
}

// A MADT with these entries, in place of QEMU's.
void use_madt(const Bytes& entries) {
    Bytes table = from_hex(kMadt);
    table.resize(44);
    table.insert(table.end(), entries.begin(), entries.end());
    const u32 length = static_cast<u32>(table.size());
    std::memcpy(table.data() + 4, &length, sizeof length);
    close_table(table, 9, length);
    memory[kMadtAt].clear();
    // It is longer than QEMU's, so it lies elsewhere.
    constexpr u64 kElsewhere = 0x3000'0000;
    memory[kElsewhere] = table;
    const u32 at = kElsewhere;
    std::memcpy(memory[kRsdtAt].data() + 40, &at, sizeof at);
    close_table(memory[kRsdtAt], 9, ~0u);
}
Bytes& operator<<(Bytes& bytes, std::initializer_list<u32> more) {
    for (const u32 byte : more)
        bytes.push_back(static_cast<u8>(byte));
    return bytes;
}

void check_sound(const CpuTopology& topology, u32 boot_id) {
    std::set<u32> ids;
    REQUIRE(!topology.lapic_ids.empty());
    REQUIRE(topology.lapic_ids[0] == boot_id);
    for (const u8 id : topology.lapic_ids)
        REQUIRE((id != 255 && ids.insert(id).second));
    std::set<u64> addresses;
    for (const CpuTopology::IoApic& io_apic : topology.io_apics)
        REQUIRE((io_apic.first_gsi == 0 && addresses.insert(io_apic.address.value()).second));
    for (const CpuTopology::Override& over : topology.overrides)
        REQUIRE(over.irq < 16);
    for (const CpuTopology::LocalNmi& nmi : topology.local_nmis)
        REQUIRE((nmi.pin <= 1 && (nmi.lapic_id == CpuTopology::LocalNmi::kEvery || ids.count(nmi.lapic_id) == 1)));
}

} // namespace

TEST_CASE("firmware: QEMU's tables, by ACPI", "[firmware]") {
    qemu_machine();
    const CpuTopology topology = look();
    CHECK(std::string{topology.source} == "ACPI");
    CHECK(topology.lapic_ids.size() == 2);
    REQUIRE(topology.io_apics.size() == 1);
    CHECK(topology.io_apics[0].address == PhysAddr{u64{0xfec0'0000}});
    CHECK(topology.overrides.size() == 5);
    CHECK(topology.overrides[0].gsi == 2);
    CHECK(topology.overrides[1].mode.level());
    REQUIRE(topology.local_nmis.size() == 1);
    CHECK(topology.local_nmis[0].lapic_id == CpuTopology::LocalNmi::kEvery);
    for (const auto& [at, bytes] :
         {std::pair{kRootAt, 20}, {kRsdtAt, 52}, {kFadtAt, 116}, {kMadtAt, 128}, {kMpAt, 16}, {kMpTableAt, 208}})
        CHECK(was_found(at, static_cast<u64>(bytes)));
}

TEST_CASE("firmware: QEMU's tables, by the MP tables", "[firmware]") {
    qemu_machine();
    memory[kRootAt][8] ^= 1;
    const CpuTopology topology = look();
    CHECK(std::string{topology.source} == "MP tables");
    CHECK(topology.lapic_ids.size() == 1); // QEMU's BIOS lists the first CPU of each package only
    REQUIRE(topology.io_apics.size() == 1);
    CHECK(topology.overrides.size() == 11); // the ISA bus's; 9 and 11 are PCI's, 5 and 10 not wired
    CHECK(topology.overrides[0].gsi == 2);
    REQUIRE(topology.local_nmis.size() == 1);
    CHECK(topology.local_nmis[0].pin == 1);
}

TEST_CASE("firmware: neither: the boot CPU is all there is", "[firmware]") {
    memory.clear();
    const CpuTopology topology = look(7);
    CHECK(std::string{topology.source} == "nothing");
    REQUIRE(topology.lapic_ids.size() == 1);
    CHECK(topology.lapic_ids[0] == 7);
    CHECK(found.empty());
}

TEST_CASE("firmware: DSDT, FACS and the 64-bit addresses of a FADT are found", "[firmware]") {
    qemu_machine();
    Bytes fadt = from_hex(kFadt);
    fadt.resize(244);
    const u32 length = 244;
    const u64 facs = 0x1'0000'0000, dsdt = 0x1'0000'1ff0; // above 4 GiB, and across a page border
    std::memcpy(fadt.data() + 4, &length, 4);
    std::memcpy(fadt.data() + 132, &facs, 8);
    std::memcpy(fadt.data() + 140, &dsdt, 8);
    close_table(fadt, 9, 244);
    memory.erase(kFadtAt);
    memory[0x2000'0000] = fadt;
    const u32 at = 0x2000'0000;
    std::memcpy(memory[kRsdtAt].data() + 36, &at, 4);
    close_table(memory[kRsdtAt], 9, ~0u);
    Bytes table(64);
    std::memcpy(table.data(), "FACS\x40\0\0\0", 8);
    memory[facs] = table;
    table.assign(5000, 0x11);
    std::memcpy(table.data(), "DSDT\x88\x13\0\0", 8);
    close_table(table, 9, 5000);
    memory[dsdt] = table;
    look();
    CHECK(was_found(facs, 64));
    CHECK(was_found(dsdt, 5000));
    CHECK(was_found(0x2000'0000, 244));
}

TEST_CASE("firmware: an XSDT goes first; what it lacks is looked for in the RSDT", "[firmware]") {
    qemu_machine();
    Bytes root = from_hex(kRoot);
    root.resize(36);
    root[15] = 2;
    const u32 length = 36;
    const u64 xsdt_at = 0x1'2345'6000;
    std::memcpy(root.data() + 20, &length, 4);
    std::memcpy(root.data() + 24, &xsdt_at, 8);
    close_table(root, 8, 20);
    close_table(root, 32, 36);
    memory[kRootAt] = root;
    Bytes xsdt(36 + 24);
    std::memcpy(xsdt.data(), "XSDT\x3c\0\0\0", 8);
    const u64 entries[] = {xsdt_at, 0, kFadtAt}; // the XSDT itself; none; a table that is in both lists
    std::memcpy(xsdt.data() + 36, entries, sizeof entries);
    close_table(xsdt, 9, xsdt.size());
    memory[xsdt_at] = xsdt;
    CHECK(look().lapic_ids.size() == 2);
    CHECK(was_found(xsdt_at, 60));
    CHECK(was_found(kRootAt, 36));
    // A wrong checksum of the XSDT, then of the extended part of the root pointer: each time it is ignored.
    memory[xsdt_at][40] ^= 1;
    CHECK(look().lapic_ids.size() == 2);
    CHECK_FALSE(was_found(xsdt_at, 60));
    memory[kRootAt][33] ^= 1;
    CHECK(look().lapic_ids.size() == 2);
}

TEST_CASE("firmware: more CPUs, other ids, and disabled ones", "[firmware]") {
    qemu_machine();
    Bytes entries;
    entries << std::initializer_list<u32>{5,    12,   0, 0, 0, 0,
                                          0xe0, 0xfe, 0, 0, 0, 0}; // ignored: the APIC base MSR counts
    entries << std::initializer_list<u32>{4, 6, 40, 5, 0, 1};      // a pin of a CPU listed later
    for (u32 id = 0; id < 100; ++id)
        entries << std::initializer_list<u32>{0, 8, id, id, id % 5 != 4, 0, 0, 0};
    entries << std::initializer_list<u32>{0, 8, 9, 9, 1, 0, 0, 0}; // disabled above
    for (u32 id = 250; id < 260; ++id)
        entries << std::initializer_list<u32>{9, 16, 0, 0, id, id >> 8, 0, 0, 1, 0, 0, 0, id, id >> 8, 0, 0};
    entries << std::initializer_list<u32>{10, 12, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0};
    entries << std::initializer_list<u32>{0x80, 3, 0};
    use_madt(entries);
    const CpuTopology topology = look(3);
    check_sound(topology, 3);
    CHECK(topology.lapic_ids.size() == config::kMaxCpus);
    CHECK(topology.lapic_ids[1] == 0);
    CHECK(topology.disabled_cpus == 20);
    CHECK(topology.unreachable_cpus == 5); // 255 to 259
    CHECK(topology.surplus_cpus == 80 + 1 + 5 - config::kMaxCpus);
    // The pin of CPU 8. The pin of 40 belongs to a CPU beyond kMaxCpus.
    REQUIRE(topology.local_nmis.size() == (config::kMaxCpus > 8 ? 1 : 0));
}

TEST_CASE("firmware: the MADT's lists have no end that matters", "[firmware]") {
    qemu_machine();
    Bytes entries;
    for (u32 i = 0; i < 300; ++i) {
        entries << std::initializer_list<u32>{2, 10, 0, i % 16, i, 0, 0, 0, 0, 0}; // the first one of each counts
        entries << std::initializer_list<u32>{4, 6, 0xff, 5, 0, i % 2};
        entries << std::initializer_list<u32>{1, 12, i, 0, 0, i, 0xc0, 0xfe, i >= 270 ? 0u : 24u, 0, 0, 0};
    }
    use_madt(entries);
    const CpuTopology topology = look();
    check_sound(topology, 0);
    CHECK(topology.overrides.size() == 16);
    CHECK(topology.overrides[5].gsi == 5);
    CHECK(topology.local_nmis.size() == 2);
    CHECK(topology.io_apics_listed == 300);
    CHECK(topology.io_apics.size() == 8);
    CHECK(topology.other_io_apics.size() == 32);
}

TEST_CASE("firmware: an ISA interrupt is where an override says, and on no input that another one was given",
          "[firmware]") {
    qemu_machine();
    Bytes entries;
    entries << std::initializer_list<u32>{2, 10, 0, 0, 99, 0, 0, 0, 0, 0};
    entries << std::initializer_list<u32>{2, 10, 0, 9, 5, 0, 0, 0, 0x0d, 0};
    entries << std::initializer_list<u32>{2, 10, 0, 5, 20, 0, 0, 0, 0, 0};
    entries << std::initializer_list<u32>{2, 10, 0, 3, 7, 0, 0, 0, 0, 0};
    use_madt(entries);
    const CpuTopology topology = look();
    CHECK(topology.isa_line(0).gsi == 99);
    CHECK(topology.isa_line(9).gsi == 5);
    CHECK(topology.isa_line(9).mode.level());
    CHECK(topology.isa_line(5).gsi == 20); // its own override counts, whether it comes before or after the other one
    CHECK(topology.isa_line(7).gsi == CpuTopology::IsaLine::kNowhere);
    CHECK(topology.isa_line(8).gsi == 8);
    CHECK_FALSE(topology.isa_line(8).mode.level());
}

TEST_CASE("firmware: the I/O APICs without ISA interrupts are listed, each once", "[firmware]") {
    qemu_machine();
    Bytes entries;
    for (const u32 page : {0u, 1u, 2u, 1u})
        entries << std::initializer_list<u32>{1, 12, page, 0, 0, page << 4, 0xc0, 0xfe, 24 * page, 0, 0, 0};
    use_madt(entries);
    const CpuTopology topology = look();
    REQUIRE(topology.io_apics.size() == 1);
    REQUIRE(topology.other_io_apics.size() == 2);
    CHECK(topology.other_io_apics[0] == PhysAddr{u64{0xfec0'1000}});
    CHECK(topology.other_io_apics[1] == PhysAddr{u64{0xfec0'2000}});
}

TEST_CASE("firmware: an entry without a length ends the table, and what came before it counts", "[firmware]") {
    for (const u32 length : {0u, 1u, 200u}) {
        qemu_machine();
        Bytes entries;
        entries << std::initializer_list<u32>{0, 8, 5, 5, 1, 0, 0, 0};
        entries << std::initializer_list<u32>{0, length, 6, 6, 1, 0, 0, 0};
        entries << std::initializer_list<u32>{0, 8, 7, 7, 1, 0, 0, 0};
        use_madt(entries);
        CHECK(look().lapic_ids.size() == 2);
    }
}

TEST_CASE("firmware: tables with wrong bytes", "[firmware][random]") {
    const u32 pieces[] = {kRootAt, kRsdtAt, kFadtAt, kMadtAt, kMpAt, kMpTableAt};
    u32 by_acpi = 0, by_mp = 0;
    for (u32 seed = 1; seed <= 6000; ++seed) {
        INFO("seed " << seed);
        Random random{seed};
        qemu_machine();
        if (seed % 2 == 0) memory.erase(kRootAt);
        for (u32 i = 1 + below(random, 6); i-- > 0;) {
            Bytes& piece = memory[pieces[below(random, 6)]];
            if (piece.empty()) continue;
            if (below(random, 12) == 0)
                piece.resize(below(random, static_cast<u32>(piece.size()))); // the table is truncated
            else
                piece[below(random, static_cast<u32>(piece.size()))] =
                    static_cast<u8>(below(random, 3) == 0   ? 0xff
                                    : below(random, 2) == 0 ? below(random, 4)
                                                            : below(random, 256));
        }
        if (below(random, 4) != 0) { // mostly with valid checksums
            for (const u32 at : {kRsdtAt, kFadtAt, kMadtAt}) {
                Bytes& table = memory[at];
                u32 length = 0;
                if (table.size() < 36) continue;
                std::memcpy(&length, table.data() + 4, 4);
                close_table(table, 9, length);
            }
            if (memory[kMpTableAt].size() >= 44)
                close_table(memory[kMpTableAt], 7, memory[kMpTableAt][4] | memory[kMpTableAt][5] << 8);
            if (memory[kMpAt].size() == 16) close_table(memory[kMpAt], 10, 16);
            if (memory[kRootAt].size() >= 20) close_table(memory[kRootAt], 8, 20);
        }
        const u32 boot_id = below(random, 4);
        const CpuTopology topology = look(boot_id);
        check_sound(topology, boot_id);
        REQUIRE(reads < 4000);
        for (const auto& [begin, end] : found) {
            REQUIRE(begin < end);
            REQUIRE(end - begin <= MiB);
        }
        by_acpi += topology.source == std::string_view{"ACPI"};
        by_mp += topology.source == std::string_view{"MP tables"};
    }
    CHECK(by_acpi > 500);
    CHECK(by_mp > 500);
}

// The work is bounded, however often a table is listed.
TEST_CASE("firmware: a root table that names one large table again and again", "[firmware]") {
    qemu_machine();
    Bytes large(MiB, 0x5a);
    const u32 length = MiB;
    std::memcpy(large.data(), "SSDT", 4);
    std::memcpy(large.data() + 4, &length, 4);
    close_table(large, 9, MiB);
    memory[0x1000'0000] = large;
    Bytes rsdt(36 + 4 * 2000);
    std::memcpy(rsdt.data(), "RSDT", 4);
    const u32 rsdt_bytes = static_cast<u32>(rsdt.size()), at = 0x1000'0000, rsdt_at = 0x1800'0000;
    std::memcpy(rsdt.data() + 4, &rsdt_bytes, 4);
    for (u32 i = 0; i < 2000; ++i)
        std::memcpy(rsdt.data() + 36 + 4 * i, &at, 4);
    close_table(rsdt, 9, rsdt.size());
    memory[rsdt_at] = rsdt;
    std::memcpy(memory[kRootAt].data() + 16, &rsdt_at, 4);
    close_table(memory[kRootAt], 8, 20);
    look();
    CHECK(was_found(0x1000'0000, MiB));
    CHECK(reads < 60'000);
}
