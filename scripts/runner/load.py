"""Long runs of programs and disks, only with --only: mixed load with full swap, and files larger than lowmem.

tests/guest/load_test.cpp and tests/guest/file_test.cpp have the tests; tests/guest/matrix.cfg has short runs of both.
"""
from . import guest
from .result import Test

FORBID = '^panic\n^qemu-system-\\S+: warning\nmm: out of memory'
END = 'mixed: the end: \\d+ operations in \\d+ s, 0 wrong, 0 threads hang'
LARGE = '# /a: 1[0-9]{3} MiB were written, and read again from the disk'


def machines(minutes):
    """name: keys of tests/guest/matrix.cfg. Half of the minutes with swap half full, half with full swap."""
    seconds = max(1, minutes * 60 // 2)
    return {
        'load/swap': {
            'mem': '128M', 'smp': '4', 'memory': 'part', 'timeout': str(4 * seconds + 900), 'expect': END,
            'disks': 'virtio 256M swap\nvirtio 96M ext2-4k\nide 64M ext2-1k',
            'append': f'selftest=load load={seconds} highmem=64M swap=vda mount=vdb:/a,hda:/b exit'},
        'large/8G': {
            'mem': '8G', 'timeout': '600', 'expect': LARGE, 'disks': 'ide 2G ext2-4k',
            'append': 'selftest=file.a_large* mount=hda:/a exit'},
        'large/16G': {
            'mem': '16G', 'timeout': '600', 'expect': LARGE, 'disks': 'virtio 2G ext2-4k',
            'append': 'selftest=file.a_large* mount=vda:/a exit'},
    }


def tests(where, minutes):
    found = []
    for name, keys in machines(minutes).items():
        machine = guest.Machine(name.replace('/', '-'), {'forbid': FORBID, **keys})
        found.append(Test(name, lambda machine=machine: guest.boot(machine, where), machine.goals(),
                          int(machine.timeout), named=True))
    return found
