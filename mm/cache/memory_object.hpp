// Memory objects: a number of pages that areas of address spaces map, and of which files consist.
//
//     object                  contents of a page at its first use     stores through a shared mapping
//     ZeroObject              zeros                                    stay in the page
//     a file (kernel/files)   its bytes, and zeros behind its end      stay in the page, or are written back
//
// A shared area maps the pages of the object. A private area maps them read-only; the first write to a page gives the
// space a copy of its own (mm/spaces/address_space.hpp).
//
// Reference counts: each area and each user of a file counts the object. The object counts each of its pages once, and
// each mapping and each pin counts the page once more. So a page lives until the object, all mappings and all pins have
// put it. A page exists from its first use on.
//
// Lock order: the mutex of a space, then the mutex of an object.
#pragma once

#include "arch/base/error.hpp"
#include "arch/base/not_copyable.hpp"
#include "mm/cache/page_index.hpp"
#include "mm/frames/slab.hpp"
#include "mm/ground/mutex.hpp"

namespace loft {

class MemoryObject : NotCopyable<MemoryObject> {
  public:
    void get(); // any context; the caller has a reference
    // For a list that has the object without a reference. False: the last reference has been put already. Any context;
    // the caller makes sure that the object is not freed meanwhile.
    [[nodiscard]] bool get_if_used();
    void put(); // preemptible context; the last one puts all pages and destroys the object

    u64 bytes() const { return bytes_; }
    u32 pages() const { return static_cast<u32>((bytes_ + kPageSize - 1) >> kPageShift); }
    // True: stores through a shared mapping must be written to the object's source (see stored_to).
    bool is_written_back() const { return written_back_; }

    // Page `number`, with a reference for the caller. Errors: not_found (behind the end), no_memory, and those of fill.
    // Preemptible context; takes the mutex. Cost: that of the local maps of the index and of fill.
    [[nodiscard]] Result<Page*> page(u32 number);
    // Copies [offset, offset + bytes) to the kernel's memory at `to`. Errors: invalid (not inside the object), else as
    // page. Preemptible context.
    [[nodiscard]] Status read(u64 offset, void* to, u32 bytes);

    // For objects that are written back. Page `number` was stored to through a shared mapping (D bit, or a pin for
    // writing) that was removed or write-protected just now. CPUs may go on storing to it through stale translations,
    // until stores_ended is called: then all CPUs of that space have flushed. An object with pages that have still to
    // be written holds a reference to itself, because this may be its last mapping. Context of both: preemptible, under
    // the mutex of the space.
    virtual void stored_to(u32 number);
    virtual void stores_ended();

  protected:
    static constexpr u64 kMaxBytes = u64{PageIndex::kMaxPages} << kPageShift;

    // Reference count 1. At most kMaxBytes.
    explicit MemoryObject(u64 bytes, bool written_back = false);
    ~MemoryObject() = default; // after the last put

    // Writes the contents of page `number` to a new frame, which no other thread knows yet. Preemptible context; the
    // mutex of the object is held.
    [[nodiscard]] virtual Status fill(u32 number, Page* frame) = 0;
    // Frees the object's own memory, after the last reference and all pages were put. Preemptible context.
    virtual void destroy() = 0;

  private:
    hal::Atomic<u32> refs_{1};
    const bool written_back_;
    const u64 bytes_;
    Mutex mutex_{"of a memory object"};
    PageIndex index_ LOFT_GUARDED_BY(mutex_);
};

// Memory without a source: zeros at first, freed with the last reference. For MAP_SHARED | MAP_ANONYMOUS.
class ZeroObject final : public MemoryObject {
  public:
    // An object of `pages` pages, at least 1. Null: no memory. Context: any but NMI.
    [[nodiscard]] static ZeroObject* create(u32 pages);

  private:
    friend class Cache<ZeroObject>;
    explicit ZeroObject(u32 pages) : MemoryObject{u64{pages} << kPageShift} {}
    Status fill(u32 number, Page* frame) override;
    void destroy() override;
};

u32 zero_objects_in_use(); // of the whole machine; any context but NMI
void memory_object_init(); // boot; after the object cache

} // namespace loft
