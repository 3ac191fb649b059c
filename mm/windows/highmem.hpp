// The header for users of high memory: the mapping calls, objects that unmap in their destructor, and helpers.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "mm/windows/kmap_local.hpp"
#include "mm/windows/pkmap.hpp"

namespace loft {

// A local mapping until the end of the scope.
class [[nodiscard]] LocalMap : NotCopyable<LocalMap> {
  public:
    [[nodiscard]] explicit LocalMap(Page* page) : addr_{kmap_local_page(page)} {}
    ~LocalMap() { detail::unmap_made(addr_); }
    LocalAddr addr() const { return addr_; }

  private:
    LocalAddr addr_;
};

class [[nodiscard]] AtomicMap : NotCopyable<AtomicMap> {
  public:
    [[nodiscard]] explicit AtomicMap(Page* page) : addr_{kmap_atomic(page)} {}
    ~AtomicMap() { kunmap_atomic(addr_); }
    AtomicAddr addr() const { return addr_; }

  private:
    AtomicAddr addr_;
};

class [[nodiscard]] KMap : NotCopyable<KMap> {
  public:
    [[nodiscard]] explicit KMap(Page* page) : page_{page}, addr_{kmap(page)} {}
    ~KMap() { kunmap(page_); }
    GlobalAddr addr() const { return addr_; }

  private:
    Page* page_;
    GlobalAddr addr_;
};

// All of these: any context but NMI; one or two local slots; cost as kmap_local_page for each page.
inline void clear_highpage(Page* page) {
    LocalMap map{page};
    hal::zero_words(map.addr(), kPageSize);
}
inline void copy_highpage(Page* to, Page* from) {
    if (LocalPair::suits(from, to)) [[likely]] {
        LocalPair map{from, to};
        hal::copy_words(map.second(), map.first(), kPageSize);
        return;
    }
    LocalMap source{from};
    LocalMap target{to};
    hal::copy_words(target.addr(), source.addr(), kPageSize);
}
// offset + bytes at most kPageSize; panics beyond.
void memcpy_to_page(Page* page, u32 offset, const void* from, u32 bytes);
void memcpy_from_page(void* to, Page* page, u32 offset, u32 bytes);
void memset_page(Page* page, u32 offset, u8 value, u32 bytes);
// Zeroes [start, end) of the page. start == end does nothing; start behind end panics (bug 19).
void zero_user(Page* page, u32 start, u32 end);

// The address at which every CPU sees this page: in the direct map, or in the pkmap pool while at least one kmap of it
// is held. False if it has neither. Local mappings are private to one CPU and are not looked at. Any context.
bool page_address(const Page* page, VirtAddr& out);
// The page that is mapped at `va`, an address of the direct map, of a slot of the pool in use, or of a local mapping
// held on this CPU. Null for any other address. (Linux returned a wrong page for local mappings: docs/bugs.md, bug 3.)
Page* kmap_to_page(VirtAddr va);

} // namespace loft
