// Fibers: code with its own stack that can stop anywhere and continue later, all on one host thread.
#pragma once

#include "arch/base/not_copyable.hpp"
#include "arch/base/types.hpp"

#include <cstddef>
#include <functional>
#include <memory>

namespace loft::sim {

class Fiber : NotCopyable<Fiber> {
  public:
    static constexpr std::size_t kStack = 128 * KiB;

    Fiber();
    ~Fiber();

    // The next resume() starts `body` at its first line. The old contents of the stack are dropped without unwinding.
    // `body` must not return: it ends with a leave().
    void start(const std::function<void()>* body);

    // Called on the main stack: runs the fiber until it leaves.
    void resume();
    // Called inside the fiber: returns to the caller of resume().
    void leave();

    const u8* stack() const { return stack_.get(); } // kStack bytes

  private:
    static void enter();

    std::unique_ptr<u8[]> stack_;
    void* stack_pointer_ = nullptr;
    void* back_ = nullptr; // the main stack's pointer while the fiber runs
    const std::function<void()>* body_ = nullptr;
    // AddressSanitizer's data for a stack that is not in use.
    [[maybe_unused]] void* sanitizer_fiber_ = nullptr;
    [[maybe_unused]] void* sanitizer_main_ = nullptr;
    [[maybe_unused]] const void* main_bottom_ = nullptr;
    [[maybe_unused]] std::size_t main_size_ = 0;
};

} // namespace loft::sim
