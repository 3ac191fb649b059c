// Disks: what is written is read again, in every frame of the machine; errors reach the caller.
#include "arch/base/fixed_list.hpp"
#include "arch/i386/irq/timer.hpp"
#include "arch/i386/isa/control.hpp"
#include "kernel/devices/disks.hpp"
#include "kernel/devices/pci.hpp"
#include "kernel/devices/virtio_blk.hpp"
#include "kernel/threads/lifecycle.hpp"
#include "mm/init.hpp"
#include "tests/guest/signed_disks.hpp"
#include "tests/guest/support.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

namespace loft::guest::disk_test {
namespace {

constexpr u64 kFromHost = 64, kToHost = 1024, kRoom = 4096;
constexpr u32 kFromHostSectors = 256, kToHostSectors = 512, kRoomSectors = 16384;
constexpr u32 kWords = kSectorBytes / 4, kSectorsOfPage = kPageSize / kSectorBytes;

// The words of a sector. The runner computes the same.
constexpr u32 pattern(u64 sector, u32 word, u32 salt) {
    return (static_cast<u32>(sector) * kWords + word) * 0x9e37'79b1u + salt * 0x85eb'ca6bu;
}

void fill(Page* page, u32 offset, u32 bytes, u64 sector, u32 salt) {
    const LocalMap map{page};
    for (u32 i = 0; i < bytes / 4; ++i)
        hal::store<u32>(map.addr() + (offset + 4 * i), pattern(sector + i / kWords, i % kWords, salt));
}
// The number of wrong words.
u32 wrong(Page* page, u32 offset, u32 bytes, u64 sector, u32 salt) {
    const LocalMap map{page};
    u32 count = 0;
    for (u32 i = 0; i < bytes / 4; ++i)
        count += hal::load<u32>(map.addr() + (offset + 4 * i)) != pattern(sector + i / kWords, i % kWords, salt);
    return count;
}

Status flush(BlockDevice& disk) {
    BlockRequest request{BlockOp::flush};
    return disk.run(request);
}
bool ended_with(Status status, Error error) { return !status && status.error() == error; }

// A request with parts of random sizes and offsets in random frames, of which it leaves the rest alone.
class RandomParts {
  public:
    // `frames` for at most `most` parts; none is used twice.
    RandomParts(Page* const* frames, u32 most, selftest::Rng& rng) : frame_{frames} {
        count_ = 1 + rng.below(most);
        for (u32 i = 0; i < count_; ++i) {
            const u32 first = rng.below(kSectorsOfPage);
            offset_[i] = first * kSectorBytes;
            bytes_[i] = (1 + rng.below(kSectorsOfPage - first)) * kSectorBytes;
        }
    }
    u32 sectors() const {
        u32 sum = 0;
        for (u32 i = 0; i < count_; ++i)
            sum += bytes_[i] / kSectorBytes;
        return sum;
    }
    bool add_to(BlockRequest& request) const {
        for (u32 i = 0; i < count_; ++i)
            if (!request.add(frame_[i], offset_[i], bytes_[i])) return false;
        return true;
    }
    // Of the data of sectors from `sector` on.
    void put(u64 sector, u32 salt) const {
        for (u32 i = 0; i < count_; sector += bytes_[i++] / kSectorBytes)
            fill(frame_[i], offset_[i], bytes_[i], sector, salt);
    }
    u32 errors(u64 sector, u32 salt) const {
        u32 count = 0;
        for (u32 i = 0; i < count_; sector += bytes_[i++] / kSectorBytes)
            count += wrong(frame_[i], offset_[i], bytes_[i], sector, salt);
        return count;
    }
    void clear(u32 salt) const { // the whole frames
        for (u32 i = 0; i < count_; ++i)
            fill(frame_[i], 0, kPageSize, 0, salt);
    }
    u32 errors_beside(u32 salt) const {
        u32 count = 0;
        for (u32 i = 0; i < count_; ++i) {
            const u32 end = offset_[i] + bytes_[i];
            count += wrong(frame_[i], 0, offset_[i], 0, salt);
            count += wrong(frame_[i], end, kPageSize - end, end / kSectorBytes, salt);
        }
        return count;
    }

