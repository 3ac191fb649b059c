// Contract: signed_disks.hpp.
#include "tests/guest/signed_disks.hpp"

#include "mm/windows/highmem.hpp"
#include "tests/guest/support.hpp"

#include <string_view>
#include <utility>

namespace loft::guest {
namespace {

constexpr std::string_view kText = "loft: self-tests may write here";

struct Known {
    bool is_read = false, is_signed = false;
    Signature signature{};
};
constinit Known known[kMostDisks]{};

bool read_signature(BlockDevice& disk, Signature& signature) {
    const Pages<1> frame{Gfp::kernel};
    if (!frame.complete() || !transfer(disk, BlockOp::read, 0, frame[0], 0, kSectorBytes)) return false;
    memcpy_from_page(&signature, frame[0], 0, sizeof signature);
    return std::string_view{signature.text, kText.size()} == kText;
}

} // namespace

Status transfer(BlockDevice& disk, BlockOp op, u64 sector, Page* page, u32 offset, u32 bytes) {
    BlockRequest request{op, sector};
    if (!request.add(page, offset, bytes)) return Error::invalid;
    return disk.run(request);
}

const Signature* signature_of(u32 disk) {
    if (disk >= kMostDisks) return nullptr;
    Known& one = known[disk];
    if (!std::exchange(one.is_read, true)) one.is_signed = read_signature(*disks()[disk].device, one.signature);
    return one.is_signed ? &one.signature : nullptr;
}

} // namespace loft::guest
