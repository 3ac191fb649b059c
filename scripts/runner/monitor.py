"""A booted machine with QEMU's machine protocol (QMP): a command is a line of JSON on its standard input, and answered on its output."""
import contextlib
import json
import os
import subprocess

from . import guest
from .progress import Watch
from .result import kill, running


class Monitor:
    """The protocol of a process that `booted` has started."""

    def __init__(self, process, watch):
        self.process, self.watch = process, watch
        self.alive = True
        self.execute('qmp_capabilities')

    def execute(self, command, **arguments):
        """True if QEMU has executed it; False if QEMU has ended."""
        try:
            self.process.stdin.write(json.dumps({'execute': command, 'arguments': arguments}) + '\n')
            self.process.stdin.flush()
            for line in self.process.stdout:
                answer = json.loads(line) if line.startswith('{') else {}
                if 'error' in answer:
                    raise RuntimeError(f'QEMU refuses {command}: {answer["error"]["desc"]}')
                if 'return' in answer:  # no greeting, no event
                    return True
        except BrokenPipeError:
            pass
        self.alive = False
        return False

    def status(self, hung):
        """The end of the machine, as guest.judge takes it; QEMU has just ended, or hangs."""
        return hung or self.process.wait(30)


@contextlib.contextmanager
def booted(machine, where):
    """The Monitor of the machine, whose serial line is written to its log. The end of the block is the end of the machine."""
    os.makedirs(guest.LOGS, exist_ok=True)
    open(machine.log(), 'w', encoding='utf-8').close()
    command = guest.boot_command(machine, where)
    at = command.index(machine.elf)
    command = command[:at] + ['--serial', machine.log(), machine.elf, '--', '-qmp', 'stdio']
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               text=True, start_new_session=True)
    running.add(process)
    try:
        yield Monitor(process, Watch(process.pid, machine.timeout, machine.processors()))
    finally:
        kill(process)
        running.discard(process)
