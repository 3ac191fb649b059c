// Multiboot 0.6.96, section 3.3: the information structure of the boot loader, treated as hostile input.
//
// Its pointers are physical, 32 bits wide and may point anywhere, also above the direct map, so every byte is read
// through PhysicalMemory. No length is trusted: each has a limit, and exceeding it is logged. A malformed memory map is
// refused: if memory in use counted as free, data would be corrupted long after the cause. Any other malformed item is
// ignored with a warning.
//
// Three steps: record the ranges in use, and count the items; find room for the copies; copy.
#include "kernel/boot/multiboot.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/firmware/find.hpp"
#include "kernel/boot/in_use.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <multiboot/multiboot.h>
#include <new>

namespace loft {
namespace {

// Anything longer is invalid.
constexpr u32 kMaxCommandLine = 64 * KiB;
constexpr u32 kMaxModuleCommand = 4 * KiB;
constexpr u32 kMaxModules = 4096;
constexpr u32 kMaxMapBytes = 64 * KiB;
constexpr u32 kMaxPieceBytes = 256 * MiB; // a framebuffer of 8192 x 8192 pixels

constexpr u32 kMinEntry = sizeof(multiboot_memory_map_t) - sizeof(multiboot_uint32_t); // `size` does not include itself

// Video memory and ROMs: never RAM on a PC, whatever the firmware reports (IBM PC/AT Technical Reference, "Memory
// map").
constexpr u64 kIsaHoleBegin = u64{640} * KiB, kIsaHoleEnd = MiB;

// The copies must lie here: memory that the direct map covers whatever mm decides later.
constexpr u64 kLowest = MiB, kHighest = u64{896} * MiB;

constinit PhysicalMemory memory{};
InUse in_use;
std::string_view command_line_view;
std::span<const FirmwareRange> memory_map;
std::span<const BootModule> modules;
PhysMapRoom map_room;
PhysAddr stored_end;

u64 end_of(const FirmwareRange& range) {
    return range.base + range.length < range.base ? ~u64{0} : range.base + range.length;
}
bool overlaps(const FirmwareRange& range, u64 begin, u64 end) {
    return range.length != 0 && range.base < end && begin < end_of(range);
}

// Copies physical memory from below 4 GiB; false if the range ends above 4 GiB.
bool read_below_4g(u64 from, void* to, u32 bytes) {
    return from + bytes <= 4 * GiB && memory.read(PhysAddr{from}, to, bytes);
}

// The string at `from`; `size` excludes the terminator. `whole`: the terminator was found within `most` characters.
struct Text {
    u32 from = 0;
    u32 size = 0;
    bool whole = false;
};
Text find_text(u32 from, u32 most) {
    Text text{from};
    std::array<char, 256> chunk{};
    while (text.size < most) {
        const u64 at = u64{from} + text.size;
        const u32 step = std::min(most - text.size, u32{chunk.size()} - static_cast<u32>(at % chunk.size()));
        if (!read_below_4g(at, chunk.data(), step)) return text;
        for (u32 i = 0; i != step; ++i, ++text.size) {
            if (chunk[i] != '\0') continue;
            text.whole = true;
            return text;
        }
    }
    return text;
}

void note(u64 begin, u64 bytes, const char* what) { in_use.add(begin, begin + bytes, what); }

// For data that loft does not read: the claimed address and length are trusted if the length is plausible.
void note_piece(u64 begin, u64 bytes, const char* what) {
    if (begin == 0 || bytes == 0) return;
    if (bytes > kMaxPieceBytes || begin + bytes < begin)
        log(LogLevel::warn, "multiboot", "{} at {:08x}: {} bytes cannot be right; ignored", what, begin, bytes);
    else
        note(begin, bytes, what);
}

// --- The loader's information, piece by piece.

class Loader {
  public:
    Loader(u32 magic, u32 info_at);

    const multiboot_info_t& info() const { return info_; }

