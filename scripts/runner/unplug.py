"""Disks that are taken away from a running machine, by the command `drive_del` of QEMU's monitor."""
import os
import subprocess
import time

from . import guest
from .progress import Watch
from .result import Test, kill, read_log, running

# name: keys of tests/guest/matrix.cfg, and the names of the disks for loft and for QEMU
MACHINES = {
    'disk-removed': ({'mem': '1G', 'smp': '2', 'append': 'selftest=disk exit',
                      'disks': 'ide 64M removed\nvirtio 64M removed\nide 64M',
                      'expect': '\\] ide: error: hda: .* failed: status\n\\] virtio: error: vda: .* failed: status'},
                     {'hda': 'ide0-hd0', 'vda': 'virtio0'}),
}


def take_away(machine, drives, where):
    os.makedirs(guest.LOGS, exist_ok=True)
    open(machine.log(), 'w', encoding='utf-8').close()
    command = guest.boot_command(machine, where)
    at = command.index(machine.elf)
    command = command[:at] + ['--serial', machine.log(), machine.elf, '--', '-monitor', 'stdio']
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
                               text=True, start_new_session=True)
    running.add(process)
    watch, hung, left = Watch(process.pid, machine.timeout, machine.processors()), None, dict(drives)
    try:
        while process.poll() is None and not (hung := watch.hung()):
            for name in [name for name in left if f'# {name}: waits until it is taken away' in read_log(machine.log())]:
                time.sleep(0.2)  # some requests before it
                process.stdin.write(f'drive_del {left.pop(name)}\n')
                process.stdin.flush()
            time.sleep(0.05)
        status = hung or process.returncode
    except BrokenPipeError:
        status = process.wait(5)  # it has just ended
    finally:
        kill(process)
        running.discard(process)
    return guest.judge(machine, status, read_log(machine.log()))


def tests(where):
    found = []
    for name, (keys, drives) in MACHINES.items():
        machine = guest.Machine(name, {'timeout': '120', 'forbid': '^panic\n^qemu-system-\\S+: warning', **keys})
        found.append(Test(f'guest/{name}', lambda machine=machine, drives=drives: take_away(machine, drives, where),
                          machine.goals(), int(machine.timeout)))
    return found
