// The current directory of a process.
#pragma once

#include "kernel/tree/file_system.hpp"
#include "mm/ground/spinlock.hpp"

#include <utility>

namespace loft {

class WorkingDirectory {
  public:
    // With a reference for the caller, who releases it: another thread may change it meanwhile. Null: the root. Any
    // context but NMI.
    Inode* get() {
        const SpinGuard guard{lock_};
        if (inode_ != nullptr) inode_->get();
        return inode_;
    }
    // Takes over the caller's reference; null: the root. Preemptible context.
    void set(Inode* inode) {
        {
            const SpinGuard guard{lock_};
            std::swap(inode, inode_);
        }
        if (inode != nullptr) FileSystem::release(inode);
    }

  private:
    SpinLock lock_;
    Inode* inode_ LOFT_GUARDED_BY(lock_) = nullptr;
};

} // namespace loft
