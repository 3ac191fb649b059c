// Files whose bytes the kernel has in memory: a boot module, by its physical address, or an array of the kernel's own.
#pragma once

#include "arch/base/panic.hpp"
#include "mm/cache/memory_object.hpp"

#include <span>

namespace loft {

// A module's bytes, where the loader has put them: in frames that the allocator does not have. Their frames are read
// through local maps, wherever this kernel reaches; pages beyond that are Error::out_of_reach.
class ModuleFile : public MemoryObject {
  public:
    ModuleFile(PhysAddr begin, u32 bytes) : MemoryObject{bytes}, begin_{begin} {}

  private:
    Status fill(u32 first, std::span<Page* const> frames) override;
    Status fill_one(u32 number, Page* frame);
    PhysAddr begin_;
};

// Bytes that stay where they are, and as they are, as long as the object lives. It lives as a variable: its scope ends
// after the last area that maps it.
class BytesFile final : public MemoryObject {
  public:
    explicit BytesFile(std::span<const u8> bytes) : MemoryObject{bytes.size()}, data_{bytes} {}
    ~BytesFile() {
        put();
        LOFT_ASSERT(!get_if_used());
    }

  private:
    Status fill(u32 first, std::span<Page* const> frames) override;
    void destroy() override {}
    std::span<const u8> data_;
};

} // namespace loft
