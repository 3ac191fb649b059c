// The block interface: requests that move whole sectors between a disk and frames, and the disks that carry them out.
//
// A driver (kernel/devices; in tests the simulated disk) derives from BlockDevice. The page cache, swap and file
// systems make requests. docs/disks.md, "The block interface", has the rules for errors, order and durability.
//
//     submitter       BlockRequest: operation, first sector, parts         owns request and frames until `done`
//     BlockDevice     queue, bounce frames, time limit                     this room
//     driver          start, forget                                        starts one request; tells its end
//
// Nothing here allocates after the device was prepared: a request that finds no room in the driver or no bounce frame
// stays in the queue until an older one has ended. The queue is served in order, so a request that needs many bounce
// frames is not overtaken for ever. It gets all of its bounce frames at once or none, so no two requests wait for each
// other's.
//
// One CPU at a time starts requests, in a loop, without a lock (`starting_`). Whoever submits or ends a request
// meanwhile only changes the lists, which the loop looks at before it ends. So start() may end its request, and a
// completion may submit the next request, without recursion; and a device may lie on another one.
//
// Each start has a number, the ticket. An end counts only if its request is started and the ticket is that of its last
// start. So an interrupt that was on its way while the device was reset ends nothing twice, also if the request has
// been started again or freed since.
#pragma once

#include "arch/base/chain.hpp"
#include "arch/base/error.hpp"
#include "arch/base/near_wrap.hpp"
#include "arch/base/not_copyable.hpp"
#include "mm/frames/page_alloc.hpp"
#include "mm/ground/mutex.hpp"

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
    // Called once for each submit, after the status is set, in an interrupt or a thread, without a lock; it must not
    // sleep. The request may be freed or submitted again by it.
    using Done = void (*)(BlockRequest&);

    // Null `done`: the submitter calls wait().
    explicit BlockRequest(BlockOp op, u64 sector = 0, Done done = nullptr) : op_{op}, sector_{sector}, done_{done} {}

    // Appends a part. False: the request has kMaxParts already. The frames must stay allocated until the end. If the
    // data of a write changes before, the disk gets old or new words. Context: any; the request is not submitted.
    [[nodiscard]] bool add(Page* page, u32 offset, u32 bytes);
    // Empties the request for another use. Context: any; the request is not submitted.
    void reuse(BlockOp op, u64 sector);

    // Waits for the end of a request without `done`, after its submit; one thread. Preemptible context.
    [[nodiscard]] Status wait();
    // Of a request that has ended: success, or `io` (the disk reported an error), `timed_out`, `gone` (the disk was
    // taken away), `invalid` (outside the disk, no sectors, a flush with parts, or more parts than the limits allow).
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
    // The number of its last start. For drivers: they store it beside the request, because the request of a late
    // interrupt may have been freed.
    u32 ticket() const { return ticket_; }

  private:
    friend class BlockDevice;
    static constexpr u32 kNobody = 0, kEnded = ~0u; // of waiter_

    void complete(Status status);

    BlockOp op_;
    u64 sector_;
    Done done_;
    u32 count_ = 0, bytes_ = 0;
    BlockPart part_[kMaxParts]{};
    Page* frame_[kMaxParts]{}; // the bounce frame of a part; null: none
    BlockRequest* next_ = nullptr;
    u32 ticket_ = 0;
    u32 age_ = 0;            // calls of check_time since it was started
    bool was_late_ = false;  // it has been started a second time
    bool prepared_ = false;  // it has its bounce frames, and those of a write are filled
    bool waited_ = false;    // for bounce frames
    bool submitted_ = false; // and not ended
    Status status_;
    hal::Atomic<u32> waiter_{kNobody}; // or the ThreadId + 1 of the thread in wait(), or kEnded
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
    u32 late = near_wrap<u32>();    // ends of starts that had been forgotten
    u32 bounced = near_wrap<u32>(); // parts that were carried through a bounce frame
    u32 waits = near_wrap<u32>();   // requests that waited for bounce frames
    u32 queued = 0;                 // requests in the queue now
    u32 started = 0;                // requests at the driver now
    u32 bouncing = 0;               // bounce frames in use now
};

class BlockDevice : NotCopyable<BlockDevice> {
  public:
    static constexpr u32 kBounceFrames = 64;

    // Allocates the bounce frames from lowmem, if memory has frames out of reach. Errors: no_memory, out_of_reach (not
    // even the DMA zone is in reach). Preemptible context; before the first submit.
    [[nodiscard]] Status prepare(const char* name, const BlockLimits& limits);
    // Returns the bounce frames. No request is left, none is submitted any more, and no interrupt of the driver runs.
    // Preemptible context.
    void finish();

