// The system calls on paths, and those on files that paths have named. Sources: the man pages (section 2) of the calls.
//
// Programs are root, so rights are kept but not checked. Times are seconds; those of access change by utime only (as
// with the mount option noatime of Linux). What has no inode, as a pipe or a disk, has nothing to change: EPERM.
#pragma once

#include "kernel/tree/errno.hpp"

namespace loft {

struct Call;

// --- file_calls.cpp

SysResult sys_open(Call& call);
SysResult sys_creat(Call& call);
SysResult sys_openat(Call& call);
SysResult sys_mkdir(Call& call);
SysResult sys_mkdirat(Call& call);
SysResult sys_rmdir(Call& call);
SysResult sys_unlink(Call& call);
SysResult sys_unlinkat(Call& call);
SysResult sys_rename(Call& call);
SysResult sys_renameat(Call& call);
SysResult sys_renameat2(Call& call);
SysResult sys_link(Call& call);
SysResult sys_linkat(Call& call);
SysResult sys_symlink(Call& call);
SysResult sys_symlinkat(Call& call);
SysResult sys_readlink(Call& call);
SysResult sys_readlinkat(Call& call);
SysResult sys_truncate(Call& call);
SysResult sys_truncate64(Call& call);
SysResult sys_ftruncate(Call& call);
SysResult sys_ftruncate64(Call& call);
SysResult sys_getdents(Call& call);
SysResult sys_getdents64(Call& call);
SysResult sys_chdir(Call& call);
SysResult sys_fchdir(Call& call);
SysResult sys_getcwd(Call& call);
SysResult sys_fsync(Call& call);
SysResult sys_syncfs(Call& call);
SysResult sys_sync(Call& call);
SysResult sys_swapon(Call& call);
SysResult sys_swapoff(Call& call);

// --- inode_calls.cpp

SysResult sys_oldstat(Call& call);
SysResult sys_oldlstat(Call& call);
SysResult sys_oldfstat(Call& call);
SysResult sys_stat(Call& call);
SysResult sys_lstat(Call& call);
SysResult sys_fstat(Call& call);
SysResult sys_stat64(Call& call);
SysResult sys_lstat64(Call& call);
SysResult sys_fstat64(Call& call);
SysResult sys_fstatat64(Call& call);
SysResult sys_statx(Call& call);
SysResult sys_statfs(Call& call);
SysResult sys_fstatfs(Call& call);
SysResult sys_statfs64(Call& call);
SysResult sys_fstatfs64(Call& call);
SysResult sys_access(Call& call);
SysResult sys_faccessat(Call& call);
SysResult sys_faccessat2(Call& call);
SysResult sys_chmod(Call& call);
SysResult sys_fchmod(Call& call);
SysResult sys_fchmodat(Call& call);
SysResult sys_chown16(Call& call);
SysResult sys_lchown16(Call& call);
SysResult sys_fchown16(Call& call);
SysResult sys_chown(Call& call);
SysResult sys_lchown(Call& call);
SysResult sys_fchown(Call& call);
SysResult sys_fchownat(Call& call);
SysResult sys_umask(Call& call);
SysResult sys_utime(Call& call);
SysResult sys_utimes(Call& call);
SysResult sys_futimesat(Call& call);
SysResult sys_utimensat(Call& call);
SysResult sys_utimensat_time64(Call& call);

} // namespace loft
