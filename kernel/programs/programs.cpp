// Modules as programs. Contract: programs.hpp.
#include "kernel/programs/programs.hpp"

#include "arch/base/fixed_list.hpp"
#include "arch/base/panic.hpp"
#include "kernel/boot/multiboot.hpp"
#include "mm/windows/highmem.hpp"

#include <algorithm>

namespace loft {
namespace {

constexpr u32 kMaxPrograms = 32;
FixedList<Program, kMaxPrograms> programs;

// "path/of/hello a b": "hello" and "a b".
void split(std::string_view line, Program& program) {
    const std::size_t end = std::min(line.find(' '), line.size());
    std::string_view path = line.substr(0, end);
    program.name = path.substr(path.rfind('/') == std::string_view::npos ? 0 : path.rfind('/') + 1);
    const std::size_t rest = line.find_first_not_of(' ', end);
    program.arguments = rest == std::string_view::npos ? std::string_view{} : line.substr(rest);
}

const char* examine(const BootModule& module, Program& program) {
    split(module.command, program);
    const u64 bytes = module.end - module.begin;
    if (bytes > ElfPlan::kHighestEnd) return "it is larger than a program can be";
    if (program.name.empty()) return "it has no name";
    if (find_program(program.name) != nullptr) return "another one has its name";
    program.image = ModuleImage{module.begin, static_cast<u32>(bytes)};
    ElfPlan plan;
    return elf_examine(program.image, plan);
}

} // namespace

// Through kmap_local or the direct map; the frames are not the allocator's, but they have descriptors.
bool ModuleImage::read(u32 offset, void* to, u32 bytes) const {
    auto* out = static_cast<u8*>(to);
    while (bytes != 0) {
        const PhysAddr at = begin_ + offset;
        const u32 step = std::min(bytes, kPageSize - at.page_offset());
        if (at.value() >> kPageShift >= mem_map_count) return false;
        memcpy_from_page(out, pfn_to_page(at.pfn()), at.page_offset(), step);
        out += step;
        offset += step;
        bytes -= step;
    }
    return true;
}

void programs_init() {
    for (const BootModule& module : multiboot_modules()) {
        Program program;
        if (const char* problem = examine(module, program))
            log(LogLevel::warn, "user", "module \"{}\" is no program and is left out: {}", module.command, problem);
        else if (!programs.add(program))
            log(LogLevel::warn, "user", "module \"{}\" is left out: more than {} programs", module.command,
                kMaxPrograms);
    }
    const u32 count = programs.size();
    if (count != 0) log(LogLevel::info, "user", "{} {}", count, count == 1 ? "program" : "programs");
}

const Program* find_program(std::string_view name) {
    for (const Program& program : programs)
        if (program.name == name) return &program;
    return nullptr;
}

u32 program_count() { return programs.size(); }

} // namespace loft