    // Calls visit(FirmwareRange) for each entry of the memory map. Refuses a malformed map.
    template <typename F> void each_range(F&& visit) const;
    // Calls visit(module, index) for each entry of the module list.
    template <typename F> void each_module(F&& visit) const;

    u32 modules_count() const { return info_.flags & MULTIBOOT_INFO_MODS ? info_.mods_count : 0; }
    bool has(u32 flag) const { return (info_.flags & flag) != 0; }

  private:
    multiboot_info_t info_{};
};

Loader::Loader(u32 magic, u32 info_at) {
    if (magic != MULTIBOOT_BOOTLOADER_MAGIC)
        refuse("multiboot: the magic number is {:08x}, not {:08x}: loft must be started by a multiboot loader "
               "(GRUB's \"multiboot\", QEMU's -kernel)",
               magic, u32{MULTIBOOT_BOOTLOADER_MAGIC});
    // A loader need not provide fields that its flags do not announce, so those are not read.
    u32 bytes = offsetof(multiboot_info_t, drives_length);
    if (info_at == 0 || !read_below_4g(info_at, &info_, bytes))
        refuse("multiboot: the information cannot be at physical {:08x}; repair the loader", info_at);
    if (info_.flags & (MULTIBOOT_INFO_DRIVE_INFO | MULTIBOOT_INFO_CONFIG_TABLE | MULTIBOOT_INFO_BOOT_LOADER_NAME |
                       MULTIBOOT_INFO_APM_TABLE))
        bytes = offsetof(multiboot_info_t, vbe_control_info);
    if (info_.flags & MULTIBOOT_INFO_VBE_INFO) bytes = offsetof(multiboot_info_t, framebuffer_addr);
    if (info_.flags & MULTIBOOT_INFO_FRAMEBUFFER_INFO) bytes = sizeof info_;
    if (!read_below_4g(info_at, &info_, bytes))
        refuse("multiboot: the information at physical {:08x} runs over the end of 4 GiB; repair the loader", info_at);
    note(info_at, bytes, "multiboot information");
}

template <typename F> void Loader::each_range(F&& visit) const {
    static constexpr const char* kAdvice = "boot through GRUB or QEMU's -kernel, or repair the loader";
    if (!has(MULTIBOOT_INFO_MEM_MAP))
        refuse("multiboot: the loader passed no memory map (flags {:08x}, bit 6 is clear); {}", info_.flags, kAdvice);
    if (info_.mmap_length == 0) refuse("multiboot: the memory map is empty; {}", kAdvice);
    if (info_.mmap_length > kMaxMapBytes)
        refuse("multiboot: the memory map is {} bytes long, more than {} cannot be right; {}", info_.mmap_length,
               kMaxMapBytes, kAdvice);

    for (u32 offset = 0, index = 0; offset != info_.mmap_length; ++index) {
        multiboot_memory_map_t entry;
        const u32 left = info_.mmap_length - offset;
        if (left < sizeof entry)
            refuse("multiboot: entry {} of the memory map is cut off ({} bytes are left); {}", index, left, kAdvice);
        if (!read_below_4g(u64{info_.mmap_addr} + offset, &entry, sizeof entry))
            refuse("multiboot: the memory map at {:08x} runs over the end of 4 GiB; {}", info_.mmap_addr, kAdvice);
        if (entry.size < kMinEntry || entry.size > left - sizeof entry.size)
            refuse("multiboot: entry {} of the memory map has size {}, at least {} and at most {} is possible; {}",
                   index, u32{entry.size}, kMinEntry, left - sizeof entry.size, kAdvice);
        visit(FirmwareRange{entry.addr, entry.len, entry.type});
        offset += entry.size + sizeof entry.size;
    }
}

template <typename F> void Loader::each_module(F&& visit) const {
    for (u32 i = 0; i != modules_count(); ++i) {
        multiboot_module_t module;
        if (!read_below_4g(info_.mods_addr + u64{i} * sizeof module, &module, sizeof module))
            refuse("multiboot: the list of {} modules at {:08x} runs over the end of 4 GiB; repair the loader",
                   modules_count(), info_.mods_addr);
        visit(module, i);
    }
}

Text module_text(const multiboot_module_t& module) {
    return module.cmdline != 0 ? find_text(module.cmdline, kMaxModuleCommand) : Text{};
}

// --- Ranges in use, and the number of items.

struct Amount {
    u32 ranges = 1; // one more than the loader's: the ISA hole
    u32 modules = 0;
    u32 text = 0;
};

void note_symbols(const multiboot_info_t& info) {
    if (info.flags & MULTIBOOT_INFO_AOUT_SYMS) {
        const auto& table = info.u.aout_sym; // each of the two parts begins with its length
        note_piece(table.addr, u64{table.tabsize} + table.strsize + 8, "symbols");
    }
    if (!(info.flags & MULTIBOOT_INFO_ELF_SHDR)) return;
    const auto& table = info.u.elf_sec;
    note_piece(table.addr, u64{table.num} * table.size, "section headers");
    struct { // System V ABI, "Section header"
        u32 name, type, flags, addr, offset, size, link, info, align, entry_size;
    } section;
    constexpr u32 kMaxSections = 0xff00; // SHN_LORESERVE
    constexpr u32 kAlloc = 1 << 1;       // SHF_ALLOC: part of the kernel image; the address is virtual
    if (table.size < sizeof section || table.num >= kMaxSections) return;
    for (u32 i = 0; i != table.num; ++i)
        if (read_below_4g(table.addr + u64{i} * table.size, &section, sizeof section) && !(section.flags & kAlloc))
            note_piece(section.addr, section.size, "section");
}

void note_other_pieces(const multiboot_info_t& info) {
    note_symbols(info);
    if (info.flags & MULTIBOOT_INFO_DRIVE_INFO) note_piece(info.drives_addr, info.drives_length, "drives");
    if (info.flags & MULTIBOOT_INFO_CONFIG_TABLE) {
        u16 length = 0; // does not include itself (RBIL, INT 15h AH=C0h)
        if (read_below_4g(info.config_table, &length, sizeof length))
            note_piece(info.config_table, length + sizeof length, "configuration table");
    }
    if (info.flags & MULTIBOOT_INFO_BOOT_LOADER_NAME)
        note_piece(info.boot_loader_name, find_text(info.boot_loader_name, kMaxModuleCommand).size + 1,
                   "loader's name");
    if (info.flags & MULTIBOOT_INFO_APM_TABLE) note_piece(info.apm_table, sizeof(multiboot_apm_info), "APM table");
    if (info.flags & MULTIBOOT_INFO_VBE_INFO) {
        note_piece(info.vbe_control_info, 512, "VBE information"); // VBE 3.0, functions 00h and 01h
        note_piece(info.vbe_mode_info, 256, "VBE mode");
    }
    if (info.flags & MULTIBOOT_INFO_FRAMEBUFFER_INFO) {
        note_piece(info.framebuffer_addr, u64{info.framebuffer_pitch} * info.framebuffer_height, "framebuffer");
        if (info.framebuffer_type == MULTIBOOT_FRAMEBUFFER_TYPE_INDEXED)
            note_piece(info.framebuffer_palette_addr,
                       u64{info.framebuffer_palette_num_colors} * sizeof(multiboot_color), "palette");
    }
}

void note_modules(const Loader& loader, Amount& amount) {
    const u32 count = loader.modules_count();
    if (count > kMaxModules)
        refuse("multiboot: {} modules; more than {} cannot be right. Load fewer, or repair the loader", count,
               kMaxModules);
    if (count != 0) note(loader.info().mods_addr, u64{count} * sizeof(multiboot_module_t), "module list");
    loader.each_module([&](const multiboot_module_t& module, u32 index) {
        if (module.mod_start >= module.mod_end) {
            log(LogLevel::warn, "multiboot", "module {} is [{:08x}-{:08x}): empty, ignored", index, module.mod_start,
                module.mod_end);
            return;
        }
        const Text text = module_text(module);
        if (module.cmdline != 0) {
            if (!text.whole)
                log(LogLevel::warn, "multiboot",
                    "the line of module {} has no end within {} bytes; the rest is ignored", index, text.size);
            note(module.cmdline, text.size + 1, "module command line");
        }
        note(module.mod_start, module.mod_end - module.mod_start, "module");
        ++amount.modules;
        amount.text += text.size;
    });
}

Text note_command_line(const Loader& loader, Amount& amount) {
    if (!loader.has(MULTIBOOT_INFO_CMDLINE) || loader.info().cmdline == 0) return {};
    const Text text = find_text(loader.info().cmdline, kMaxCommandLine);
    if (!text.whole)
        log(LogLevel::warn, "multiboot", "the command line has no end within {} bytes; the rest is ignored", text.size);
    note(text.from, text.size + 1, "command line");
    amount.text += text.size;
    return text;
}

// --- Room for the copies.

// The lowest address from `at` on where usable entries cover `bytes` and no other range overlaps; 0 if there is none
// below `limit`.
u64 find_room(const Loader& loader, u64 at, u64 limit, u64 bytes) {
    while (at + bytes <= limit) {
        u64 next = at;
        const auto avoid = [&](u64 begin, u64 end) {
            if (begin < at + bytes && end > next) next = end;
        };
        avoid(kIsaHoleBegin, kIsaHoleEnd);
        for (const ReservedRange& range : in_use.view())
            avoid(range.begin.value(), range.end.value());
        loader.each_range([&](const FirmwareRange& range) {
            if (range.type != FirmwareRange::kUsable && range.length != 0) avoid(range.base, end_of(range));
        });
        if (next == at) {
            u64 covered = at;
            for (bool further = true; further && covered < at + bytes;) {
                further = false;
                next = ~u64{0}; // where the next usable entry begins
                loader.each_range([&](const FirmwareRange& range) {
                    if (range.type != FirmwareRange::kUsable || end_of(range) <= covered) return;
                    if (range.base <= covered) {
                        covered = end_of(range);
                        further = true;
                    } else {
                        next = std::min(next, range.base);
                    }
                });
            }
            if (covered >= at + bytes) return at;
        }
        if (next >= limit) return 0;
        at = round_up(next, u64{kPageSize});
    }
    return 0;
}

// Hands out consecutive pieces of one memory range.
class Storage {
  public:
    Storage(void* begin, u32 bytes) : next_{static_cast<char*>(begin)}, left_{bytes} {}