  private:
    Page* const* frame_;
    u32 count_ = 0, offset_[BlockRequest::kMaxParts]{}, bytes_[BlockRequest::kMaxParts]{};
};

// Writes random parts to random sectors of a range and reads them into other parts, `rounds` times; returns the errors.
u32 write_and_read(BlockDevice& disk, u64 begin, u32 sectors, Page* const* frames, selftest::Rng& rng, u32 rounds) {
    constexpr u32 kMost = BlockRequest::kMaxParts, kCanary = 99;
    u32 errors = 0;
    for (u32 round = 0; round < rounds; ++round) {
        const RandomParts out{frames, kMost, rng};
        const u64 first = begin + rng.below(sectors - kMost * kSectorsOfPage + 1);
        out.clear(kCanary + 1);
        out.put(first, round);
        BlockRequest write{BlockOp::write, first};
        errors += !out.add_to(write) || !disk.run(write);
        errors += out.errors(first, round); // a write changes nothing here
        // Into the frames from the other end, so that other sizes meet other frames.
        Page* other[kMost];
        for (u32 i = 0; i < kMost; ++i)
            other[i] = frames[2 * kMost - 1 - i];
        const RandomParts in{other, kMost, rng};
        const u64 from = first + rng.below(out.sectors());
        const u32 known = static_cast<u32>(first + out.sectors() - from);
        if (in.sectors() > known) continue;
        in.clear(kCanary);
        BlockRequest read{BlockOp::read, from};
        errors += !in.add_to(read) || !disk.run(read);
        errors += in.errors(from, round) + in.errors_beside(kCanary);
    }
    return errors;
}

constexpr u32 kFrames = 2 * BlockRequest::kMaxParts;

} // namespace

SELFTEST(disk, every_disk_has_a_name_and_sectors) {
    if (disks().empty()) SKIP("this machine has no disk");
    for (const FoundDisk& disk : disks()) {
        selftest::note("{}: {} sectors", disk.device->name(), disk.device->sectors());
        CHECK_GT(disk.device->sectors(), 0u);
        CHECK(find_disk(disk.device->name()) == disk.device);
        CHECK(!disk.is_lost(*disk.device));
    }
    CHECK(find_disk("hdz") == nullptr);
}

SELFTEST(disk, reads_what_the_host_has_written) {
    const KeepsFreeCounts counts;
    on_each_disk([](BlockDevice& disk, const Signature& signature) {
        if (signature.silent) return;
        for (const Gfp gfp : {Gfp::dma, Gfp::kernel, Gfp::high}) {
            const Pages<2> frame{gfp};
            REQUIRE(frame.complete());
            for (u64 sector = kFromHost; sector < kFromHost + kFromHostSectors; sector += 2 * kSectorsOfPage) {
                BlockRequest request{BlockOp::read, sector};
                REQUIRE(request.add(frame[0], 0, kPageSize) && request.add(frame[1], 0, kPageSize));
                REQUIRE(disk.run(request));
                CHECK_EQ(wrong(frame[0], 0, kPageSize, sector, 1), 0u);
                CHECK_EQ(wrong(frame[1], 0, kPageSize, sector + kSectorsOfPage, 1), 0u);
            }
        }
    });
}

// The runner compares the image after the boot.
SELFTEST(disk, the_host_finds_what_was_written) {
    const KeepsFreeCounts counts;
    on_each_disk([](BlockDevice& disk, const Signature& signature) {
        if (signature.flush_error || !signature.is_reliable()) return;
        const Pages<1> frame;
        REQUIRE(frame.complete());
        for (u64 sector = kToHost; sector < kToHost + kToHostSectors; sector += kSectorsOfPage) {
            fill(frame[0], 0, kPageSize, sector, 2);
            REQUIRE(transfer(disk, BlockOp::write, sector, frame[0]));
        }
        REQUIRE(flush(disk));
        selftest::note("{}: the host finds pattern 2 in sectors {} to {}", disk.name(), kToHost,
                       kToHost + kToHostSectors - 1);
    });
}

SELFTEST(disk, random_parts_come_back) {
    const KeepsFreeCounts counts;
    on_each_disk([](BlockDevice& disk, const Signature& signature) {
        if (!signature.is_reliable()) return;
        const Pages<kFrames> frames;
        REQUIRE(frames.complete());
        const u32 rounds = selftest::full() ? 500 : 50;
        CHECK_EQ(write_and_read(disk, kRoom, kRoomSectors, frames.begin(), selftest::rng(), rounds), 0u);
    });
}

// An address that has lost its upper bits leads the disk to another frame (bug 12), which the pattern and the canaries
// show. IDE's addresses have 32 bits: its parts are bounced; virtio's have 64, so none is.
SELFTEST(disk, frames_above_4_GiB) {
    if (physmap().end().phys().value() <= 4 * GiB + 8 * MiB) SKIP("this machine has no memory above 4 GiB");
    const KeepsFreeCounts counts;
    const PageAbove above{4 * GiB};
    REQUIRE(above.page != nullptr);
    Page* frames[kFrames];
    for (u32 i = 0; i < kFrames; ++i)
        frames[i] = above.page + 3 * i;
    on_each_disk([&](BlockDevice& disk, const Signature& signature) {
        if (!signature.is_reliable()) return;
        const u32 before = disk.stats().bounced;
        CHECK_EQ(write_and_read(disk, kRoom, kRoomSectors, frames, selftest::rng(), 30), 0u);
        const u32 bounced = disk.stats().bounced - before;
        selftest::note("{}: {} parts bounced", disk.name(), bounced);
        const bool is_ide = disk.name()[0] == 'h';
        CHECK(is_ide ? bounced > 30 : bounced == 0);
        CHECK_EQ(disk.stats().bouncing, 0u);
    });
}

// Frames on both sides of every boundary of 64 KiB, which an entry of IDE's table must not cross.
SELFTEST(disk, a_request_across_64_KiB) {
    const KeepsFreeCounts counts;
    Page* const block = alloc_pages(Gfp::kernel, 6);
    REQUIRE(block != nullptr);
    on_each_disk([&](BlockDevice& disk, const Signature& signature) {
        if (!signature.is_reliable()) return;
        constexpr u32 kParts = BlockRequest::kMaxParts;
        BlockRequest write{BlockOp::write, kRoom}, read{BlockOp::read, kRoom};
        for (u32 i = 0; i < kParts; ++i) {
            fill(block + i, 0, kPageSize, kRoom + i * kSectorsOfPage, 7);
            fill(block + kParts + i, 0, kPageSize, 0, 8);
            CHECK(write.add(block + i, 0, kPageSize) && read.add(block + kParts + i, 0, kPageSize));
        }
        CHECK(!write.add(block, 0, kPageSize));
        CHECK(disk.run(write));
        CHECK(disk.run(read));
        for (u32 i = 0; i < kParts; ++i)
            CHECK_EQ(wrong(block + kParts + i, 0, kPageSize, kRoom + i * kSectorsOfPage, 7), 0u);
    });
    free_pages(block, 6);
}

// A lost bit leads to another of these sectors.
SELFTEST(disk, sector_numbers_keep_their_bits) {
    const KeepsFreeCounts counts;
    on_each_disk([](BlockDevice& disk, const Signature& signature) {
        if (!signature.is_reliable()) return;
        const Pages<1> frame;
        REQUIRE(frame.complete());
        constexpr u32 kFirstBit = 14;
        const auto sector = [](u32 bit) { return kRoom + (bit < kFirstBit ? 0 : u64{1} << bit); };
        u32 end = kFirstBit;
        while (sector(end) < disk.sectors())
            ++end;
        for (u32 bit = kFirstBit - 1; bit < end; ++bit) {
            fill(frame[0], 0, kSectorBytes, 0, bit);
            CHECK(transfer(disk, BlockOp::write, sector(bit), frame[0], 0, kSectorBytes));
        }
        for (u32 bit = kFirstBit - 1; bit < end; ++bit) {
            CHECK(transfer(disk, BlockOp::read, sector(bit), frame[0], 0, kSectorBytes));
            CHECK_EQ(wrong(frame[0], 0, kSectorBytes, 0, bit), 0u);
        }
        selftest::note("{}: up to bit {}", disk.name(), end - 1);
    });
}

// Two threads on each disk, all at the same time. Two disks may share a channel of the IDE controller: each end of one
// has to let the other one go on, at once and not when the time limits are checked.
SELFTEST(disk, all_disks_at_once) {
    constexpr u32 kThreadsOfDisk = 2, kMostThreads = 16, kRounds = 30;
    warm_up_threads(kMostThreads);
    const KeepsFreeCounts counts;
    FixedList<BlockDevice*, kMostThreads / kThreadsOfDisk> found;
    each_disk([&](BlockDevice& disk, const Signature& signature) {
        if (signature.is_reliable()) static_cast<void>(found.add(&disk));
    });
    if (found.empty()) SKIP(kNoDisk);
    std::array<u32, kMostThreads> errors{};
    std::array<Thread*, kMostThreads> threads{};
    hal::Atomic<u32> next;
    auto body = [&] {
        constexpr u32 kShare = kRoomSectors / kThreadsOfDisk;
        const u32 me = next.fetch_add(1);
        selftest::Rng rng{me + 1};
        const Pages<kFrames> frames;
        errors[me] =
            !frames.complete() || write_and_read(*found[me / kThreadsOfDisk], kRoom + me % kThreadsOfDisk * kShare,
                                                 kShare, frames.begin(), rng, kRounds) != 0;
    };
    const u32 used = found.size() * kThreadsOfDisk;
    const u64 begin = now_us();
    for (u32 i = 0; i < used; ++i)
        CHECK((threads[i] = thread_create("disk-test", body)) != nullptr);
    for (Thread* const thread : threads)
        if (thread != nullptr) thread_join(thread);
    const u32 ms = divide(now_us() - begin, 1000);
    selftest::note("{} threads, {} ms", used, ms);
    CHECK_EQ(next.load(), used);
    for (const u32 one : errors)
        CHECK_EQ(one, 0u);
    for (BlockDevice* const disk : found)
        CHECK_EQ(disk->stats().started + disk->stats().queued, 0u);
    CHECK_LT(ms, kRounds * kDiskCheckMs);
}

SELFTEST(disk, sectors_beyond_the_end_are_refused) {
    const KeepsFreeCounts counts;
    on_each_disk([](BlockDevice& disk, const Signature& signature) {
        if (signature.silent) return;
        const Pages<1> frame;
        REQUIRE(frame.complete());
        const u64 end = disk.sectors();
        CHECK(transfer(disk, BlockOp::read, end - 1, frame[0], 0, kSectorBytes));
        CHECK(transfer(disk, BlockOp::read, end - kSectorsOfPage, frame[0]));
        for (const u64 sector :
             {end - kSectorsOfPage + 1, end, end + 1, end + (u64{1} << 32), end + (u64{1} << 48), ~u64{0}, ~u64{0} - 7})
            CHECK(ended_with(transfer(disk, BlockOp::read, sector, frame[0]), Error::invalid));
        CHECK(ended_with(transfer(disk, BlockOp::write, end, frame[0], 0, kSectorBytes), Error::invalid));
        BlockRequest nothing{BlockOp::read, 0};
        CHECK(ended_with(disk.run(nothing), Error::invalid));
    });
}

// --- Errors that QEMU injects.

SELFTEST(disk, errors_reach_the_caller) {
    const KeepsFreeCounts counts;
    const Pages<1> frame;
    REQUIRE(frame.complete());
    u32 disks_with_errors = 0;
    each_disk([&](BlockDevice& disk, const Signature& is) {
        if (is.read_error == 0) return;
        ++disks_with_errors;
        const u32 before = disk.stats().errors;
        const auto run = [&](BlockOp op, u64 sector) { return transfer(disk, op, sector, frame[0], 0, kSectorBytes); };
        CHECK(run(BlockOp::read, is.read_error - 1));
        CHECK(ended_with(run(BlockOp::read, is.read_error), Error::io));
        CHECK(ended_with(transfer(disk, BlockOp::read, is.read_error - 3, frame[0]), Error::io));
        CHECK(run(BlockOp::read, is.read_error + 1));
        CHECK(run(BlockOp::write, is.write_error - 1));
        CHECK(ended_with(run(BlockOp::write, is.write_error), Error::io));
        CHECK(run(BlockOp::write, is.write_error + 1));
        const Status flushed = flush(disk);
        CHECK(is.flush_error ? ended_with(flushed, Error::io) : static_cast<bool>(flushed));
        CHECK_EQ(disk.stats().errors - before, 3u + is.flush_error);
        CHECK(transfer(disk, BlockOp::read, kFromHost, frame[0]));
        CHECK_EQ(wrong(frame[0], 0, kPageSize, kFromHost, 1), 0u);
    });
    if (disks_with_errors == 0) SKIP("no disk with injected errors");
}

SELFTEST(disk, a_disk_that_cannot_be_written) {
    const KeepsFreeCounts counts;
    const Pages<1> frame;
    REQUIRE(frame.complete());
    u32 count = 0;
    each_disk([&](BlockDevice& disk, const Signature& is) {
        if (!is.read_only) return;
        ++count;
        CHECK(ended_with(transfer(disk, BlockOp::write, kFromHost, frame[0]), Error::io));
        CHECK(transfer(disk, BlockOp::read, kFromHost, frame[0]));
        CHECK_EQ(wrong(frame[0], 0, kPageSize, kFromHost, 1), 0u);
    });
    if (count == 0) SKIP("no disk that cannot be written");
}

// A read that gets no answer is started a second time after a reset of the disk, and then fails; the other disks work
// meanwhile, and afterwards.
SELFTEST(disk, a_disk_that_does_not_answer) {
    const KeepsFreeCounts counts;
    const Pages<BlockRequest::kMaxParts> frames;
    const Pages<1> late;
    REQUIRE(frames.complete() && late.complete());
    // Found before one of them is silent: reading the signature would take long.
    FixedList<BlockDevice*, kMostDisks> found, others;
    each_disk([&](BlockDevice& disk, const Signature& is) {
        if (is.silent || is.is_reliable()) CHECK((is.silent ? found : others).add(&disk));
    });
    const auto others_work = [&] {
        for (BlockDevice* const other : others)
            CHECK(transfer(*other, BlockOp::read, kFromHost, frames[0]));
    };
    if (found.empty()) SKIP("no disk that does not answer");
    for (BlockDevice* const disk : found) {
        // Uses up what the disk may transfer at once.
        BlockRequest large{BlockOp::read, kRoom};
        for (u32 i = 0; i < BlockRequest::kMaxParts; ++i)
            CHECK(large.add(frames[i], 0, kPageSize));
        CHECK(disk->run(large));

        const u32 resets = disk->stats().resets;
        const u64 begin = now_us();
        BlockRequest unanswered{BlockOp::read, kRoom};
        CHECK(unanswered.add(late[0], 0, kPageSize));
        disk->submit(unanswered);
        others_work();
        CHECK(ended_with(unanswered.wait(), Error::timed_out));
        const u32 ms = divide(now_us() - begin, 1000);
        selftest::note("{}: timed out after {} ms, {} resets", disk->name(), ms, disk->stats().resets - resets);
        CHECK_GE(disk->stats().resets - resets, 2u);
        CHECK_GE(ms, 2 * (BlockDevice::kPatience - 1) * kDiskCheckMs);
        CHECK_EQ(disk->stats().started + disk->stats().queued, 0u);
        others_work();
    }
}

// The runner takes the file away from the disk when it reads the note.
SELFTEST(disk, a_disk_that_is_taken_away) {
    const KeepsFreeCounts counts;
    const Pages<1> frame;
    REQUIRE(frame.complete());
    FixedList<BlockDevice*, kMostDisks> found;
    each_disk([&](BlockDevice& disk, const Signature& is) {
        if (is.removed == 1) CHECK(found.add(&disk));
    });
    if (found.empty()) SKIP("no disk that is taken away");
    for (BlockDevice* const disk : found) {
        selftest::note("{}: waits until it is taken away", disk->name());
        Status status;
        u32 requests = 0;
        for (Patience patience{Patience::kSleeping, 60}; status && !patience.over(); ++requests) {
            status = transfer(*disk, requests % 2 == 0 ? BlockOp::read : BlockOp::write, kRoom, frame[0]);
            sleep_ms(10);
        }
        selftest::note("{}: request {} ended with an error", disk->name(), requests);
        REQUIRE(!status);
        CHECK(status.error() == Error::io || status.error() == Error::gone);
        CHECK(!transfer(*disk, BlockOp::read, kRoom, frame[0]));
        CHECK(!transfer(*disk, BlockOp::write, kRoom, frame[0]));
    }
    u32 others = 0;
    each_disk([&](BlockDevice& other, const Signature& is) {
        if (!is.is_reliable()) return;
        ++others;
        CHECK(transfer(other, BlockOp::read, kFromHost, frame[0]));
    });
    CHECK_GT(others, 0u);
}

// A device that does not answer to its addresses any more, as after it was pulled out: reads give ones. All its
// requests end with an error, those that it had and those that waited, and later ones at once.
SELFTEST(disk, a_disk_that_leaves_the_bus) {
    const KeepsFreeCounts counts;
    const Pages<1> frame;
    REQUIRE(frame.complete());
    FixedList<BlockDevice*, kMostDisks> others;
    BlockDevice* disk = nullptr;
    each_disk([&](BlockDevice& one, const Signature& is) {
        if (is.removed == 2)
            disk = &one;
        else if (is.is_reliable())
            CHECK(others.add(&one));
    });
    if (disk == nullptr) SKIP("no disk that leaves the bus");
    // The disks of virtio have their names in the order of the bus.
    const char* name = "vda";
    for (const PciFunction& function : pci_functions()) {
        if (!is_virtio_blk(function)) continue;
        if (find_disk(name) == disk) pci_set_command(function.at, 0, pci_command::memory | pci_command::bus_master);
        name = name == std::string_view{"vda"} ? "vdb" : "vdc";
    }
    constexpr u32 kRequests = 9;
    std::array<std::optional<BlockRequest>, kRequests> requests;
    for (u32 i = 0; i < kRequests; ++i) {
        requests[i].emplace(i % 3 == 2 ? BlockOp::flush : BlockOp::read, kRoom);
        if (i % 3 != 2) CHECK(requests[i]->add(frame[0], i % 8 * kSectorBytes, kSectorBytes));
        disk->submit(*requests[i]);
    }
    for (BlockDevice* const other : others)
        CHECK(transfer(*other, BlockOp::read, kFromHost, frame[0]));
    for (std::optional<BlockRequest>& request : requests)
        CHECK(ended_with(request->wait(), Error::gone));
    CHECK(ended_with(transfer(*disk, BlockOp::write, kRoom, frame[0]), Error::gone));
    CHECK(ended_with(flush(*disk), Error::gone));
    for (BlockDevice* const other : others)
        CHECK(transfer(*other, BlockOp::read, kFromHost, frame[0]));
}

} // namespace loft::guest::disk_test
