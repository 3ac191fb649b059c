// Addresses, frame numbers and page-table entries, which must not convert into each other (semantics.md, "Compile-time
// errors"). mapping.cpp explains how these files are used.
#include "arch/base/types.hpp"
#include "arch/i386/isa/pte.hpp"
#include "mm/tables/pagetable.hpp"
#include "mm/windows/page_walk.hpp"

namespace loft {

u64 take_physical(PhysAddr pa) { return pa.value(); }
u32 take_virtual(VirtAddr va) { return va.value(); }

void kinds_of_address(PhysAddr pa, VirtAddr va, Pfn pfn) {
    static_cast<void>(take_physical(pa) + take_virtual(va));
    static_cast<void>(take_physical(pfn.phys()));
#ifdef BREAK_virtual_for_physical
    take_physical(va);
#endif
#ifdef BREAK_physical_for_virtual
    take_virtual(pa);
#endif
#ifdef BREAK_frame_for_physical
    take_physical(pfn);
#endif
#ifdef BREAK_compare_physical_with_virtual
    static_cast<void>(pa == va);
#endif
#ifdef BREAK_order_physical_and_virtual
    static_cast<void>(pa < va);
#endif
#ifdef BREAK_subtract_virtual_from_physical
    static_cast<void>(pa - va);
#endif
#ifdef BREAK_assign_virtual_to_physical
    pa = va;
#endif
#ifdef BREAK_cast_virtual_to_physical
    static_cast<void>(static_cast<PhysAddr>(va));
#endif
#ifdef BREAK_physical_from_virtual_value
    static_cast<void>(PhysAddr{va.value()});
#endif
#ifdef BREAK_virtual_from_physical_value
    static_cast<void>(VirtAddr{pa.value()});
#endif
}

void numbers(u32 frame, u64 bytes) {
    static_cast<void>(take_physical(PhysAddr{u64{frame} << kPageShift}));
    static_cast<void>(take_physical(PhysAddr{bytes}));
#ifdef BREAK_number_for_physical
    take_physical(bytes);
#endif
#ifdef BREAK_number_for_virtual
    take_virtual(frame);
#endif
#ifdef BREAK_shifted_32_bits_into_physical
    take_physical(PhysAddr{frame << kPageShift});
#endif
#ifdef BREAK_shifted_32_bits_into_physical_by_call
    take_physical(PhysAddr(frame << kPageShift));
#endif
#ifdef BREAK_shifted_signed_into_physical
    take_physical(PhysAddr(static_cast<int>(frame) << 12));
#endif
#ifdef BREAK_frame_from_64_bits
    static_cast<void>(Pfn(bytes >> kPageShift));
#endif
#ifdef BREAK_virtual_from_64_bits
    static_cast<void>(VirtAddr(bytes));
#endif
}

void entries(Pfn pfn, u32 number, RawPte raw) {
    static_cast<void>(Pte{pfn, pte::present | pte::write});
    static_cast<void>(Pte::from({number, 0}));
#ifdef BREAK_entry_from_number
    static_cast<void>(Pte{number});
#endif
#ifdef BREAK_entry_from_its_own_width
    static_cast<void>(Pte(raw));
#endif
#ifdef BREAK_entry_from_frame_number_without_type
    static_cast<void>(Pte{number, pte::present});
#endif
#ifdef BREAK_entry_with_flags_as_number
    static_cast<void>(Pte{pfn, 0x63});
#endif
#ifdef BREAK_entry_becomes_a_number
    number = Pte{pfn, pte::present};
#endif
    static_cast<void>(raw);
}

// A PTE can only be reached by a call that maps its table.
void tables(VirtAddr va) {
    static_cast<void>(page_walk(hal::current_root(), va));
#ifdef BREAK_pte_offset
    static_cast<void>(pte_offset(va));
#endif
}

} // namespace loft
