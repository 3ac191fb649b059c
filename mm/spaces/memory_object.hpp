// Memory that several address spaces have: the pages of a shared area, by number, wherever they are mapped.
//
// An object is counted by the areas that show it. It counts each of its pages once, and every mapping counts it once
// more; so the pages stay while one area is left, mapped or not. What is never touched does not exist.
#pragma once

#include "mm/frames/slab.hpp"
#include "mm/ground/mutex.hpp"
#include "mm/spaces/page_index.hpp"

namespace loft {

class SharedObject {
  public:
    // For so many pages, at least 1, reference count 1. Null: no memory. Context: any but NMI.
    [[nodiscard]] static SharedObject* create(u32 pages);
    void get(); // any context, by somebody who has a reference
    void put(); // preemptible context; the last one gives all pages back

    // The page with this number, zeros if nobody has had it before, with one more reference for the caller.
    // Null: no memory. Preemptible context.
    [[nodiscard]] Page* page(u32 number);

    SharedObject(const SharedObject&) = delete;
    SharedObject& operator=(const SharedObject&) = delete;

  private:
    friend class Cache<SharedObject>;
    explicit SharedObject(u32 pages) : index_{pages} {}
    ~SharedObject() = default;

    hal::Atomic<u32> refs_{1};
    Mutex mutex_{"of shared memory"};
    PageIndex index_ LOFT_GUARDED_BY(mutex_);
};

u32 shared_objects_in_use(); // of the whole machine; any context
void shared_object_init();   // boot; after the object cache

} // namespace loft
