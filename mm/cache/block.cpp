// The block interface: queue, bounce frames, time limits. Contract: block.hpp.
#include "mm/cache/block.hpp"

#include "mm/ground/context.hpp"
#include "mm/windows/highmem.hpp"

#include <algorithm>

namespace loft {
namespace {

hal::Atomic<u32> frames_of_all;

// Copies [offset, offset + bytes) of a frame to the same place of another one. Any context but NMI.
void copy_piece(Page* to, Page* from, const BlockPart& part) {
    const AtomicMap source{from};
    const AtomicMap target{to};
    hal::copy_words(target.addr() + part.offset, source.addr() + part.offset, part.bytes);
}

} // namespace

// --- requests

bool BlockRequest::add(Page* page, u32 offset, u32 bytes) {
    LOFT_ASSERT(!submitted_);
    LOFT_ASSERT(bytes != 0 && (offset | bytes) % kSectorBytes == 0 && offset < kPageSize &&
                bytes <= kPageSize - offset);
    if (count_ == kMaxParts) return false;
    part_[count_++] = {page, offset, bytes};
    bytes_ += bytes;
    return true;
}

void BlockRequest::reuse(BlockOp op, u64 sector) {
    LOFT_ASSERT(!submitted_);
    op_ = op;
    sector_ = sector;
    count_ = bytes_ = 0;
}

Status BlockRequest::wait() {
    might_sleep("wait for a disk");
    LOFT_ASSERT(done_ == nullptr);
    u32 found = kNobody;
    if (waiter_.compare_exchange(found, hal::current_thread().value() + 1))
        while (waiter_.load() != kEnded)
            hal::park();
    return status_;
}

// The submitter may free the request as soon as it knows of the end: nothing here accesses it afterwards.
void BlockRequest::complete(Status status) {
    status_ = status;
    submitted_ = false;
    if (done_ != nullptr) return done_(*this);
    const u32 waiter = waiter_.exchange(kEnded);
    if (waiter != kNobody) hal::unpark(ThreadId{waiter - 1});
}

// --- devices

Status BlockDevice::prepare(const char* name, const BlockLimits& limits) {
    might_sleep("preparing a disk");
    LOFT_ASSERT(limits.parts != 0 && limits.parts <= BlockRequest::kMaxParts && limits.depth != 0);
    name_ = name;
    limits_ = limits;
    if (limits.reach.value() >= mem_map_count) return {};
    if (limits.reach.value() < kDmaEnd) return Error::out_of_reach;

    Page* frame[kBounceFrames];
    u32 count = 0;
    const Gfp gfp = limits.reach < layout::lowmem_end() ? Gfp::dma : Gfp::kernel;
    while (count != kBounceFrames && (frame[count] = alloc_page(gfp)) != nullptr)
        ++count;
    if (count != kBounceFrames) {
        while (count != 0)
            free_page(frame[--count]);
        return Error::no_memory;
    }
    frames_of_all.fetch_add(kBounceFrames);
    SpinGuard guard{lock_};
    std::copy_n(frame, kBounceFrames, frame_);
    free_frames_ = kBounceFrames;
    return {};
}

void BlockDevice::finish() {
    might_sleep("removing a disk");
    for (;;) {
        Page* frame = nullptr;
        {
            SpinGuard guard{lock_};
            LOFT_ASSERT(stats_.queued == 0 && stats_.started == 0 && stats_.bouncing == 0);
            if (free_frames_ == 0) return;
            frame = frame_[--free_frames_];
        }
        frames_of_all.fetch_sub(1);
        free_page(frame);
    }
}

void BlockDevice::submit(BlockRequest& request) {
    LOFT_ASSERT(!request.submitted_);
    request.submitted_ = true;
    request.was_late_ = request.prepared_ = request.waited_ = false;
    request.waiter_.store(BlockRequest::kNobody);
    {
        SpinGuard guard{lock_};
        queue_.push_back(request);
        ++stats_.queued;
    }
    start_requests();
}

Status BlockDevice::run(BlockRequest& request) {
    submit(request);
    return request.wait();
}

bool BlockDevice::fits(const BlockRequest& request) const {
    if (request.op() == BlockOp::flush) return request.parts() == 0;
    return request.parts() != 0 && request.parts() <= limits_.parts && request.sector() <= limits_.sectors &&
           request.sectors() <= limits_.sectors - request.sector();
}

// All frames that the request needs, or none.
bool BlockDevice::take_frames(BlockRequest& request) {
    const auto out_of_reach = [&](u32 i) { return page_to_pfn(request.part_[i].page) >= limits_.reach; };
    u32 wanted = 0;
    for (u32 i = 0; i != request.count_; ++i)
        wanted += out_of_reach(i);
    if (wanted > free_frames_) return false;
    for (u32 i = 0; i != request.count_; ++i)
        request.frame_[i] = out_of_reach(i) ? frame_[--free_frames_] : nullptr;
    stats_.bouncing += wanted;
    stats_.bounced += wanted;
    return true;
}

BlockRequest* BlockDevice::next(Status& status) {
    if (paused_) return nullptr;
    Requests& from = again_.empty() ? queue_ : again_;
    BlockRequest* const request = from.first();
    if (request == nullptr) return nullptr;
    status = gone_ ? Error::gone : fits(*request) ? Status{} : Error::invalid;
    if (status) {
        if (full_ || stats_.started == limits_.depth) return nullptr;
        if (!request->prepared_ && !take_frames(*request)) {
            stats_.waits += !std::exchange(request->waited_, true);
            return nullptr;
        }
    }
    (void)from.pop_front();
    --stats_.queued;
    if (status) {
        request->age_ = 0;
        request->ticket_ = ++ticket_;
        started_.push_back(*request);
        ++stats_.started;
        full_ = true; // until start() says otherwise, or a request ends meanwhile
    }
    return request;
}

// Without preemption: other CPUs rely on this one to look at the lists again.
void BlockDevice::start_requests() {
    const PreemptGuard here;
    {
        SpinGuard guard{lock_};
        if (starting_.load() != 0) return;
        starting_.store(1);
    }
    for (;;) {
        Status status;
        BlockRequest* request = nullptr;
        {
            SpinGuard guard{lock_};
            request = next(status);
            if (request == nullptr) {
                starting_.store(0);
                return;
            }
        }
        if (!status) {
            end(*request, status);
            continue;
        }
        if (!std::exchange(request->prepared_, true) && request->op_ == BlockOp::write)
            for (u32 i = 0; i != request->count_; ++i)
                if (request->frame_[i] != nullptr)
                    copy_piece(request->frame_[i], request->part_[i].page, request->part_[i]);
        const IrqGuard no_interrupts;
        const bool started = start(*request);
        SpinGuard guard{lock_};
        if (started) {
            full_ = false;
            continue;
        }
        started_.remove(*request);
        --stats_.started;
        again_.push_front(*request);
        ++stats_.queued;
    }
}

// A CPU that is in start_requests sees that the driver is not full, after start has returned.
void BlockDevice::offer_again() {
    {
        SpinGuard guard{lock_};
        full_ = false;
    }
    start_requests();
}

void BlockDevice::ended(BlockRequest& request, u32 ticket, Status status) {
    {
        SpinGuard guard{lock_};
        const bool current = started_.take([&](const BlockRequest& one) {
            return &one == &request && one.ticket_ == ticket;
        }) != nullptr;
        if (!current) {
            ++stats_.late;
            return;
        }
        --stats_.started;
        full_ = false;
    }
    end(request, status);
    start_requests();
}

// The request is in no list, and the device does not access its frames.
void BlockDevice::end(BlockRequest& request, Status status) {
    if (status && request.op_ == BlockOp::read)
        for (u32 i = 0; i != request.count_; ++i)
            if (request.frame_[i] != nullptr) copy_piece(request.part_[i].page, request.frame_[i], request.part_[i]);
    {
        SpinGuard guard{lock_};
        for (u32 i = 0; i != request.count_; ++i)
            if (Page* const frame = std::exchange(request.frame_[i], nullptr); frame != nullptr) {
                frame_[free_frames_++] = frame;
                --stats_.bouncing;
            }
        ++(request.op_ == BlockOp::read    ? stats_.reads
           : request.op_ == BlockOp::write ? stats_.writes
                                           : stats_.flushes);
        stats_.errors += !status;
    }
    const PreemptGuard here; // as `done` is promised: check_time ends requests in its thread, too
    request.complete(status);
}

// No CPU starts requests from here on, until paused_ is cleared.
void BlockDevice::pause() {
    {
        SpinGuard guard{lock_};
        paused_ = true;
    }
    while (starting_.load() != 0)
        hal::cpu_relax();
}

// The driver has forgotten what was started: it comes first, in the same order.
void BlockDevice::take_back(Requests& failed) {
    Requests first;
    while (BlockRequest* const request = started_.pop_front()) {
        --stats_.started;
        if (is_late(*request) && std::exchange(request->was_late_, true) && !gone_) {
            failed.push_back(*request);
            continue;
        }
        first.push_back(*request);
        ++stats_.queued;
    }
    while (BlockRequest* const request = again_.pop_front())
        first.push_back(*request);
    again_ = first;
}

void BlockDevice::check_time() {
    might_sleep("time limit of a disk");
    bool late = false;
    {
        SpinGuard guard{lock_};
        full_ = false;
        started_.each([&](BlockRequest& request) {
            ++request.age_;
            late |= is_late(request);
            return true;
        });
    }
    if (!late) return start_requests();

    Requests failed;
    {
        const MutexGuard mine{resetting_};
        pause();
        forget();
        SpinGuard guard{lock_};
        ++stats_.resets;
        take_back(failed);
        paused_ = full_ = false;
    }
    while (BlockRequest* const request = failed.pop_front())
        end(*request, Error::timed_out);
    start_requests();
}

void BlockDevice::take_away() {
    might_sleep("a disk was taken away");
    Requests none;
    {
        const MutexGuard mine{resetting_};
        pause();
        forget();
        SpinGuard guard{lock_};
        gone_ = true;
        take_back(none);
        paused_ = false;
    }
    start_requests();
}

BlockStats BlockDevice::stats() const {
    SpinGuard guard{lock_};
    return stats_;
}

u32 bounce_frames() { return frames_of_all.load(); }
void block_init() { frames_of_all.store(0); }

} // namespace loft
