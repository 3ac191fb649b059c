// The multiboot information: copies are equal to the originals, ranges in use are covered, and copies lie in free
// pages. Checked byte by byte and page by page against a model of memory.
#include "kernel/boot/in_use.hpp"
#include "kernel/boot/multiboot.hpp"
#include "mm/frames/physmap.hpp"
#include "tests/host/booted.hpp"

#include <algorithm>
#include <cstring>
#include <multiboot/multiboot.h>
#include <optional>
#include <string>

using namespace loft;
using namespace loft::test;

namespace {

constexpr u32 kUsable = FirmwareRange::kUsable;
constexpr u32 kImage = MiB, kImageEnd = MiB + 0x23'000;
constexpr u32 kHoleBegin = 0xa0, kHoleEnd = 0x100; // pages of video memory and ROMs

// The machine's memory: 4 MiB and no more.
std::vector<u8> world;
constexpr u32 kWorld = 4 * MiB;

bool read_world(PhysAddr from, void* to, u32 bytes) {
    if (from.value() > world.size() || bytes > world.size() - from.value()) return false;
    std::memcpy(to, world.data() + from.value(), bytes);
    return true;
}
void* world_at(PhysAddr from, u32 bytes) {
    REQUIRE(from.value() + bytes <= world.size());
    return world.data() + from.value();
}

struct Piece {
    u32 begin, bytes;
};

// Builds the information of a loader, piece by piece, at addresses that the test chooses.
struct Loader {
    multiboot_info_t info{};
    u32 next = 0; // the address of the next piece
    std::vector<Piece> pieces;
    std::vector<FirmwareRange> ranges;
    struct Module {
        u32 begin, end;
        std::string text;
    };
    std::vector<Module> modules;
    std::string command;

    u32 put(const void* data, u32 bytes) {
        const u32 here = next;
        std::copy_n(static_cast<const u8*>(data), bytes, world.data() + here);
        pieces.push_back({here, bytes});
        next += bytes;
        return here;
    }
    u32 put_text(const std::string& text) { return put(text.c_str(), static_cast<u32>(text.size()) + 1); }

