// Modules as programs. Contract: programs.hpp.
#include "kernel/programs/programs.hpp"

#include "arch/base/fixed_list.hpp"
#include "arch/base/panic.hpp"
#include "kernel/boot/multiboot.hpp"
#include "kernel/files/archive.hpp"
#include "kernel/files/bytes_file.hpp"
#include "kernel/programs/elf.hpp"
#include "mm/frames/slab.hpp"

#include <algorithm>

namespace loft {
namespace {

constexpr u32 kMaxPrograms = 128;
FixedList<Program, kMaxPrograms> programs;

class ProgramFile final : public ModuleFile {
  public:
    explicit ProgramFile(const Program& program) : ModuleFile{program.begin, program.bytes} {}

  private:
    void destroy() override;
};
Cache<ProgramFile> program_files{"program_file", Gfp::user_low};

// The files that are in use, by the number of their program. An entry does not count its file.
struct OpenFiles {
    SpinLock lock;
    ProgramFile* file[kMaxPrograms] LOFT_GUARDED_BY(lock){};
};
constinit OpenFiles open_files;

void ProgramFile::destroy() {
    {
        const SpinGuard guard{open_files.lock};
        for (ProgramFile*& file : open_files.file)
            if (file == this) file = nullptr;
    }
    program_files.destroy(this);
}

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
    if (bytes != 0 && (module.end.value() - 1) >> kPageShift >= mem_map_count)
        return "it lies beyond the memory that this kernel reaches";
    program.begin = module.begin;
    program.bytes = static_cast<u32>(bytes);
    ProgramFile* const file = program_files.make(program);
    if (file == nullptr) return "there is not enough memory to look at it";
    ElfPlan plan;
    const char* const problem = elf_examine(*file, plan);
    file->put();
    return problem;
}

} // namespace

void programs_init() {
    for (const BootModule& module : multiboot_modules()) {
        if (is_archive(module)) continue;
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

MemoryObject* open_program(const Program& program) {
    const std::size_t number = &program - programs.begin();
    LOFT_ASSERT(number < programs.size());
    ProgramFile* const mine = program_files.make(program);
    ProgramFile* used = nullptr;
    {
        const SpinGuard guard{open_files.lock};
        ProgramFile*& file = open_files.file[number];
        if (file != nullptr && file->get_if_used())
            used = file;
        else if (mine != nullptr)
            file = used = mine;
    }
    if (mine != nullptr && used != mine) mine->put();
    return used;
}

} // namespace loft
