// Loading ELF files. Contract: elf.hpp.
#include "kernel/programs/elf.hpp"

#include "mm/cache/memory_object.hpp"
#include "mm/spaces/address_space.hpp"
#include "mm/spaces/user_copy.hpp"

#include <algorithm>

namespace loft {
namespace {

// The file's header and program headers (ABI, figures 4-3 and 5-1).
struct Header {
    u8 ident[16];
    u16 type, machine;
    u32 version, entry, program_headers, section_headers, flags;
    u16 header_bytes, program_header_bytes, program_header_count;
    u16 section_header_bytes, section_header_count, section_names;
};
static_assert(sizeof(Header) == 52);

struct ProgramHeader {
    u32 type, offset, address, physical, file_bytes, bytes, flags, align;
};
static_assert(sizeof(ProgramHeader) == 32);

constexpr u8 kMagic[]{0x7f, 'E', 'L', 'F'};
constexpr u8 kClass64 = 2, kBigEndian = 2;
constexpr u16 kExecutable = 2, kI386 = 3, kI486 = 6; // the second one was never used, and means the first
constexpr u32 kLoad = 1, kInterpreter = 3, kGnuStack = 0x6474'e551;
constexpr u32 kFlagExec = 1, kFlagWrite = 2, kFlagRead = 4;
constexpr u32 kMaxHeaders = kPageSize / sizeof(ProgramHeader); // Linux's limit

const char* read_from(MemoryObject& file, u32 offset, void* to, u32 bytes) {
    const Status status = file.read(offset, to, bytes);
    if (status) return nullptr;
    return status.error() == Error::no_memory ? "there is not enough memory for it" : "it cannot be read";
}

const char* check_header(MemoryObject& file, Header& header) {
    if (file.bytes() < sizeof header) return "it is shorter than an ELF header";
    if (const char* problem = read_from(file, 0, &header, sizeof header)) return problem;
    if (!std::equal(std::begin(kMagic), std::end(kMagic), header.ident)) return "it is not an ELF file";
    // Only the machine field is checked: as on Linux, class, byte order, versions and OS ABI are used for the message
    // only.
    if (header.machine != kI386 && header.machine != kI486) {
        if (header.ident[4] == kClass64) return "it is not a 32-bit ELF file";
        if (header.ident[5] == kBigEndian) return "it is a big-endian ELF file";
        return "it is for another processor than the i386";
    }
    if (header.type != kExecutable) return "it is not an executable for fixed addresses (link it with -static -no-pie)";
    if (header.program_header_bytes != sizeof(ProgramHeader)) return "its program headers have a wrong size";
    if (header.program_header_count == 0) return "it has no program headers";
    if (header.program_header_count > kMaxHeaders) return "it has too many program headers";
    const u32 bytes = header.program_header_count * u32{sizeof(ProgramHeader)};
    if (header.program_headers > file.bytes() || bytes > file.bytes() - header.program_headers)
        return "its program headers lie beyond the end of the file";
    return nullptr;
}

// Each sum is checked for overflow first.
const char* add_segment(MemoryObject& file, const ProgramHeader& header, ElfPlan& plan) {
    if (header.file_bytes > header.bytes) return "a segment is longer in the file than in memory";
    if (header.bytes == 0) return nullptr;
    if (header.offset > file.bytes() || header.file_bytes > file.bytes() - header.offset)
        return "a segment lies beyond the end of the file (it was cut off)";
    if (header.address < layout::kUserBegin) return "a segment lies at the null pointer";
    if (header.address >= ElfPlan::kHighestEnd || header.bytes > ElfPlan::kHighestEnd - header.address)
        return "a segment lies where programs cannot be";
    if ((header.address ^ header.offset) & ~kPageMask) return "a segment's address and offset do not suit each other";
    if (plan.count == ElfPlan::kMaxSegments) return "it has too many segments";
    const ElfPlan::Segment segment{
        .begin = VirtAddr{header.address},
        .file_offset = header.offset,
        .file_bytes = header.file_bytes,
        .bytes = header.bytes,
        .read = (header.flags & kFlagRead) != 0,
        .write = (header.flags & kFlagWrite) != 0,
        .exec = (header.flags & kFlagExec) != 0,
    };
    // Segments are in order of address, as the ABI requires, so only the previous one can overlap.
    if (plan.count != 0 && segment.first_page() < plan.segments[plan.count - 1].end_page())
        return "its segments overlap, or are not in order of address";
    plan.segments[plan.count++] = segment;
    return nullptr;
}

// The segment that maps [address, address + bytes) from the file.
const ElfPlan::Segment* segment_with(const ElfPlan& plan, u32 address, u32 bytes) {
    for (u32 i = 0; i < plan.count; ++i) {
        const ElfPlan::Segment& s = plan.segments[i];
        const u32 offset = address - s.begin.value();
        if (address >= s.begin.value() && offset <= s.file_bytes && bytes <= s.file_bytes - offset) return &s;
    }
    return nullptr;
}

// The address of the program headers in memory: in the segment that maps that part of the file.
VirtAddr headers_in_memory(const ElfPlan& plan, const Header& header) {
    const u32 bytes = header.program_header_count * u32{sizeof(ProgramHeader)};
    for (u32 i = 0; i < plan.count; ++i) {
        const ElfPlan::Segment& s = plan.segments[i];
        const u32 into = header.program_headers - s.file_offset;
        if (header.program_headers >= s.file_offset && into <= s.file_bytes && bytes <= s.file_bytes - into)
            return s.begin + into;
    }
    return VirtAddr{};
}

Prot prot_of(const ElfPlan& plan, const ElfPlan::Segment& segment) {
    Prot prot = Prot::none;
    if (segment.read) prot = prot | Prot::read;
    if (segment.read && plan.read_exec) prot = prot | Prot::exec;
    if (segment.write) prot = prot | Prot::write;
    if (segment.exec) prot = prot | Prot::exec;
    return prot;
}

// The pages that have bytes of the file, and the zeros behind them in the last one. False: no memory.
bool map_file_part(MemoryObject& file, const ElfPlan::Segment& segment, VirtAddr end, Prot prot, AddressSpace& space) {
    const VirtAddr begin = segment.first_page(), zeros = segment.begin + segment.file_bytes;
    const bool has_zeros = segment.bytes != segment.file_bytes && zeros != end;
    if (!space.map(begin, end - begin, has_zeros ? Prot::read | Prot::write : prot, MapKind::anonymous, true, true,
                   {&file, segment.file_offset >> kPageShift}))
        return false;
    if (!has_zeros) return true;
    constexpr std::array<u8, 512> kZeros{};
    for (VirtAddr at = zeros; at != end;) {
        const u32 step = std::min<u32>(end - at, kZeros.size());
        if (write_space(space, UserAddr{at.value()}, kZeros.data(), step) != 0) return false;
        at = at + step;
    }
    return static_cast<bool>(space.protect(begin, end - begin, prot));
}

bool map_segment(MemoryObject& file, const ElfPlan& plan, const ElfPlan::Segment& segment, AddressSpace& space) {
    const Prot prot = prot_of(plan, segment);
    VirtAddr end = segment.first_page(); // of the pages that have bytes of the file
    // Without bytes of the file, too, the head of its first page is the file's.
    if (segment.begin.page_offset() + segment.file_bytes != 0) {
        end = VirtAddr{round_up(segment.begin.value() + segment.file_bytes, kPageSize)};
        if (!map_file_part(file, segment, end, prot, space)) return false;
    }
    return end == segment.end_page() ||
           static_cast<bool>(space.map(end, segment.end_page() - end, prot, MapKind::anonymous, true));
}

} // namespace

const char* elf_examine(MemoryObject& file, ElfPlan& plan) {
    plan = ElfPlan{};
    Header header{};
    if (const char* problem = check_header(file, header)) return problem;
    for (u32 i = 0; i < header.program_header_count; ++i) {
        ProgramHeader program{};
        const u32 at = header.program_headers + i * u32{sizeof program};
        if (const char* problem = read_from(file, at, &program, sizeof program)) return problem;
        if (program.type == kInterpreter) return "it is linked dynamically (link it with -static -no-pie)";
        if (program.type == kGnuStack) {
            plan.stack_exec = (program.flags & kFlagExec) != 0;
            plan.read_exec = false;
        }
        if (program.type != kLoad) continue;
        if (const char* problem = add_segment(file, program, plan)) return problem;
    }
    if (plan.count == 0) return "it has nothing to load";
    const ElfPlan::Segment* code = segment_with(plan, header.entry, 1);
    if (code == nullptr || !code->exec) return "its entry point is not in its code";
    plan.entry = VirtAddr{header.entry};
    plan.headers = headers_in_memory(plan, header);
    plan.header_count = header.program_header_count;
    plan.end = plan.segments[plan.count - 1].end_page();
    return nullptr;
}

const char* elf_load(MemoryObject& file, const ElfPlan& plan, AddressSpace& space) {
    for (u32 i = 0; i < plan.count; ++i)
        if (!map_segment(file, plan, plan.segments[i], space)) return "there is not enough memory for it";
    const Prot data = Prot::read | Prot::write;
    space.set_brk_start(plan.end, plan.read_exec ? data | Prot::exec : data);
    return nullptr;
}

} // namespace loft
