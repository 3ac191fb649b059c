// Memory objects: pages by number, which areas of address spaces map and files consist of.
//
//     object                  contents of a page at its first use     stores by a shared mapping
//     ZeroObject              zeros                                    stay in the page
//     a file (kernel/files)   its bytes, and zeros behind its end      stay in the page, or are written back
//
// A shared area maps the pages of its object themselves. A private area maps them without the right to write; the
// first write to a page gives the space a copy of its own (mm/spaces/address_space.hpp).
//
// Reference counts: each area and each user of a file counts the object. The object counts each of its pages once, and
// each mapping and each pin counts the page once more. So a page lives until the object and all mappings have put it.
// A page that was never used does not exist.
//
// Locks: the mutex of the object is taken under the mutex of a space, never the other way round.
#pragma once

#include "arch/base/error.hpp"
#include "arch/base/not_copyable.hpp"
#include "mm/frames/slab.hpp"
#include "mm/ground/mutex.hpp"
#include "mm/spaces/page_index.hpp"

namespace loft {

class MemoryObject : NotCopyable<MemoryObject> {
  public:
    void get(); // any context; the caller has a reference
    // For a list that knows the object without counting it: false if the last reference is gone already.
    // Any context; the caller makes sure that the object is not freed meanwhile.
    [[nodiscard]] bool get_if_used();
    void put(); // preemptible context; the last reference puts all pages and ends the object

    u64 bytes() const { return bytes_; }
    u32 pages() const { return static_cast<u32>((bytes_ + kPageSize - 1) >> kPageShift); }
    // True: the contents have another home, which stores by a shared mapping must reach (see stored_to).
    bool is_written_back() const { return written_back_; }

    // Page `number`, with one more reference for the caller. Errors: not_found (the object ends before it), no_memory,
    // and what fill returns. Preemptible context; takes the mutex. Cost: no TLB operation but those of two local maps.
    [[nodiscard]] Result<Page*> page(u32 number);
    // Copies [offset, offset + bytes) to the kernel's memory at `to`. Errors: invalid (not inside the object), else as
    // page. Preemptible context.
    [[nodiscard]] Status read(u64 offset, void* to, u32 bytes);

    // The processor has stored to page `number` through a shared mapping (D bit) that was taken away or write-protected
    // just now. Called for objects that are written back. Context: preemptible, under the mutex of the space, and
    // before the flush: a CPU may store through a stale translation until the space's mutex is free again.
    virtual void stored_to(u32 number);

  protected:
    static constexpr u64 kMaxBytes = u64{PageIndex::kMaxPages} << kPageShift;

    // Reference count 1. At most kMaxBytes.
    explicit MemoryObject(u64 bytes, bool written_back = false);
    ~MemoryObject() = default; // after the last put

    // Gives a new frame the contents of page `number`; no other thread knows the frame yet. Preemptible context, under
    // the mutex of the object.
    [[nodiscard]] virtual Status fill(u32 number, Page* frame) = 0;
    // The last reference is gone, and so are the pages: gives the object's own memory back. Preemptible context.
    virtual void destroy() = 0;

  private:
    hal::Atomic<u32> refs_{1};
    const bool written_back_;
    const u64 bytes_;
    Mutex mutex_{"of a memory object"};
    PageIndex index_ LOFT_GUARDED_BY(mutex_);
};

// Memory without a home: zeros at first, gone with the last reference. What MAP_SHARED | MAP_ANONYMOUS maps.
class ZeroObject final : public MemoryObject {
  public:
    // For so many pages, at least 1. Null: no memory. Context: any but NMI.
    [[nodiscard]] static ZeroObject* create(u32 pages);

  private:
    friend class Cache<ZeroObject>;
    explicit ZeroObject(u32 pages) : MemoryObject{u64{pages} << kPageShift} {}
    Status fill(u32 number, Page* frame) override;
    void destroy() override;
};

u32 zero_objects_in_use(); // of the whole machine; any context
void memory_object_init(); // boot; after the object cache

} // namespace loft
