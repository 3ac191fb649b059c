"""Disks that are taken away from a running machine, by the command `drive_del` of QEMU's monitor."""
import time

from . import guest
from .monitor import booted
from .result import Test, read_log

# name: keys of tests/guest/matrix.cfg, and the names of the disks for loft and for QEMU
MACHINES = {
    'disk-removed': ({'mem': '1G', 'smp': '2', 'append': 'selftest=disk exit',
                      'disks': 'ide 64M removed\nvirtio 64M removed\nide 64M',
                      'expect': '\\] ide: error: hda: .* failed: status\n\\] virtio: error: vda: .* failed: status'},
                     {'hda': 'ide0-hd0', 'vda': 'virtio0'}),
}


def take_away(machine, drives, where):
    hung, left = None, dict(drives)
    with booted(machine, where) as monitor:
        while monitor.execute('query-status') and not (hung := monitor.watch.hung()):
            for name in [name for name in left if f'# {name}: waits until it is taken away' in read_log(machine.log())]:
                time.sleep(0.2)  # some requests before it
                monitor.execute('human-monitor-command', **{'command-line': f'drive_del {left.pop(name)}'})
            time.sleep(0.05)
        status = monitor.status(hung)
    return guest.judge(machine, status, read_log(machine.log()))


def tests(where):
    found = []
    for name, (keys, drives) in MACHINES.items():
        machine = guest.Machine(name, {'timeout': '120', 'forbid': '^panic\n^qemu-system-\\S+: warning', **keys})
        found.append(Test(f'guest/{name}', lambda machine=machine, drives=drives: take_away(machine, drives, where),
                          machine.goals(), int(machine.timeout)))
    return found
