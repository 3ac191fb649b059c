// Archives among the boot modules. Contract: archive.hpp.
#include "kernel/files/archive.hpp"

#include "kernel/files/bytes_file.hpp"
#include "kernel/files/mounts.hpp"
#include "kernel/report/log.hpp"
#include "kernel/tree/cpio.hpp"

#include <algorithm>

namespace loft {
namespace {

// The bytes of a module, for a scope.
class ArchiveFile final : public ModuleFile {
  public:
    explicit ArchiveFile(const BootModule& module)
        : ModuleFile{module.begin, static_cast<u32>(std::min<u64>(module.end - module.begin, ~0u))} {}
    ~ArchiveFile() {
        put();
        LOFT_ASSERT(!get_if_used());
    }

  private:
    void destroy() override {}
};

} // namespace

bool is_archive(const BootModule& module) {
    constexpr std::string_view kMagic = "070701";
    char text[kMagic.size()];
    ArchiveFile file{module};
    return file.read(0, text, sizeof text) && std::string_view{text, sizeof text} == kMagic;
}

void unpack_archives() {
    for (const BootModule& module : multiboot_modules()) {
        if (!is_archive(module)) continue;
        ArchiveFile file{module};
        Unpacked result;
        const Errno error = unpack_cpio(file, *file_tree().root(), result);
        if (!is_error(error))
            log(LogLevel::info, "files", "archive \"{}\": {} files, directories and links; {} others are left out",
                module.command, result.entries, result.skipped);
        else
            log(LogLevel::warn, "files", "archive \"{}\" ends after {} files, directories and links, at byte {}: {}",
                module.command, result.entries, result.bytes,
                error == Errno::inval                            ? "it is malformed"
                : error == Errno::nomem || error == Errno::nospc ? "there is not enough memory"
                                                                 : "a name is there already, or its directory is not");
    }
}

} // namespace loft
