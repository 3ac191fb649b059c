// splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014) over a counter and the
// time.
#include "kernel/boot/random.hpp"

#include "arch/base/near_wrap.hpp"
#include "arch/i386/isa/control.hpp"

#include <hal/hal.hpp>

namespace loft {
namespace {
constinit hal::Atomic<u32> requests{near_wrap<u32>()};
} // namespace

void fill_random(std::span<u8> bytes) {
    u64 state = read_tsc() ^ u64 { requests.fetch_add(1) } << 40;
    u64 word = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        if (i % 8 == 0) {
            state += 0x9e37'79b9'7f4a'7c15ull;
            word = state;
            word = (word ^ word >> 30) * 0xbf58'476d'1ce4'e5b9ull;
            word = (word ^ word >> 27) * 0x94d0'49bb'1331'11ebull;
            word ^= word >> 31;
        }
        bytes[i] = static_cast<u8>(word >> i % 8 * 8);
    }
}

} // namespace loft
