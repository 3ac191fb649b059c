// Wrong uses of page tables, address spaces and user copies, each of which the compiler must refuse.
//
// As it is, this file compiles: it shows the right use of the same calls. With -DBREAK_name one of them becomes wrong,
// and the error must be in that block.
#include "mm/spaces/user_copy.hpp"

namespace loft {

void take_virtual(VirtAddr) {}
void take_user(UserAddr) {}

void addresses(UserAddr user, VirtAddr kernel, u32 number) {
    take_user(user);
    take_virtual(kernel);
#ifdef BREAK_user_address_becomes_virtual
    take_virtual(user);
#endif
#ifdef BREAK_virtual_address_becomes_user
    take_user(kernel);
#endif
#ifdef BREAK_number_becomes_user
    take_user(number);
#endif
#ifdef BREAK_user_from_virtual
    take_user(UserAddr{kernel});
#endif
#ifdef BREAK_virtual_from_user
    take_virtual(VirtAddr{user});
#endif
#ifdef BREAK_user_from_64_bits
    take_user(UserAddr(u64{number}));
#endif
    static_cast<void>(number);
}

void tables(Pte pmd, VirtAddr va) {
    hal::PteCell* entry = pte_offset_map(pmd, va);
    pte_unmap(entry);
#ifdef BREAK_discard_pte_offset_map
    pte_offset_map(pmd, va);
#endif
#ifdef BREAK_unmap_by_address
    pte_unmap(va);
#endif
#ifdef BREAK_entry_without_mapping
    static_cast<void>(pte_offset(pmd, va));
#endif
    const PteMap map{pmd, va};
#ifdef BREAK_discard_pte_map
    PteMap{pmd, va};
#endif
#ifdef BREAK_copy_pte_map
    const PteMap copy{map};
#endif
    static_cast<void>(map.cell());
}

void copies(AddressSpace& space, UserAddr user, void* object) {
    static_cast<void>(copy_from_user(object, user, 4));
#ifdef BREAK_discard_copy_from_user
    copy_from_user(object, user, 4);
#endif
#ifdef BREAK_discard_copy_to_user
    copy_to_user(user, object, 4);
#endif
#ifdef BREAK_copy_the_wrong_way
    static_cast<void>(copy_to_user(object, user, 4));
#endif
#ifdef BREAK_copy_from_virtual
    static_cast<void>(copy_from_user(object, VirtAddr{user.value()}, 4));
#endif
#ifdef BREAK_discard_get_user
    get_user<u32>(user);
#endif
#ifdef BREAK_discard_put_user
    put_user<u32>(user, 1);
#endif
#ifdef BREAK_user_of_64_bits
    static_cast<void>(get_user<u64>(user));
#endif
    if (Status done = space.unmap(VirtAddr{user.value()}, kPageSize); !done) return;
#ifdef BREAK_discard_unmap
    space.unmap(VirtAddr{user.value()}, kPageSize);
#endif
#ifdef BREAK_discard_map
    space.map(VirtAddr{user.value()}, kPageSize, Prot::read, MapKind::anonymous, true);
#endif
#ifdef BREAK_discard_fork
    space.fork();
#endif
#ifdef BREAK_copy_a_space
    AddressSpace copy{space};
#endif
#ifdef BREAK_delete_a_space
    space.~AddressSpace();
#endif
}

} // namespace loft
