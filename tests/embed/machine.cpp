// The machine, and the four functions by which mm prints and stops.
#include "tests/embed/machine.hpp"

#include "arch/base/fault.hpp"
#include "arch/base/panic.hpp"
#include "mm/reclaim/last_resort.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unordered_map>

using namespace loft;

namespace embed {

alignas(kPageSize) u8 memory[kLowBytes + kHighBytes];

namespace {

constexpr u64 kPresent = 1 << 0, kWrite = 1 << 1, kAccessed = 1 << 5, kDirty = 1 << 6, kGlobal = 1 << 8;
constexpr u64 kFrame = 0x000f'ffff'ffff'f000;

u8& byte_of(u64 physical) {
    if (physical < kLowBytes) return memory[physical];
    if (physical - kHighBegin < kHighBytes) return memory[kLowBytes + (physical - kHighBegin)];
    panic("there is no memory at {}", PhysAddr{physical});
}

// What the CPU remembers of a page. It forgets nothing unless it is told to.
struct Translation {
    u64 frame;
    bool dirty, global;
};
std::unordered_map<u32, Translation> tlb;

// The three levels of PAE (SDM vol. 3, 4.4). The first has no bit but the one that says present.
bool translate(VirtAddr va, bool write, Translation& out) {
    if (root == 0) {
        out = {va.page().value() - kDirectMap, true, false};
        return va.value() - kDirectMap < kLowBytes;
    }
    u64 table = root, entry = 0;
    for (const u32 shift : {30u, 21u, 12u}) {
        u64& cell = reinterpret_cast<u64&>(byte_of(table + (va.value() >> shift) % 512 * sizeof(u64)));
        const bool first = shift == 30, last = shift == 12;
        if ((cell & kPresent) == 0 || (write && !first && (cell & kWrite) == 0)) return false;
        if (!first) cell |= kAccessed;
        if (last && write) cell |= kDirty;
        entry = cell;
        table = entry & kFrame;
    }
    out = {table, write, (entry & kGlobal) != 0};
    return true;
}

} // namespace

u8* look(VirtAddr va, bool write) {
    const u32 page = va.value() >> kPageShift;
    auto known = tlb.find(page);
    if (known == tlb.end() || (write && !known->second.dirty)) {
        tlb.erase(page); // what a fault does, too (SDM vol. 3, 4.10.4.1)
        Translation now;
        if (!translate(va, write, now)) return nullptr;
        known = tlb.emplace(page, now).first;
    }
    return &byte_of(known->second.frame + va.page_offset());
}

u8& at(VirtAddr va, bool write) {
    u8* const byte = look(va, write);
    if (byte == nullptr) panic("page fault: {} {}", write ? "writing" : "reading", va);
    return *byte;
}

u8* user(VirtAddr va, bool write) {
    u8* byte;
    while ((byte = look(va, write)) == nullptr)
        if (resolve_user_fault(va, write ? FaultAccess::write : FaultAccess::read) != FaultResult::resolved)
            return nullptr;
    return byte;
}

void forget(VirtAddr va) { tlb.erase(va.value() >> kPageShift); }
void forget_all(bool globals) {
    std::erase_if(tlb, [globals](const auto& known) { return globals || !known.second.global; });
}

} // namespace embed

namespace loft {
namespace {

struct Screen final : Sink {
    void write(std::string_view text) override { std::fwrite(text.data(), 1, text.size(), stdout); }
};

void print(std::string_view before, std::string_view format, std::span<const fmt::Arg> args) {
    Screen screen;
    screen.write(before);
    screen.write(": ");
    fmt::format_args(screen, format, args);
    screen.write("\n");
}

} // namespace

void panic_args(std::string_view format, std::span<const fmt::Arg> args) {
    print("panic", format, args);
    std::exit(1);
}
void refuse_args(std::string_view format, std::span<const fmt::Arg> args) {
    print("cannot start", format, args);
    std::exit(1);
}
void assertion_failed(const char* what, const char* file, int line) {
    panic("assertion failed: {} ({}:{})", what, file, line);
}
void log_args(LogLevel, std::string_view room, std::string_view format, std::span<const fmt::Arg> args) {
    print(room, format, args);
}
ProgramEnd program_end(AddressSpace&, const SpaceStats&) { return ProgramEnd::none; }

} // namespace loft
