// Reading the symbol table of /proc/self/exe (ELF64).
#include "tests/sim/statics.hpp"

#include "tests/sim/errors.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cxxabi.h>
#include <elf.h>
#include <fstream>
#include <iterator>
#include <memory>
#include <unistd.h>

extern "C" {
loft::u32 loft_sim_anchor = 1; // its address minus its value in the symbol table: the load offset of the program
}

namespace loft::sim {
namespace {

bool starts(const char* name, const char* with) { return std::strncmp(name, with, std::strlen(with)) == 0; }

bool of_the_kernel(const char* name) {
    return starts(name, "_ZN4loft") && !starts(name, "_ZN4loft3sim") && !starts(name, "_ZN4loft4test");
}

std::string without_noise(std::string result) {
    for (const char* noise : {"loft::", "(anonymous namespace)::"})
        for (std::size_t at; (at = result.find(noise)) != std::string::npos;)
            result.erase(at, std::strlen(noise));
    return result;
}

std::string demangled(const char* name) {
    int status = 0;
    char* text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
    const std::string result = text != nullptr ? text : name;
    std::free(text);
    return without_noise(result);
}

u64 moved; // the load offset of the program

std::vector<StaticObject> read_symbols() {
    std::ifstream file{"/proc/self/exe", std::ios::binary};
    const std::vector<char> image{std::istreambuf_iterator<char>{file}, {}};
    const auto at = [&](u64 offset) { return image.data() + offset; };
    Elf64_Ehdr header;
    std::memcpy(&header, at(0), sizeof header);
    std::vector<Elf64_Shdr> sections(header.e_shnum);
    std::memcpy(sections.data(), at(header.e_shoff), sections.size() * sizeof(Elf64_Shdr));

    // Objects that never change: read-only sections, and those that are read-only after the program's relocation.
    const char* const section_names = at(sections[header.e_shstrndx].sh_offset);
    const auto can_change = [&](u32 section) {
        return section < sections.size() && (sections[section].sh_flags & SHF_WRITE) != 0 &&
               !starts(section_names + sections[section].sh_name, ".data.rel.ro");
    };
    std::vector<StaticObject> found;
    for (const Elf64_Shdr& table : sections) {
        if (table.sh_type != SHT_SYMTAB) continue;
        std::vector<Elf64_Sym> symbols(table.sh_size / sizeof(Elf64_Sym));
        std::memcpy(symbols.data(), at(table.sh_offset), table.sh_size);
        const char* const names = at(sections[table.sh_link].sh_offset);
        for (const Elf64_Sym& s : symbols) {
            const char* const name = names + s.st_name;
            if (std::strcmp(name, "loft_sim_anchor") == 0)
                moved = reinterpret_cast<std::uintptr_t>(&loft_sim_anchor) - s.st_value;
            if (ELF64_ST_TYPE(s.st_info) != STT_OBJECT || s.st_size == 0 || !can_change(s.st_shndx) ||
                !of_the_kernel(name))
                continue;
            found.push_back({reinterpret_cast<u8*>(s.st_value), s.st_size, demangled(name)});
        }
    }
    if (found.empty()) throw BadAccess{"this program has no symbol table: the explorer finds mm's objects there"};
    for (StaticObject& object : found)
        object.at += moved;
    std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.at < b.at; });
    return found;
}

} // namespace

const std::vector<StaticObject>& kernel_statics() {
    static const std::vector<StaticObject> all = read_symbols();
    return all;
}

std::string static_name(u64 address) {
    const std::vector<StaticObject>& all = kernel_statics();
    const u8* const at = reinterpret_cast<const u8*>(address);
    auto next = std::upper_bound(all.begin(), all.end(), at, [](const u8* a, const auto& o) { return a < o.at; });
    if (next == all.begin()) return {};
    --next;
    if (at >= next->at + next->size) return {};
    return at == next->at ? next->name : next->name + " + " + std::to_string(at - next->at);
}

std::string code_name(const void* after) {
    kernel_statics(); // finds the load offset
    char program[512], here[512];
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program);
    if (length <= 0 || getcwd(here, sizeof here) == nullptr) return "?";
    const u64 at = reinterpret_cast<std::uintptr_t>(after) - 1 - moved;
    const std::string command =
        text("addr2line -Cfe '{}' {:x}", std::string_view{program, static_cast<u32>(length)}, at);
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> answer{popen(command.c_str(), "r"), pclose};
    std::string lines[2];
    for (std::string& line : lines)
        for (int c = 0; answer && (c = std::fgetc(answer.get())) > '\n';)
            line += static_cast<char>(c);
    const std::string root = std::string{here} + "/";
    if (lines[1].starts_with(root)) lines[1].erase(0, root.size());
    if (lines[1].starts_with("./")) lines[1].erase(0, 2); // a source that another one includes
    lines[1].erase(std::min(lines[1].find(" (discriminator"), lines[1].size()));
    return lines[1] + " (" + without_noise(lines[0]) + ")";
}

} // namespace loft::sim
