// Multiboot 0.6.96, section 3.3: the information a loader leaves in memory, treated as hostile input.
//
// Pointers in it are physical, 32 bits wide and may lead anywhere, above the direct map too, so every byte is
// read through a boot window of fixmap. No length is believed: each has a limit that is logged when it is
// exceeded. A memory map that does not hold together is refused, because memory that is taken for free and is
// not destroys somebody's data long after the cause; everything else is left out with a warning.
#include "kernel/multiboot.hpp"

#include "arch/base/panic.hpp"
#include "arch/i386/image.hpp"
#include "mm/fixmap.hpp"
#include "mm/physmap.hpp"

#include <array>
#include <cstddef>
#include <multiboot/multiboot.h>

namespace loft {
namespace {

constexpr u32 kMaxCommandLine = 4096;
constexpr u32 kMaxModuleCommand = 128;
constexpr u32 kMaxModules = 32;
constexpr u32 kMaxMapBytes = 64 * KiB;
constexpr u32 kMinEntry =
    sizeof(multiboot_memory_map_t) - sizeof(multiboot_uint32_t); // `size` does not count itself

// The image, the information, the loader's lists and strings, for each module itself and its string, and the page that
// other CPUs start from.
constexpr u32 kMaxReserved = 9 + 2 * kMaxModules;

template <typename T, u32 N> struct List {
    std::array<T, N> items{};
    u32 count = 0;
    bool add(const T& item) {
        if (count == N) return false;
        items[count++] = item;
        return true;
    }
    std::span<const T> view() const { return {items.data(), count}; }
};

std::array<char, kMaxCommandLine> command_line_text{};
std::string_view command_line_view;
List<FirmwareRange, kMaxFirmwareRanges> memory_map;
List<BootModule, kMaxModules> modules;
std::array<std::array<char, kMaxModuleCommand>, kMaxModules> module_text{};
List<ReservedRange, kMaxReserved> reserved;

// Copies physical memory from below 4 GiB; false if it would run over that end.
bool read_physical(u32 from, void* to, u32 bytes) {
    if (from > ~bytes + 1 && bytes != 0) return false;
    char* out = static_cast<char*>(to);
    u64 at = from;
    while (bytes != 0) {
        const BootWindow window{PhysAddr{at}, bytes};
        const u32 step = window.bytes() < bytes ? window.bytes() : bytes;
        if (step == 0) return false;
        hal::copy_in(out, window.at(), step);
        out += step;
        at += step;
        bytes -= step;
    }
    return true;
}

// Copies a string of at most `buffer.size()` characters without its end. `whole` says if the end was found.
struct Text {
    u32 size = 0;
    bool whole = false;
};
Text read_text(u32 from, std::span<char> buffer) {
    Text text;
    u64 at = from;
    while (text.size < buffer.size() && at < 4 * GiB) {
        const BootWindow window{PhysAddr{at}, static_cast<u32>(buffer.size()) - text.size};
        for (u32 i = 0; i != window.bytes() && text.size < buffer.size(); ++i) {
            const char c = hal::load<char>(window.at() + i);
            if (c == '\0') {
                text.whole = true;
                return text;
            }
            buffer[text.size++] = c;
        }
        if (window.bytes() == 0) return text;
        at += window.bytes();
    }
    return text;
}

void reserve(u64 begin, u64 end, const char* what) {
    if (begin < end) reserved.add({PhysAddr{begin}, PhysAddr{end}, what});
}

void read_command_line(const multiboot_info_t& info) {
    if (!(info.flags & MULTIBOOT_INFO_CMDLINE) || info.cmdline == 0) return;
    const Text text = read_text(info.cmdline, command_line_text);
    if (!text.whole)
        log(LogLevel::warn, "multiboot", "the command line has no end within {} bytes; the rest is ignored",
            kMaxCommandLine);
    command_line_view = {command_line_text.data(), text.size};
    reserve(info.cmdline, u64{info.cmdline} + text.size + 1, "command line");
}

void read_memory_map(const multiboot_info_t& info) {
    static constexpr const char* kAdvice = "boot through GRUB or QEMU's -kernel, or repair the loader";
    if (!(info.flags & MULTIBOOT_INFO_MEM_MAP))
        refuse("multiboot: the loader passed no memory map (flags {:08x}, bit 6 is clear); {}", info.flags,
               kAdvice);
    if (info.mmap_length == 0) refuse("multiboot: the memory map is empty; {}", kAdvice);
    if (info.mmap_length > kMaxMapBytes)
        refuse("multiboot: the memory map is {} bytes long, more than {} cannot be right; {}",
               info.mmap_length, kMaxMapBytes, kAdvice);
    reserve(info.mmap_addr, u64{info.mmap_addr} + info.mmap_length, "memory map");

    u32 offset = 0;
    while (offset != info.mmap_length) {
        const u32 index = memory_map.count;
        multiboot_memory_map_t entry;
        if (info.mmap_length - offset < sizeof entry)
            refuse("multiboot: entry {} of the memory map is cut off ({} bytes are left); {}", index,
                   info.mmap_length - offset, kAdvice);
        if (info.mmap_addr > ~u32{0} - offset ||
            !read_physical(info.mmap_addr + offset, &entry, sizeof entry))
            refuse("multiboot: the memory map at {:08x} runs over the end of 4 GiB; {}", info.mmap_addr,
                   kAdvice);
        if (entry.size < kMinEntry || entry.size > info.mmap_length - offset - sizeof entry.size)
            refuse("multiboot: entry {} of the memory map has size {}, at least {} and at most {} is "
                   "possible; {}",
                   index, u32{entry.size}, kMinEntry, info.mmap_length - offset - sizeof entry.size, kAdvice);
        if (!memory_map.add({entry.addr, entry.len, entry.type}))
            refuse("multiboot: the memory map has more than {} entries; {}", kMaxFirmwareRanges, kAdvice);
        offset += entry.size + sizeof entry.size;
    }
}

void read_modules(const multiboot_info_t& info) {
    if (!(info.flags & MULTIBOOT_INFO_MODS) || info.mods_count == 0) return;
    if (info.mods_count > kMaxModules)
        log(LogLevel::warn, "multiboot",
            "{} modules: only the first {} are looked at, the others may be overwritten", info.mods_count,
            kMaxModules);
    const u32 count = info.mods_count < kMaxModules ? info.mods_count : kMaxModules;
    reserve(info.mods_addr, u64{info.mods_addr} + count * sizeof(multiboot_module_t), "module list");

    for (u32 i = 0; i != count; ++i) {
        multiboot_module_t module;
        const u64 at = u64{info.mods_addr} + i * sizeof module;
        if (at >= 4 * GiB || !read_physical(static_cast<u32>(at), &module, sizeof module)) {
            log(LogLevel::warn, "multiboot", "the list of modules at {:08x} runs over the end of 4 GiB",
                info.mods_addr);
            return;
        }
        if (module.mod_start >= module.mod_end) {
            log(LogLevel::warn, "multiboot", "module {} is [{:08x}-{:08x}): empty, ignored", i,
                module.mod_start, module.mod_end);
            continue;
        }
        std::array<char, kMaxModuleCommand>& buffer = module_text[modules.count];
        Text text;
        if (module.cmdline != 0) {
            text = read_text(module.cmdline, buffer);
            for (char& c : std::span{buffer}.first(text.size)) // it will be printed
                if (c < ' ' || c > '~') c = '?';
            reserve(module.cmdline, u64{module.cmdline} + text.size + 1, "module command line");
        }
        modules.add(
            {PhysAddr{u64{module.mod_start}}, PhysAddr{u64{module.mod_end}}, {buffer.data(), text.size}});
        reserve(module.mod_start, module.mod_end, "module");
    }
}

} // namespace

void read_multiboot(u32 magic, u32 info_at) {
    if (magic != MULTIBOOT_BOOTLOADER_MAGIC)
        refuse(
            "multiboot: the magic number is {:08x}, not {:08x}: loft must be started by a multiboot loader "
            "(GRUB's \"multiboot\", QEMU's -kernel)",
            magic, u32{MULTIBOOT_BOOTLOADER_MAGIC});

    reserve(image_addr(__image_begin).value() - layout::kPageOffset,
            image_addr(__image_end).value() - layout::kPageOffset, "kernel image");

    // Only the fields up to the memory map are used; a loader need not provide more.
    multiboot_info_t info{};
    constexpr u32 kUsed = offsetof(multiboot_info_t, drives_length);
    if (info_at == 0 || !read_physical(info_at, &info, kUsed))
        refuse("multiboot: the information cannot be at physical {:08x}; repair the loader", info_at);
    reserve(info_at, u64{info_at} + kUsed, "multiboot information");

    read_command_line(info);
    read_memory_map(info);
    read_modules(info);
}

void reserve_memory(PhysAddr begin, PhysAddr end, const char* what) {
    reserve(begin.value(), end.value(), what);
}

std::string_view multiboot_command_line() { return command_line_view; }
std::span<const FirmwareRange> multiboot_memory_map() { return memory_map.view(); }
std::span<const BootModule> multiboot_modules() { return modules.view(); }
std::span<const ReservedRange> multiboot_reserved() { return reserved.view(); }

} // namespace loft
