// Wrong uses of the mapping calls, each of which the compiler must refuse (semantics.md, "Compile-time errors").
//
// As it is, this file compiles: it shows the right use of the same calls. With -DBREAK_name one of them becomes wrong,
// and the error must be in that block.
#include "mm/windows/highmem.hpp"
#include "mm/windows/vmap.hpp"

namespace loft {

void unmap_local(Page* page) {
    const LocalAddr addr = kmap_local_page(page);
#ifdef BREAK_page_to_kunmap_local
    kunmap_local(page);
#endif
#ifdef BREAK_const_page_to_kunmap_local
    kunmap_local(const_cast<const Page*>(page));
#endif
#ifdef BREAK_plain_address_to_kunmap_local
    kunmap_local(VirtAddr{addr.value()});
#endif
#ifdef BREAK_number_to_kunmap_local
    kunmap_local(addr.value());
#endif
#ifdef BREAK_null_to_kunmap_local
    kunmap_local(nullptr);
#endif
    kunmap_local(addr);
}

void unmap_atomic(Page* page) {
    const AtomicAddr addr = kmap_atomic(page);
#ifdef BREAK_page_to_kunmap_atomic
    kunmap_atomic(page);
#endif
#ifdef BREAK_atomic_address_to_kunmap_local
    kunmap_local(addr);
#endif
    kunmap_atomic(addr);
}

void unmap_local_as_atomic(Page* page) {
    const LocalAddr addr = kmap_local_page(page);
#ifdef BREAK_local_address_to_kunmap_atomic
    kunmap_atomic(addr);
#else
    kunmap_local(addr);
#endif
}

void unmap_global(Page* page) {
    const GlobalAddr addr = kmap(page);
    static_cast<void>(addr);
#ifdef BREAK_its_address_to_kunmap
    kunmap(addr);
#endif
#ifdef BREAK_plain_address_to_kunmap
    kunmap(VirtAddr{addr.value()});
#endif
#ifdef BREAK_number_to_kunmap
    kunmap(addr.value());
#endif
#ifdef BREAK_pointer_to_kunmap
    kunmap(hal::lowmem_ptr<char>(addr));
#endif
    kunmap(page);
}

void keep_the_result(Page* page) {
    kunmap_local(kmap_local_page(page));
#ifdef BREAK_discard_kmap_local_page
    kmap_local_page(page);
#endif
    kunmap_atomic(kmap_atomic(page));
#ifdef BREAK_discard_kmap_atomic
    kmap_atomic(page);
#endif
    static_cast<void>(kmap(page));
#ifdef BREAK_discard_kmap
    kmap(page);
#endif
    kunmap(page);
    const LocalMap held{page};
#ifdef BREAK_discard_local_map
    LocalMap{page};
#endif
    const Result<VirtAddr> area = vmap(&page, 1, VmapProt::rw);
#ifdef BREAK_discard_vmap
    vmap(&page, 1, VmapProt::rw);
#endif
    if (area) vunmap(*area);
}

void hold_once(Page* page) {
    const LocalMap local{page};
    const AtomicMap atomic{page};
    const KMap global{page};
#ifdef BREAK_copy_local_map
    const LocalMap copy = local;
#endif
#ifdef BREAK_copy_atomic_map
    const AtomicMap copy{atomic};
#endif
#ifdef BREAK_copy_kmap
    const KMap copy{global};
#endif
#ifdef BREAK_assign_local_map
    LocalMap other{page};
    other = local;
#endif
#ifdef BREAK_page_becomes_a_map
    const LocalMap silently = page;
#endif
    static_cast<void>(local.addr());
    static_cast<void>(atomic.addr());
    static_cast<void>(global.addr());
}

} // namespace loft
