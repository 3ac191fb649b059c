// The block interface: requests that move whole sectors between a disk and frames, and the disks that carry them out.
//
// A driver (kernel/devices; in tests the simulated disk) derives from BlockDevice. The page cache, swap and file systems
// make requests. docs/disks.md, "The block interface", has the rules for errors, order and durability.
//
//     submitter       BlockRequest: operation, first sector, parts         owns request and frames until `done`
//     BlockDevice     queue, bounce frames, time limit                     this room
//     driver          start, forget                                        starts one request; tells its end
//
// Nothing here allocates after the device was added: a request that finds no room in the driver or no bounce frame stays
// in the queue until an older one has ended.
#pragma once

#include "arch/base/chain.hpp"
#include "arch/base/error.hpp"
#include "arch/base/near_wrap.hpp"
#include "arch/base/not_copyable.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/ground/credits.hpp"

namespace loft {

inline constexpr u32 kSectorShift = 9;
inline constexpr u32 kSectorBytes = 1u << kSectorShift;

enum class BlockOp : u8 { read, write, flush };

// A piece of one frame. `offset` and `bytes` are multiples of kSectorBytes; the piece does not pass the frame's end.
struct BlockPart {
    Page* page = nullptr;
    u32 offset = 0;
    u32 bytes = 0;
};

class BlockRequest : NotCopyable<BlockRequest> {
  public:
    static constexpr u32 kMaxParts = 32; // 128 KiB of whole frames
    // Called once, after the status is set, in an interrupt or a thread, without a lock; it must not sleep. The request
    // may be freed or submitted again by it.
    using Done = void (*)(BlockRequest&);

    // Null `done`: the submitter calls wait().
    explicit BlockRequest(BlockOp op, u64 sector = 0, Done done = nullptr) : op_{op}, sector_{sector}, done_{done} {}

    // Appends a part. False: the request has kMaxParts already. The frames must stay allocated until the end.
    [[nodiscard]] bool add(Page* page, u32 offset, u32 bytes);
    // Empties the request for another use. It is not submitted.
    void reuse(BlockOp op, u64 sector);

    // Waits for the end of a request without `done`. Once for each submit. Preemptible context.
    [[nodiscard]] Status wait();
    // Of a request that has ended: success, or `io` (the disk reported an error), `timed_out`, `gone` (the disk was
    // taken away), `invalid` (outside the disk, or no sectors).
    Status status() const { return status_; }

    BlockOp op() const { return op_; }
    u64 sector() const { return sector_; }
    u32 sectors() const { return bytes_ >> kSectorShift; }
    u32 parts() const { return count_; }
    const BlockPart& part(u32 i) const { return part_[i]; } // as the submitter sees it
    // The frames that the device reads or writes: those of the parts, or bounce frames in their place. For drivers.
    BlockPart transfer(u32 i) const {
        return {frame_[i] != nullptr ? frame_[i] : part_[i].page, part_[i].offset, part_[i].bytes};
    }

  private:
    friend class BlockDevice;
    BlockOp op_;
    u64 sector_;
    Done done_;
    u32 count_ = 0, bytes_ = 0;
    BlockPart part_[kMaxParts]{};
    Page* frame_[kMaxParts]{}; // the bounce frame of a part; null: none
    BlockRequest* next_ = nullptr;
    u32 age_ = 0; // calls of check_time since it was started
    Status status_;
    Credits ended_{0};
};

// What a disk can do.
struct BlockLimits {
    u64 sectors = 0; // size of the disk
    u32 parts = 0;   // at most, in one request; 1 to BlockRequest::kMaxParts
    Pfn reach{};     // frames from here on are out of reach, and bounced
    u32 depth = 1;   // requests that the driver can have started at a time
};

struct BlockStats {
    u32 reads = near_wrap<u32>(), writes = near_wrap<u32>(), flushes = near_wrap<u32>(); // requests that ended
    u32 errors = near_wrap<u32>();  // requests that ended with an error
    u32 resets = near_wrap<u32>();  // a time limit passed
    u32 bounced = near_wrap<u32>(); // frames
    u32 waits = near_wrap<u32>();   // a request waited for a bounce frame
    u32 queued = 0;                 // requests in the queue now
    u32 started = 0;                // requests at the driver now
};

class BlockDevice : NotCopyable<BlockDevice> {
  public:
    static constexpr u32 kBounceFrames = 64;

    // Allocates the bounce frames from lowmem, if the limits need any. Error: no_memory. Preemptible context; before the
    // first submit.
    [[nodiscard]] Status prepare(const char* name, const BlockLimits& limits);
    // Returns the bounce frames. No request is left, and none is submitted any more. Preemptible context.
    void finish();

    const char* name() const { return name_; }
    u64 sectors() const { return limits_.sectors; }
    const BlockLimits& limits() const { return limits_; }

    // Hands over a request, which ends some time later, or before the return if it is invalid or the disk is gone. Any
    // context but NMI. Cost: none; for each bounced part of a write two atomic maps (here or in the interrupt that
    // starts it later).
    void submit(BlockRequest& request);
    // submit and wait. Preemptible context.
    [[nodiscard]] Status run(BlockRequest& request);

    // A request that was started and has not ended after kPatience calls is late: the driver forgets all that it has,
    // and they are started again; the second time they end with `timed_out`. A thread of the kernel calls it at regular
    // intervals. Preemptible context.
    static constexpr u32 kPatience = 4;
    void check_time();
    // The disk was taken away: every request that was or will be submitted ends with `gone`. Preemptible context; once.
    void take_away();

    BlockStats stats() const; // a snapshot; any context but NMI

  protected:
    ~BlockDevice() = default;

    // Starts the transfer of `request` (its transfer(i)). False: no room; it is offered again after the end of an older
    // one. Called with interrupts off and the device's lock held; not more than limits.depth at a time.
    [[nodiscard]] virtual bool start(BlockRequest& request) = 0;
    // The disk is stopped or reset: after the return it accesses no frame of any request. Called with interrupts off and
    // the device's lock held.
    virtual void forget() = 0;
    // The driver calls it in its interrupt, without a lock, once for each request that it has started. Any context but
    // NMI. It may call start for the next ones.
    void ended(BlockRequest& request, Status status);

  private:
    const char* name_ = nullptr;
    BlockLimits limits_;
};

} // namespace loft
