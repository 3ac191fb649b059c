// The bytes of a program that a write is to take: from one place, or from a list of places (writev), in order.
#pragma once

#include "arch/base/types.hpp"

namespace loft {

class Page;

// struct iovec, writev(2).
struct UserPiece {
    u32 base = 0, bytes = 0;
};

// All calls: a thread of the program, preemptible context. The list is read again while bytes are taken: a program that
// changes it meanwhile gets bytes of its own, or a short write, and never more than `bytes` of them.
class UserSource {
  public:
    UserSource(UserAddr from, u32 bytes) : piece_{from.value(), bytes}, left_{bytes} {}
    // Of a list of `pieces`, of which all together have at least `bytes`.
    static UserSource of_list(UserAddr list, u32 pieces, u32 bytes);

    u32 left() const { return left_; }
    // Takes the next `bytes` (at most left()). False: the program does not have all of that memory; what has been
    // taken is undefined then, and nothing more can be.
    [[nodiscard]] bool copy_to(void* to, u32 bytes);
    [[nodiscard]] bool copy_to_page(Page* to, u32 offset, u32 bytes); // within the page

  private:
    template <typename F> bool each_piece(u32 bytes, F&& copy);

    UserPiece piece_;
    UserAddr list_{}; // what comes after that piece
    u32 pieces_ = 0;  // so many
    u32 left_;
};

} // namespace loft
