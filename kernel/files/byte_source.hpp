// The bytes of a write: one buffer of the program, a list of them in order (writev), or a part of a page (sendfile).
#pragma once

#include "arch/base/types.hpp"

namespace loft {

class Page;

// struct iovec, writev(2).
struct UserPiece {
    u32 base = 0, bytes = 0;
};

// All calls: a thread of the program, preemptible context. The list is read from user memory while bytes are copied. If
// the program changes it meanwhile, other bytes of its own memory are copied, or the write is short; never more than
// `bytes`.
//
// A page is mapped by kmap while its bytes are copied, and at no other time: a file that waits between two copies, as a
// pipe for room, has no map meanwhile. Else the senders that wait could have all credits of kmap
// (mm/windows/pkmap.hpp), and nobody else could map a page until their readers come.
class ByteSource {
  public:
    ByteSource(UserAddr from, u32 bytes) : piece_{from.value(), bytes}, left_{bytes} {}
    // A list of `pieces` buffers with a total size of at least `bytes`.
    static ByteSource of_list(UserAddr list, u32 pieces, u32 bytes);
    // [offset, offset + bytes) of a page, to which the caller has a reference. It never ends early.
    static ByteSource of_page(Page* page, u32 offset, u32 bytes);

    u32 left() const { return left_; }
    // Copies the next `bytes` (at most left()). False: part of that user memory is not there; the contents of the
    // target are then undefined, and the source must not be used any more.
    [[nodiscard]] bool copy_to(void* to, u32 bytes);
    // The same within a page. Returns the number of bytes that were copied: fewer than `bytes` if that memory ends.
    [[nodiscard]] u32 copy_to_page(Page* to, u32 offset, u32 bytes);

  private:
    template <typename F> u32 each_piece(u32 bytes, F&& copy);

    template <typename F> void with_page(u32 bytes, F&& copy);

    UserPiece piece_;
    Page* page_ = nullptr; // not null: piece_.base is an offset in this page
    UserAddr list_{};      // the entry after `piece_`
    u32 pieces_ = 0;       // entries left in the list
    u32 left_;
};

} // namespace loft
