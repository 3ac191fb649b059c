// Physical memory above 4 GiB: all frames are distinct.
//
// An address that has lost its upper bits (bug 12) leads to another frame, and both show the same words. So the test
// first signs all frames with their numbers, and then reads them again, through mappings of another kind.
#include "kernel/boot/multiboot.hpp"
#include "mm/init.hpp"
#include "mm/windows/fixmap.hpp"
#include "tests/guest/support.hpp"

#include <algorithm>
#include <bit>

namespace loft::guest::physical_test {
namespace {

constexpr u32 kSalt = 31;
constexpr u32 kFrames4G = 1u << 20; // the frame number at which an address leaves 32 bits

// The kinds of mappings through which a frame is read.
constexpr u32 kWays = 4;
u32 errors_through(u32 way, Page* page) {
    const Pfn pfn = page_to_pfn(page);
    switch (way % kWays) {
    case 0:
        return !signed_by(page, kSalt);
    case 1: {
        const KMap map{page};
        return !marks_hold(map.addr(), pfn, kSalt);
    }
    case 2: {
        const BootWindow window{pfn.phys(), kPageSize};
        return !marks_hold(window.at(), pfn, kSalt);
    }
    default: {
        const AtomicMap map{page};
        return !marks_hold(map.addr(), pfn, kSalt);
    }
    }
}

// The frame of a block that is sampled: it differs from block to block, so that every value of the low bits occurs.
u32 sampled(const Page* block, u32 order) {
    const u32 number = page_to_pfn(block).value() >> order;
    return number * 0x9e37'79b1u >> (32 - kMaxOrder) & ((1u << order) - 1);
}

// Frames inside a block of this test have the type `tail`; no other code has blocks of high memory.
bool is_inside_a_block(u32 frame) {
    return is_highmem(Pfn{frame}) && frame < mem_map_count && pfn_to_page(Pfn{frame})->type() == PageType::tail;
}

const char* cannot_take_everything() {
    if (const char* why = no_highmem_for(1024)) return why;
    return too_long_to_take_everything();
}

} // namespace

// One frame of a block of up to 4 MiB, signed through local maps, read through all kinds: of every block in a full run,
// else of some blocks spread over the machine. (Each frame costs the emulator 2 MiB of the host's memory.)
SELFTEST(physical, blocks_are_distinct) {
    if (const char* why = cannot_take_everything()) SKIP(why);
    const KeepsFreeCounts counts;
    constexpr u32 kQuickBlocks = 64;
    AllFrames all{Gfp::high};
    u32 blocks = 0;
    all.for_each_block([&](Page*, u32) { ++blocks; });
    const u32 step = selftest::full() ? 1 : blocks / kQuickBlocks + 1;
    const auto for_each_sample = [&](auto&& visit) {
        u32 number = 0;
        all.for_each_block([&](Page* block, u32 order) {
            if (number++ % step == 0) visit(block + sampled(block, order));
        });
    };
    u32 frames = 0, wrong = 0, way = 0, above_4g = 0;
    for_each_sample([&](Page* page) {
        sign(page, kSalt);
        ++frames;
        above_4g += page_to_pfn(page).value() >= kFrames4G;
    });
    for_each_sample([&](Page* page) { wrong += errors_through(way++, page); });
    CHECK_EQ(wrong, 0u);
    selftest::note("{} frames, {} of them above 4 GiB", frames, above_4g);
    if (physmap().end().phys().value() >= 5 * GiB) CHECK_GT(above_4g, 0u);
    all.release();
}

// Pairs of frames whose numbers differ in one bit, for every bit that this machine's memory has.
SELFTEST(physical, no_address_bit_is_lost) {
    if (const char* why = cannot_take_everything()) SKIP(why);
    const KeepsFreeCounts counts;
    AllFrames all{Gfp::high};
    constexpr u32 kBits = 24, kPairsPerBit = 16;
    u32 pairs_of_bit[kBits]{};
    u32 bits_seen = 0, wrong = 0, pairs = 0;
    all.for_each_block([&](Page* block, u32 order) {
        if (order == 0) return;
        const u32 frame = page_to_pfn(block).value() + 1;
        for (u32 bit = 1; bit < kBits; ++bit) {
            const u32 other = frame ^ 1u << bit;
            if (other < frame || pairs_of_bit[bit] == kPairsPerBit || !is_inside_a_block(other)) continue;
            bits_seen |= 1u << bit;
            ++pairs_of_bit[bit];
            ++pairs;
            Page* a = pfn_to_page(Pfn{frame});
            Page* b = pfn_to_page(Pfn{other});
            sign(a, kSalt);
            sign(b, kSalt);
            wrong += errors_through(pairs, a) + errors_through(pairs + 1, b);
            // In the reverse order, and with both mapped at once.
            const LocalMap first{b};
            const LocalMap second{a};
            write_marks(first.addr(), Pfn{other}, bit);
            write_marks(second.addr(), Pfn{frame}, bit + 1);
            wrong += !marks_hold(first.addr(), Pfn{other}, bit);
        }
    });
    CHECK_EQ(wrong, 0u);
    selftest::note("{} pairs; bits of the frame number that were seen: {:06x}", pairs, bits_seen);
    if (config::kPae && physmap().end().phys().value() >= 8 * GiB) CHECK((bits_seen >> 20 & 1) != 0);
    CHECK_GE(static_cast<u32>(std::popcount(bits_seen)), 9u);
    all.release();
}

namespace {

// True if the frame is the head of an allocated block, or inside one.
bool is_taken(u32 frame) {
    const PageType type = pfn_to_page(Pfn{frame})->type();
    return type == PageType::tail || type == PageType::used;
}
u32 first_taken_from(u32 frame) {
    while (frame < mem_map_count && !is_taken(frame))
        ++frame;
    return frame;
}
u32 last_taken_below(u32 frame) {
    frame = std::min(frame, mem_map_count);
    while (frame-- != 0)
        if (is_taken(frame)) return frame;
    return mem_map_count;
}
bool was_in_use_at_boot(Pfn frame) {
    for (const ReservedRange& range : multiboot_reserved())
        if (range.begin < (frame + 1).phys() && frame.phys() < range.end) return true;
    return false;
}

} // namespace

// The highest frame that the machine has, those next to the border of 32 bits, the first one of high memory.
SELFTEST(physical, border_frames_are_reached) {
    if (const char* why = cannot_take_everything()) SKIP(why);
    const KeepsFreeCounts counts;
    AllFrames all{Gfp::high};
    const u32 last = physmap().end().value() - 1;
    u32 reached = 0;
    for (const u32 frame : {last_taken_below(last + 1), first_taken_from(kFrames4G), last_taken_below(kFrames4G),
                            first_taken_from(layout::lowmem_end().value())}) {
        if (frame >= mem_map_count) continue;
        Page* page = pfn_to_page(Pfn{frame});
        ++reached;
        for (u32 way = 0; way < kWays; ++way) {
            clear_highpage(page);
            CHECK_EQ(errors_through(way, page), 1u);
            sign(page, kSalt);
            CHECK_EQ(errors_through(way, page), 0u);
        }
    }
    CHECK_GE(reached, 2u);
    if (!was_in_use_at_boot(Pfn{last})) CHECK_NE(pfn_to_page(Pfn{last})->type(), PageType::none);
    all.release();
}

// `full`: allocates every free frame of the machine, writes every word, and when all are written reads them again.
SELFTEST(physical, every_free_frame) {
    if (!selftest::full()) SKIP("selftest=full writes and checks every frame");
    const KeepsFreeCounts counts;
    const u64 total = u64{free_frames(ZoneId::dma)} + free_frames(ZoneId::normal) + free_frames(ZoneId::high);
    AllFrames users{Gfp::high};
    AllFrames kernel{Gfp::kernel};
    CHECK_EQ(u64{users.frames()} + kernel.frames(), total);
    u64 done = 0;
    u32 wrong = 0;
    const auto write = [&](Page* block, u32 order) {
        for (u32 i = 0; i < 1u << order; ++i, ++done) {
            const LocalMap map{block + i};
            write_all_words(map.addr(), page_to_pfn(block + i), kSalt);
        }
        selftest::progress(done, total, "frames written");
    };
    const auto check = [&](Page* block, u32 order) {
        for (u32 i = 0; i < 1u << order; ++i, ++done) {
            const LocalMap map{block + i};
            if (!all_words_hold(map.addr(), page_to_pfn(block + i), kSalt) && wrong++ == 0)
                selftest::note("frame {} does not hold what was written to it", page_to_pfn(block + i));
        }
        selftest::progress(done, total, "frames checked");
    };
    users.for_each_block(write);
    kernel.for_each_block(write);
    CHECK_EQ(done, total);
    done = 0;
    users.for_each_block(check);
    kernel.for_each_block(check);
    CHECK_EQ(done, total);
    CHECK_EQ(wrong, 0u);
    users.release();
    kernel.release();
}

} // namespace loft::guest::physical_test
