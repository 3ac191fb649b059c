"""Detects a program that hangs, by its processor time. Elapsed time alone is not used: on a busy host a program may just wait.

A computing program hangs when it has used up its limit of processor time. An idle one hangs when it has neither run nor waited
for a processor for as much elapsed time. The times come from /proc, of the program and its descendants.
"""
import os
import time

TICKS = os.sysconf('SC_CLK_TCK')
PROCESSORS = len(os.sched_getaffinity(0))
ASLEEP = 0.1  # a guest that waits in hlt for its next tick uses a few percent of a processor


class Hung(str):
    """The reason why a hanging program was killed; returned instead of its status."""


def tree(root):
    """The process and its descendants: {pid: fields of /proc/PID/stat from the third on}."""
    every = {}
    for name in os.listdir('/proc'):
        if name.isdigit():
            try:
                with open(f'/proc/{name}/stat', encoding='utf-8', errors='replace') as file:
                    every[int(name)] = file.read().rpartition(')')[2].split()
            except OSError:
                pass  # it has just ended
    found, grown = {root} & every.keys(), True
    while grown:
        more = {pid for pid, fields in every.items() if int(fields[1]) in found} - found
        found, grown = found | more, bool(more)
    return {pid: every[pid] for pid in found}


def used(processes):
    """Seconds of processor time: user and system, children that have ended included (proc(5), fields 14 to 17)."""
    return sum(sum(map(int, fields[11:15])) for fields in processes.values()) / TICKS


def waited(processes):
    """Seconds in which a thread was ready to run, without a processor (the second figure of schedstat)."""
    total = 0
    for pid in processes:
        try:
            for thread in os.listdir(f'/proc/{pid}/task'):
                with open(f'/proc/{pid}/task/{thread}/schedstat', encoding='utf-8') as file:
                    total += int(file.read().split()[1])
        except (OSError, IndexError, ValueError):
            pass  # it has ended, or this kernel does not count
    return total / 1e9


class Watch:
    """`limit`: seconds of processor time, for each of the `processors` that the program can keep busy."""

    def __init__(self, pid, limit, processors=1):
        self.pid, self.limit = pid, limit
        self.most = limit * max(1, min(processors, PROCESSORS))
        self.used = 0.0
        self.looked = self.awake_at = time.monotonic()
        self.awake = 0.0

    def hung(self):
        """A Hung if the program hangs, else None. May be called often: it checks twice a second."""
        if time.monotonic() - self.looked < 0.5:
            return None
        self.looked = time.monotonic()
        processes = tree(self.pid)
        self.used = max(self.used, used(processes))
        if self.used > self.most:
            return Hung(f'still running after {self.used:.0f} s of processor time')
        now, awake = time.monotonic(), self.used + waited(processes)
        if awake - self.awake > ASLEEP * self.limit:
            self.awake_at, self.awake = now, awake
        if now - self.awake_at > self.limit:
            return Hung(f'still running, and has done next to nothing for {now - self.awake_at:.0f} s')
        return None