    const char* name() const { return name_; }
    u64 sectors() const { return limits_.sectors; }
    const BlockLimits& limits() const { return limits_; }

    // Hands over a request, which ends some time later, maybe before the return. Any context but NMI, also `done`;
    // locks of a rank below `block` may be held. Cost: no TLB operation, unless a part is bounced: then two atomic maps
    // for each part of a write, and of a read when it ends. The copies are made without a lock, in the context that
    // starts the request or in which it ends, at most 32 frames for each request. Interrupts are on if they are in that
    // context; a driver that calls ended in its start has them off.
    void submit(BlockRequest& request);
    // submit and wait. Preemptible context.
    [[nodiscard]] Status run(BlockRequest& request);

    // A started request that has not ended after kPatience calls is late: the driver forgets all that it has, and they
    // are started again, before all others. A request that is late for the second time ends with `timed_out`. A thread
    // of the kernel calls it at regular intervals. Preemptible context; sleeps as long as forget does. A flush has
    // kFlushPatience calls: it may take longer than 30 s (ATA/ATAPI-6, 8.12, FLUSH CACHE).
    static constexpr u32 kPatience = 4, kFlushPatience = 16;
    void check_time();
    // The disk was taken away: every request that was or will be submitted ends with `gone`. Calls forget. Preemptible
    // context; more than once does no harm.
    void take_away();

    BlockStats stats() const; // a snapshot; any context but NMI

  protected:
    ~BlockDevice() = default;

    // Starts the transfer of `request` (its transfer(i)). False: no room; it is offered again after the end of an older
    // one, by offer_again, or by the next check_time. A request that is refused is never late: so a driver refuses only
    // while it has another one, of this device or of one that shares its hardware, whose time limit is watched. Calls
    // of start and forget do not overlap, and not more than limits.depth requests are started at a time. No lock is
    // held, interrupts are off. It may call ended for the request, and submit to another device. If it returns true,
    // the request may have ended and be gone.
    [[nodiscard]] virtual bool start(BlockRequest& request) = 0;
    // What start had no room for may fit now, although no request of this device has ended: it was in use by another
    // device. Any context but NMI; no lock of a rank from `block` on is held.
    void offer_again();
    // Stops or resets the disk: after the return it accesses no frame of any request, and the driver has no request.
    // Preemptible context, so it may wait for the disk. It still has to work if the disk was taken away.
    virtual void forget() = 0;
    // A request has ended; `ticket` is its ticket() when it was started. Ignored if that start has been forgotten: then
    // `request` may point to anything. So a driver takes both out of its ring under its own lock, and calls this after
    // it has released the lock. Any context but NMI, usually its interrupt; no lock of a rank from `block` on is held.
    void ended(BlockRequest& request, u32 ticket, Status status);

  private:
    using Requests = Chain<BlockRequest, &BlockRequest::next_>;

    static bool is_late(const BlockRequest& request) {
        return request.age_ >= (request.op() == BlockOp::flush ? kFlushPatience : kPatience);
    }
    bool fits(const BlockRequest& request) const;
    bool take_frames(BlockRequest& request) LOFT_REQUIRES(lock_);
    // The next request that can be started, or that ends without a start, with its `status`. Null: none.
    BlockRequest* next(Status& status) LOFT_REQUIRES(lock_);
    void start_requests();
    void end(BlockRequest& request, Status status);
    void pause();
    void take_back(Requests& failed) LOFT_REQUIRES(lock_);

    const char* name_ = nullptr;
    BlockLimits limits_;
    Mutex resetting_{"of a disk that is reset"}; // of check_time and take_away

    mutable SpinLock lock_{LockRank::block};
    Requests again_ LOFT_GUARDED_BY(lock_);      // were offered to the driver before; come before the queue
    Requests queue_ LOFT_GUARDED_BY(lock_);      // in order of submit
    Requests started_ LOFT_GUARDED_BY(lock_);    // in order of start
    hal::Plain<u32> starting_;                   // 1: a CPU runs start_requests. Written under the lock
    bool paused_ LOFT_GUARDED_BY(lock_) = false; // none may start requests
    bool full_ LOFT_GUARDED_BY(lock_) = false;   // the driver had no room; no request has ended since
    bool gone_ LOFT_GUARDED_BY(lock_) = false;
    u32 ticket_ LOFT_GUARDED_BY(lock_) = near_wrap<u32>();
    BlockStats stats_ LOFT_GUARDED_BY(lock_);
    u32 free_frames_ LOFT_GUARDED_BY(lock_) = 0;
    Page* frame_[kBounceFrames] LOFT_GUARDED_BY(lock_){}; // the first free_frames_ are free
};

// The bounce frames of all devices: in /proc/meminfo `Bounce`. Any context.
u32 bounce_frames();
void block_init(); // boot

} // namespace loft
