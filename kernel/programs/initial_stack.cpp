// The initial stack of a program. Contract: initial_stack.hpp.
#include "kernel/programs/initial_stack.hpp"

#include "arch/i386/cpu/features.hpp"
#include "arch/i386/cpu/fpu.hpp"
#include "arch/i386/irq/timer.hpp"
#include "kernel/boot/random.hpp"
#include "kernel/programs/elf.hpp"
#include "kernel/programs/launch.hpp"
#include "mm/spaces/user_copy.hpp"

#include <array>

namespace loft {
namespace {

// Entries of the auxiliary vector (those of the ABI, and Linux's additions).
namespace aux {
constexpr u32 end = 0, program_headers = 3, header_bytes = 4, header_count = 5, page_size = 6, base = 7, flags = 8,
              entry = 9, uid = 11, euid = 12, gid = 13, egid = 14, platform = 15, hwcap = 16, clock_ticks = 17,
              secure = 23, random = 25, file_name = 31;
}
constexpr u32 kProgramHeaderBytes = 32;

// Writes the stack of another address space, downwards from `top`.
class Builder {
  public:
    Builder(AddressSpace& space, VirtAddr top) : space_{space}, at_{top.value()} {}

    // Each returns the address of the data.
    u32 bytes(const void* data, u32 size) {
        at_ -= size;
        ok_ = ok_ && write_space(space_, UserAddr{at_}, data, size) == 0;
        return at_;
    }
    u32 text(std::string_view text) {
        bytes("", 1);
        return bytes(text.data(), static_cast<u32>(text.size()));
    }
    // After `words` more words, the address is a multiple of 16 (ABI, "The stack frame").
    void align(u32 words) { at_ = ((at_ - words * 4) & ~15u) + words * 4; }
    bool ok() const { return ok_; }

  private:
    AddressSpace& space_;
    u32 at_;
    bool ok_ = true;
};

u32 text_bytes(std::span<const std::string_view> texts) {
    u32 sum = 0;
    for (const std::string_view text : texts)
        sum += static_cast<u32>(text.size()) + 1;
    return sum;
}

} // namespace

u32 build_initial_stack(AddressSpace& space, VirtAddr top, const Launch& launch, const ElfPlan& plan) {
    if (launch.arguments.size() >= kMaxArguments || launch.environment.size() > kMaxArguments ||
        text_bytes(launch.arguments) + text_bytes(launch.environment) > kMaxArgumentBytes)
        return 0;
    Builder stack{space, top};
    std::array<u32, 2 * kMaxArguments + 64> words{};
    u32 count = 0;
    const auto add = [&](u32 word) { words[count++] = word; };

    const u32 name = stack.text(launch.name), platform = stack.text("i686");
    std::array<u8, 16> random{};
    fill_random(random);
    const u32 random_at = stack.bytes(random.data(), random.size());

    add(1 + static_cast<u32>(launch.arguments.size()));
    add(name);
    for (const std::string_view argument : launch.arguments)
        add(stack.text(argument));
    add(0);
    for (const std::string_view variable : launch.environment)
        add(stack.text(variable));
    add(0);
    const struct {
        u32 type, value;
    } told[]{
        {aux::program_headers, plan.headers.value()},
        {aux::header_bytes, kProgramHeaderBytes},
        {aux::header_count, plan.header_count},
        {aux::page_size, kPageSize},
        {aux::base, 0},
        {aux::flags, 0},
        {aux::entry, plan.entry.value()},
        {aux::uid, 0},
        {aux::euid, 0},
        {aux::gid, 0},
        {aux::egid, 0},
        {aux::platform, platform},
        {aux::hwcap, fpu_usable(identify_cpu().features)},
        {aux::clock_ticks, kTicksPerSecond},
        {aux::secure, 0},
        {aux::random, random_at},
        {aux::file_name, name},
        {aux::end, 0},
    };
    for (const auto& one : told) {
        add(one.type);
        add(one.value);
    }
    stack.align(count);
    const u32 begin = stack.bytes(words.data(), count * u32{sizeof(u32)});
    return stack.ok() ? begin : 0;
}

} // namespace loft