    // Puts `slack` bytes after each entry of the map. Returns the address of the information.
    u32 place(u32 slack = 0) {
        info.flags |= MULTIBOOT_INFO_MEM_MAP | MULTIBOOT_INFO_CMDLINE | MULTIBOOT_INFO_MODS;
        info.cmdline = put_text(command);
        std::vector<u8> map;
        for (const FirmwareRange& range : ranges) {
            multiboot_memory_map_t entry{u32{sizeof entry} - 4 + slack, range.base, range.length, range.type};
            const auto* bytes = reinterpret_cast<const u8*>(&entry);
            map.insert(map.end(), bytes, bytes + sizeof entry);
            map.insert(map.end(), slack, 0xee);
        }
        info.mmap_length = static_cast<u32>(map.size());
        info.mmap_addr = put(map.data(), info.mmap_length);
        std::vector<multiboot_module_t> list;
        for (const Module& module : modules)
            list.push_back({module.begin, module.end, module.text.empty() ? 0 : put_text(module.text), 0});
        info.mods_count = static_cast<u32>(list.size());
        info.mods_addr = put(list.data(), static_cast<u32>(list.size() * sizeof list[0]));
        const u32 here = put(&info, sizeof info);
        if (!(info.flags & MULTIBOOT_INFO_FRAMEBUFFER_INFO)) // no later field is announced
            pieces.back().bytes = offsetof(multiboot_info_t, drives_length);
        return here;
    }
};

void read_all(u32 info) {
    read_multiboot({read_world, world_at}, MULTIBOOT_BOOTLOADER_MAGIC, info, PhysAddr{u64{kImage}},
                   PhysAddr{u64{kImageEnd}});
}

Loader simple() {
    world.assign(kWorld, 0);
    Loader loader;
    loader.next = 0x20'0000;
    loader.ranges = {{0, 0x9'fc00, kUsable}, {0xf'0000, 0x1'0000, 2}, {MiB, 3 * MiB, kUsable}};
    loader.command = "exit";
    return loader;
}

bool is_covered(u64 begin, u64 end) {
    for (u64 at = begin; at < end;) {
        u64 further = at;
        for (const ReservedRange& range : multiboot_reserved())
            if (range.begin.value() <= at) further = std::max(further, range.end.value());
        if (further == at) return false;
        at = further;
    }
    return true;
}

std::string harmless(std::string text) {
    for (char& c : text) {
        if (c == '\t' || c == '\n' || c == '\r') c = ' ';
        if (c < ' ' || c > '~') c = '?';
    }
    return text;
}

// For each page: 0 no entry, 1 usable, 2 not usable.
std::vector<u8> pages_of(const std::vector<FirmwareRange>& ranges, u32 pages) {
    std::vector<u8> state(pages * kPageSize / 256);
    const auto paint = [&](bool usable) {
        for (const FirmwareRange& range : ranges) {
            if ((range.type == kUsable) != usable) continue;
            const u64 end = range.base + range.length < range.base ? ~u64{0} : range.base + range.length;
            for (u64 unit = range.base / 256; unit < state.size() && unit * 256 < end; ++unit)
                state[unit] = usable ? 1 : 2;
        }
    };
    paint(true);
    paint(false);
    std::vector<u8> result(pages, 1);
    for (u32 page = 0; page < pages; ++page)
        for (u32 unit = page * 16; unit < page * 16 + 16; ++unit)
            if (state[unit] != 1) result[page] = state[unit] == 2 ? 2 : result[page] == 2 ? 2 : 0;
    return result;
}

} // namespace

TEST_CASE("in use: what was added stays covered, and the list is exact as long as there is room", "[multiboot]") {
    for (u32 seed = 1; seed <= 300; ++seed) {
        INFO("seed " << seed);
        Random random{seed};
        InUse list;
        std::vector<bool> used(4096);
        const u32 count = below(random, 200);
        for (u32 i = 0; i < count; ++i) {
            const u32 begin = below(random, 4000), pages = below(random, 5);
            list.add(u64{begin} * kPageSize + 5, u64{begin + pages} * kPageSize + 5 - (pages != 0 ? 5 : 0),
                     below(random, 2) != 0 ? "one" : "other");
            for (u32 page = begin; page < begin + pages; ++page)
                used[page] = true;
        }
        CHECK(list.view().size() <= InUse::kRoom);
        std::vector<bool> listed(4096);
        u64 before = 0;
        for (const ReservedRange& range : list.view()) {
            REQUIRE(range.begin.value() >= before);
            REQUIRE(range.begin < range.end);
            before = range.begin.value();
            for (u64 page = range.begin.value() / kPageSize; page * kPageSize < range.end.value(); ++page)
                listed[page] = true;
        }
        for (u32 page = 0; page < 4096; ++page)
            REQUIRE(listed[page] >= used[page]);
        if (count <= InUse::kRoom) REQUIRE(listed == used);
    }
}

TEST_CASE("in use: a full list joins the two that are nearest", "[multiboot]") {
    InUse list;
    const char* const names[] = {"a", "b"};
    for (u32 i = 0; i < InUse::kRoom; ++i)
        list.add(u64{i} * 16 * MiB, u64{i} * 16 * MiB + MiB, names[i % 2]);
    list.add(10 * 16 * MiB + 2 * MiB, 10 * 16 * MiB + 3 * MiB, "c"); // touches none: the two nearest ranges are joined
    CHECK(list.view().size() == InUse::kRoom);
    list.add(GiB * 4, GiB * 5, "d");
    CHECK(list.view().size() == InUse::kRoom);
    bool joined = false;
    for (const ReservedRange& range : list.view())
        joined |= range.begin.value() == 10 * 16 * MiB && range.end.value() == 10 * 16 * MiB + 3 * MiB;
    CHECK(joined);
}

TEST_CASE("multiboot: everything is copied, and covered", "[multiboot]") {
    Loader loader = simple();
    loader.command = "one\ttwo\x01\xff end";
    loader.modules = {{0x30'0000, 0x30'1000, "path/of/it with words"}, {0x31'0000, 0x31'0001, ""}};
    read_all(loader.place(8));
    CHECK(multiboot_command_line() == "one two?? end");
    REQUIRE(multiboot_memory_map().size() == 3);
    CHECK(multiboot_memory_map()[2].base == MiB);
    CHECK(multiboot_memory_map()[2].length == 3 * MiB);
    REQUIRE(multiboot_modules().size() == 2);
    CHECK(multiboot_modules()[0].command == "path/of/it with words");
    CHECK(multiboot_modules()[1].command.empty());
    CHECK(multiboot_modules()[1].end == PhysAddr{u64{0x31'0001}});
    for (const Piece& piece : loader.pieces)
        CHECK(is_covered(piece.begin, piece.begin + piece.bytes));
    CHECK(is_covered(kImage, kImageEnd));
    CHECK(is_covered(0x30'0000, 0x30'1000));
    CHECK(is_covered(0x31'0000, 0x31'0001));
    CHECK(multiboot_map_room().fits(3));
}

TEST_CASE("multiboot: any number of modules with lines of any length up to 4 KiB", "[multiboot]") {
    Loader loader = simple();
    const u32 count = GENERATE(1u, 33u, 500u);
    for (u32 i = 0; i < count; ++i)
        loader.modules.push_back({0x40'0000 + i * 0x1'0000, 0x40'0000 + i * 0x1'0000 + 0x2000,
                                  "m" + std::to_string(i) + std::string(i % 7 == 0 ? 3000 : 3, 'x')});
    loader.ranges[2].length = 3 * MiB - 0x800;
    loader.next = MiB + 0x40'000;
    read_all(loader.place());
    REQUIRE(multiboot_modules().size() == count);
    for (u32 i = 0; i < count; ++i) {
        REQUIRE(multiboot_modules()[i].command == loader.modules[i].text);
        REQUIRE(is_covered(loader.modules[i].begin, loader.modules[i].end));
    }
}

TEST_CASE("multiboot: a line without an end is cut, with a warning", "[multiboot]") {
    Booted kernel; // its log
    Loader loader = simple();
    loader.modules = {{0x30'0000, 0x30'1000, std::string(5000, 'x')}};
    read_all(loader.place());
    CHECK(multiboot_modules()[0].command.size() == 4096);
    CHECK(kernel.machine.logged("the line of module 0 has no end within 4096 bytes"));
    loader = simple();
    loader.command = std::string(70'000, 'y');
    read_all(loader.place());
    CHECK(multiboot_command_line().size() == 65'536);
    CHECK(kernel.machine.logged("the command line has no end within 65536 bytes"));
    loader = simple();
    loader.place();
    std::memset(world.data() + kWorld - 10, 'z', 10); // the line runs past the end of readable memory
    loader.info.cmdline = kWorld - 10;
    loader.next = 0x22'0000;
    read_all(loader.put(&loader.info, sizeof loader.info));
    CHECK(multiboot_command_line() == "zzzzzzzzzz");
}

TEST_CASE("multiboot: video memory and ROMs are never RAM", "[multiboot]") {
    Loader loader = simple();
    loader.ranges = {{0, 4 * MiB, kUsable}};
    read_all(loader.place());
    PhysMap map;
    physmap_build(map, multiboot_memory_map(), 1u << 24, multiboot_map_room());
    REQUIRE(map.count == 2);
    CHECK(map.ranges[0].end == Pfn{kHoleBegin});
    CHECK(map.ranges[1].begin == Pfn{kHoleEnd});
}

TEST_CASE("multiboot: what is left in fields that loft does not read is covered, too", "[multiboot]") {
    Loader loader = simple();
    auto& info = loader.info;
    info.flags = MULTIBOOT_INFO_ELF_SHDR | MULTIBOOT_INFO_DRIVE_INFO | MULTIBOOT_INFO_CONFIG_TABLE |
                 MULTIBOOT_INFO_BOOT_LOADER_NAME | MULTIBOOT_INFO_APM_TABLE | MULTIBOOT_INFO_VBE_INFO |
                 MULTIBOOT_INFO_FRAMEBUFFER_INFO;
    u32 sections[3][10]{};
    sections[1][3] = 0x25'0000; // address and size
    sections[1][5] = 0x1234;
    sections[2][2] = 1 << 1; // SHF_ALLOC: in loft's image, at a virtual address
    sections[2][3] = 0x34'0000;
    sections[2][5] = 0x1000;
    info.u.elf_sec = {3, sizeof sections[0], loader.put(sections, sizeof sections), 0};
    const u8 table[600]{0x10};
    info.drives_addr = loader.put(table, 100);
    info.drives_length = 100;
    info.config_table = loader.put(table, 18);
    info.boot_loader_name = loader.put_text("a loader");
    info.apm_table = loader.put(table, 20);
    info.vbe_control_info = loader.put(table, 512);
    info.vbe_mode_info = loader.put(table, 256);
    info.framebuffer_addr = 0x28'0000;
    info.framebuffer_pitch = 640;
    info.framebuffer_height = 480;
    info.framebuffer_type = MULTIBOOT_FRAMEBUFFER_TYPE_INDEXED;
    info.framebuffer_palette_addr = loader.put(table, 48);
    info.framebuffer_palette_num_colors = 16;
    read_all(loader.place());
    for (const Piece& piece : loader.pieces)
        CHECK(is_covered(piece.begin, piece.begin + piece.bytes));
    CHECK(is_covered(0x25'0000, 0x25'1234));
    CHECK_FALSE(is_covered(0x34'0000, 0x34'1000));
    CHECK(is_covered(0x28'0000, 0x28'0000 + 640 * 480));
}

TEST_CASE("multiboot: each of the two parts of a.out symbols begins with its length", "[multiboot]") {
    Loader loader = simple();
    loader.info.flags = MULTIBOOT_INFO_AOUT_SYMS;
    loader.info.u.aout_sym = {0x100, 0x80, 0x25'0000, 0};
    read_all(loader.place());
    CHECK(is_covered(0x25'0000, 0x25'0000 + 4 + 0x100 + 4 + 0x80));
}

TEST_CASE("multiboot: a module list, or a map, that cannot be right is refused", "[multiboot][refuse]") {
    Loader loader = simple();
    u32 at = loader.place();
    const auto again = [&] {
        loader.next = 0x22'0000;
        at = loader.put(&loader.info, sizeof loader.info);
    };
    loader.info.mods_count = 4097;
    again();
    REQUIRE_REFUSED(read_all(at), "4097 modules");
    loader.info.mods_count = 100;
    loader.info.mods_addr = kWorld - 100;
    again();
    REQUIRE_REFUSED(read_all(at), "the list of 100 modules");
    loader.info.mods_count = 0;
    loader.info.mmap_length -= 1;
    again();
    REQUIRE_REFUSED(read_all(at), "entry 2 of the memory map is cut off");
    loader.info.mmap_addr = kWorld - 10;
    again();
    REQUIRE_REFUSED(read_all(at), "runs over the end");
    REQUIRE_REFUSED(read_all(kWorld - 4), "cannot be at physical");
    REQUIRE_REFUSED(read_all(0), "cannot be at physical");
    loader = simple();
    loader.ranges = {{0, 4 * MiB, 2}};
    at = loader.place();
    REQUIRE_REFUSED(read_all(at), "contiguous low memory for a copy");
}

// The last field is read only if the flags announce it.
TEST_CASE("multiboot: information that ends where memory does", "[multiboot]") {
    Loader loader = simple();
    loader.place();
    loader.next = kWorld - offsetof(multiboot_info_t, drives_length);
    world.resize(kWorld + 4 * KiB);
    const u32 at = loader.put(&loader.info, sizeof loader.info);
    world.resize(kWorld);
    CHECK_NOTHROW(read_all(at));
    world.resize(kWorld + 4 * KiB);
    loader.info.flags |= MULTIBOOT_INFO_FRAMEBUFFER_INFO;
    loader.next = at;
    loader.put(&loader.info, sizeof loader.info);
    world.resize(kWorld);
    REQUIRE_REFUSED(read_all(at), "runs over the end");
}

TEST_CASE("multiboot: random worlds", "[multiboot][random]") {
    constexpr u32 kPages = kWorld / kPageSize;
    u32 refused = 0, kept = 0;
    for (u32 seed = 1; seed <= 2000; ++seed) {
        INFO("seed " << seed);
        Random random{seed};
        world.assign(kWorld, 0);
        Loader loader;
        // The information lies anywhere but in the kernel and in the ROMs.
        const u32 homes[] = {0x1'0000, 0x13'0000, 0x20'0123, 0x3c'0fff};
        loader.next = homes[below(random, 4)];
        const u32 kind = below(random, 10);
        const u32 entries = kind == 0 ? 500 + below(random, 2000) : below(random, 30);
        if (kind > 1) loader.ranges.push_back({0, 0xa'0000, kUsable});
        if (kind > 2) loader.ranges.push_back({MiB, 3 * MiB, kUsable});
        for (u32 i = 0; i < entries; ++i) {
            u64 base = below(random, (kWorld - MiB) / 256) * u64{256}, length = below(random, 0x40) * u64{256};
            switch (below(random, 12)) {
            case 0:
                length = 0;
                break;
            case 1:
                base = ~u64{0} - below(random, 0x10000), length = below(random, 0x100000);
                break;
            case 2:
                length = below(random, MiB / 256) * u64{256};
                break;
            case 3:
                base = round_down(base, u64{kPageSize}), length = round_up(length, u64{kPageSize});
                break;
            }
            loader.ranges.push_back({base, length, below(random, 3) != 0 ? below(random, 7) : kUsable});
        }
        if (loader.ranges.empty()) loader.ranges.push_back({MiB, MiB, kUsable});
        std::shuffle(loader.ranges.begin(), loader.ranges.end(), random);
        for (u32 i = below(random, 80); i-- > 0;) {
            const u32 begin = 0x18'0000 + below(random, 0x30'0000);
            loader.modules.push_back({begin, begin + below(random, 0x4000),
                                      std::string(below(random, 40), static_cast<char>(1 + below(random, 250)))});
        }
        loader.command = std::string(below(random, 300), static_cast<char>(1 + below(random, 250)));
        const u32 slack = kind != 0 && below(random, 4) == 0 ? below(random, 9) : 0; // a map has 64 KiB at most
        const u32 at = loader.place(slack);
        std::vector<std::pair<Piece, std::vector<u8>>> before;
        for (const Piece& piece : loader.pieces)
            before.push_back({piece, {world.begin() + piece.begin, world.begin() + piece.begin + piece.bytes}});

        std::vector<u8> state = pages_of(loader.ranges, kPages);
        for (u32 page = kHoleBegin; page < kHoleEnd; ++page)
            state[page] = 2;
        try {
            read_all(at);
        } catch (const sim::Refused& refusal) {
            // A refusal is right only if no page is free; copies of more pages are checked below.
            REQUIRE(std::string{refusal.what()}.find("for a copy") != std::string::npos);
            ++refused;
            continue;
        }
        ++kept;
        // No piece of the loader is overwritten, and all of them are covered.
        for (const auto& [piece, bytes] : before) {
            REQUIRE(std::equal(bytes.begin(), bytes.end(), world.begin() + piece.begin));
            REQUIRE(is_covered(piece.begin, piece.begin + piece.bytes));
        }
        // The copies are right.
        REQUIRE(multiboot_command_line() == harmless(loader.command));
        std::vector<Loader::Module> modules;
        for (const Loader::Module& module : loader.modules)
            if (module.begin < module.end) modules.push_back(module);
        REQUIRE(multiboot_modules().size() == modules.size());
        for (u32 i = 0; i < modules.size(); ++i) {
            REQUIRE(multiboot_modules()[i].begin.value() == modules[i].begin);
            REQUIRE(multiboot_modules()[i].end.value() == modules[i].end);
            REQUIRE(multiboot_modules()[i].command == harmless(modules[i].text));
            REQUIRE(is_covered(modules[i].begin, modules[i].end));
        }
        const std::span<const FirmwareRange> map = multiboot_memory_map();
        REQUIRE((map.size() == loader.ranges.size() || map.size() == loader.ranges.size() + 1));
        for (u32 i = 0; i < loader.ranges.size(); ++i) {
            REQUIRE(map[i].base == loader.ranges[i].base);
            REQUIRE(map[i].length == loader.ranges[i].length);
            REQUIRE(map[i].type == loader.ranges[i].type);
        }
        // They lie in pages that are usable and were not in use.
        const u32 end = static_cast<u32>(multiboot_stored_end().pfn().value());
        const u32 begin = static_cast<u32>((reinterpret_cast<const u8*>(map.data()) - world.data()) >> kPageShift);
        REQUIRE(begin < end);
        for (u32 page = begin; page < end; ++page)
            REQUIRE(state[page] == 1);
        REQUIRE(is_covered(u64{begin} << kPageShift, u64{end} << kPageShift));
        // mm's map equals the page-by-page model.
        PhysMap usable;
        physmap_build(usable, map, kPages, multiboot_map_room());
        std::vector<u8> found(kPages);
        for (const FrameRange& range : usable.usable())
            for (u32 pfn = range.begin.value(); pfn < range.end.value(); ++pfn)
                found[pfn] = 1;
        for (u32 page = 0; page < kPages; ++page)
            REQUIRE(found[page] == (state[page] == 1));
    }
    CHECK(kept > 500);
    CHECK(refused > 0);
}

// A copy is refused only if there is no place for it: one free page is enough for a small map.
TEST_CASE("multiboot: the one page that is free is found", "[multiboot][random]") {
    for (u32 seed = 1; seed <= 400; ++seed) {
        INFO("seed " << seed);
        Random random{seed};
        Loader loader = simple();
        loader.next = 0x12'4000;
        const u32 page = below(random, 2) != 0 ? 0x130 + below(random, 0x2cf) : 1 + below(random, 0x9e);
        loader.ranges = {{u64{page} << kPageShift, kPageSize, kUsable}, {MiB, 0x3'0000, kUsable}, {MiB, 0x3'0000, 2}};
        loader.ranges.push_back({(u64{page} << kPageShift) - 0x800, 0x800, kUsable}); // and half a page beside it
        read_all(loader.place());
        REQUIRE(multiboot_stored_end().value() == (u64{page} + 1) << kPageShift);
    }
}