    template <typename T> static constexpr u32 bytes_for(u32 count) {
        return round_up(count * u32{sizeof(T)}, u32{sizeof(u64)});
    }
    template <typename T> std::span<T> take(u32 count) {
        const u32 bytes = bytes_for<T>(count);
        LOFT_ASSERT(bytes <= left_);
        T* const first = reinterpret_cast<T*>(next_);
        for (u32 i = 0; i != count; ++i)
            new (first + i) T{};
        next_ += bytes;
        left_ -= bytes;
        return {first, count};
    }

  private:
    char* next_;
    u32 left_;
};

u32 bytes_for(const Amount& amount) {
    return Storage::bytes_for<FirmwareRange>(amount.ranges) + Storage::bytes_for<FrameRange>(amount.ranges) +
           Storage::bytes_for<MapBorder>(2 * amount.ranges) + Storage::bytes_for<BootModule>(amount.modules) +
           Storage::bytes_for<char>(amount.text);
}

// --- The copies.

// The text is printed, and split at its blanks.
char harmless(char c) {
    if (c == '\t' || c == '\n' || c == '\r') return ' ';
    return c < ' ' || c > '~' ? '?' : c;
}

std::string_view copy_text(const Text& text, std::span<char>& room) {
    const std::span<char> mine = room.first(text.size);
    room = room.subspan(text.size);
    if (!read_below_4g(text.from, mine.data(), text.size)) return {};
    std::transform(mine.begin(), mine.end(), mine.begin(), harmless);
    return {mine.data(), mine.size()};
}

void copy_map(const Loader& loader, std::span<FirmwareRange> room) {
    u32 count = 0;
    bool hole_is_usable = false;
    loader.each_range([&](const FirmwareRange& range) {
        room[count++] = range;
        hole_is_usable |= range.type == FirmwareRange::kUsable && overlaps(range, kIsaHoleBegin, kIsaHoleEnd);
    });
    if (hole_is_usable) {
        log(LogLevel::warn, "multiboot",
            "the memory map calls some of [{:x}-{:x}) usable: that is video memory and ROM, it is left out",
            kIsaHoleBegin, kIsaHoleEnd);
        constexpr u32 kReserved = 2;
        room[count++] = {kIsaHoleBegin, kIsaHoleEnd - kIsaHoleBegin, kReserved};
    }
    memory_map = room.first(count);
}

void copy_modules(const Loader& loader, std::span<BootModule> room, std::span<char>& text_room) {
    u32 count = 0;
    loader.each_module([&](const multiboot_module_t& module, u32) {
        if (module.mod_start < module.mod_end)
            room[count++] = {PhysAddr{u64{module.mod_start}}, PhysAddr{u64{module.mod_end}},
                             copy_text(module_text(module), text_room)};
    });
    modules = room;
}

} // namespace

void read_multiboot(const PhysicalMemory& reach, u32 magic, u32 info_at, PhysAddr image_begin, PhysAddr image_end) {
    memory = reach;
    in_use = InUse{};
    reserve_memory(image_begin, image_end, "kernel image");
    const Loader loader{magic, info_at};

    Amount amount;
    const Text command_line = note_command_line(loader, amount);
    loader.each_range([&](const FirmwareRange&) { ++amount.ranges; });
    note(loader.info().mmap_addr, loader.info().mmap_length, "memory map");
    note_modules(loader, amount);
    note_other_pieces(loader.info());
    find_firmware_tables(memory.read,
                         [](PhysAddr begin, u32 bytes, const char* what) { note(begin.value(), bytes, what); });

    const u32 bytes = round_up(bytes_for(amount), kPageSize);
    u64 begin = find_room(loader, kLowest, kHighest, bytes);
    if (begin == 0) begin = find_room(loader, kPageSize, kIsaHoleBegin, bytes);
    if (begin == 0)
        refuse("not enough memory: no {} KiB of contiguous low memory for a copy of what the boot loader passed ({} "
               "ranges of memory, {} modules). Give the machine more memory below 896 MiB, or repair the loader",
               bytes / KiB, amount.ranges - 1, amount.modules);
    stored_end = PhysAddr{begin + bytes};
    note(begin, bytes, "copy of the loader's information");

    Storage storage{memory.at(PhysAddr{begin}, bytes), bytes};
    copy_map(loader, storage.take<FirmwareRange>(amount.ranges));
    map_room.ranges = storage.take<FrameRange>(amount.ranges);
    map_room.borders = storage.take<MapBorder>(2 * amount.ranges);
    const std::span<BootModule> module_room = storage.take<BootModule>(amount.modules);
    std::span<char> text_room = storage.take<char>(amount.text);
    command_line_view = copy_text(command_line, text_room);
    copy_modules(loader, module_room, text_room);
}

void reserve_memory(PhysAddr begin, PhysAddr end, const char* what) { in_use.add(begin.value(), end.value(), what); }

std::string_view multiboot_command_line() { return command_line_view; }
std::span<const FirmwareRange> multiboot_memory_map() { return memory_map; }
std::span<const BootModule> multiboot_modules() { return modules; }
std::span<const ReservedRange> multiboot_reserved() { return in_use.view(); }
const PhysMapRoom& multiboot_map_room() { return map_room; }
PhysAddr multiboot_stored_end() { return stored_end; }

} // namespace loft
