"""Disks of the machines of tests/guest/matrix.cfg: their images, the errors that QEMU injects, and what must be in them afterwards.

tests/guest/disk_test.cpp describes the sectors. A disk is described by BUS SIZE [OPTION]; the bus is ide or virtio, the
option a fault, or `bridge`: a disk of virtio behind two bridges of the PCI bus.
"""
import os
import re
import struct

SECTOR = 512
TEXT = b'loft: self-tests may write here\0'
FROM_HOST, TO_HOST = range(64, 320), range(1024, 1536)
READ_ERROR, WRITE_ERROR = 2048, 2056
SIZES = {'M': 2 ** 20, 'G': 2 ** 30, 'T': 2 ** 40}

# Words of the signature behind the text: read error, write error, flush error, silent, removed, read-only.
FAULTS = {
    '': (0, 0, 0, 0, 0, 0),
    'errors': (READ_ERROR, WRITE_ERROR, 0, 0, 0, 0),
    'flush-errors': (READ_ERROR, WRITE_ERROR, 1, 0, 0, 0),
    'silent': (0, 0, 0, 1, 0, 0),
    'removed': (0, 0, 0, 0, 1, 0),
    'leaves': (0, 0, 0, 0, 2, 0),
    'read-only': (0, 0, 0, 0, 0, 1),
    'bridge': (0, 0, 0, 0, 0, 0),
}


def pattern(sector, salt):
    return struct.pack('<128I', *((((sector * 128 + word) * 0x9e3779b1) + salt * 0x85ebca6b) & 0xffffffff for word in range(128)))


class Disk:
    def __init__(self, text, path):
        words = text.split()
        size = re.fullmatch(r'(\d+)([MGT])', words[1]) if len(words) in (2, 3) else None
        if not size or words[0] not in ('ide', 'virtio') or (words + [''])[2] not in FAULTS:
            raise ValueError(f'disks: {text!r}: write BUS SIZE [OPTION], with {", ".join(filter(None, FAULTS))}')
        self.bus, self.path, self.fault = words[0], path, (words + [''])[2]
        self.bytes = int(size[1]) * SIZES[size[2]]

    def create(self):
        """A sparse file with the signature and the pattern that the guest reads."""
        os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
        with open(self.path, 'wb') as file:
            file.truncate(self.bytes)
            file.write(TEXT + struct.pack('<6I', *FAULTS[self.fault]))
            file.seek(FROM_HOST[0] * SECTOR)
            file.write(b''.join(pattern(sector, 1) for sector in FROM_HOST))

    def options(self):
        """Arguments for run-qemu, and for QEMU."""
        if self.fault in ('', 'removed', 'leaves'):
            return ['--disk', f'{self.bus}:{self.path}'], []
        if self.fault == 'bridge':
            return [], ['-device', 'pci-bridge,id=outer,chassis_nr=1', '-device', 'pci-bridge,id=inner,chassis_nr=2,bus=outer,addr=4',
                        '-drive', f'if=none,id=behind,format=raw,file={self.path}', '-device', 'virtio-blk-pci,bus=inner,addr=3,drive=behind']
        if self.fault == 'read-only':
            return [], ['-drive', f'if={self.bus},format=raw,file={self.path},readonly=on']
        if self.fault == 'silent':
            # 2 KiB a second: after 128 KiB at once, the next transfer waits for a minute.
            return [], ['-drive', f'if={self.bus},format=raw,file={self.path},throttling.bps-total=2048']
        errors = [('read', READ_ERROR), ('write', WRITE_ERROR)] + ([('flush', None)] if self.fault == 'flush-errors' else [])
        keys = ''.join(f',file.inject-error.{number}.event=none,file.inject-error.{number}.iotype={kind},'
                       f'file.inject-error.{number}.errno=5' + (f',file.inject-error.{number}.sector={sector}' if sector else '')
                       for number, (kind, sector) in enumerate(errors))
        return [], ['-drive', f'if={self.bus},driver=raw,file.driver=blkdebug,file.image.driver=file,'
                              f'file.image.filename={self.path}{keys}']

    def wrong_sectors(self):
        """Sectors in which the pattern of the guest is not found."""
        with open(self.path, 'rb') as file:
            file.seek(TO_HOST[0] * SECTOR)
            return [sector for sector in TO_HOST if file.read(SECTOR) != pattern(sector, 2)]


def check(result, disks, text):
    """The guest says for how many disks it has written the pattern: there are as many, and they have it."""
    told = re.findall(r'^ *# (\w+): the host finds pattern 2 in sectors', text, re.MULTILINE)
    wanted = [disk for disk in disks if disk.fault in ('', 'errors', 'bridge')]
    if told:
        result.check(len(told) == len(wanted), f'the guest has written to {len(told)} disks, there are {len(wanted)}')
        for disk in wanted:
            wrong = disk.wrong_sectors()
            result.check(not wrong, f'{disk.path}: {len(wrong)} sectors do not have what the guest wrote, the first is '
                                    f'{wrong[0] if wrong else 0}')
    for disk in disks:
        os.remove(disk.path)
