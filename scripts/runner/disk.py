"""Disks of the machines of tests/guest/matrix.cfg: their images, the errors that QEMU injects, and what must be in them afterwards.

tests/guest/disk_test.cpp describes the sectors. A disk is described by BUS SIZE [OPTION]; the bus is ide or virtio, the
option a fault, or `bridge`: a disk of virtio behind two bridges of the PCI bus; or `ext2-1k`, `ext2-4k`: mke2fs makes a file
system of such blocks on it, and e2fsck judges it afterwards.
"""
import os
import re
import shutil
import struct
import subprocess

SECTOR = 512
TEXT = b'loft: self-tests may write here\0'
FROM_HOST, TO_HOST = range(64, 320), range(1024, 1536)
READ_ERROR, WRITE_ERROR = 2048, 2056
SIZES = {'M': 2 ** 20, 'G': 2 ** 30, 'T': 2 ** 40}

# Words of the signature behind the text: read error, write error, flush error, silent, removed, read-only, swap.
FAULTS = {
    '': (0, 0, 0, 0, 0, 0, 0),
    'errors': (READ_ERROR, WRITE_ERROR, 0, 0, 0, 0, 0),
    'flush-errors': (READ_ERROR, WRITE_ERROR, 1, 0, 0, 0, 0),
    'silent': (0, 0, 0, 1, 0, 0, 0),
    'removed': (0, 0, 0, 0, 1, 0, 0),
    'leaves': (0, 0, 0, 0, 2, 0, 0),
    'read-only': (0, 0, 0, 0, 0, 1, 0),
    'bridge': (0, 0, 0, 0, 0, 0, 0),
    'swap': (0, 0, 0, 0, 0, 0, 1),
}
# Bytes of a block.
FILE_SYSTEMS = {'ext2-1k': 1024, 'ext2-4k': 4096}
KEPT_BYTES = 300_000  # of the file `kept` of tests/user/files.cpp


def pattern(sector, salt):
    return struct.pack('<128I', *((((sector * 128 + word) * 0x9e3779b1) + salt * 0x85ebca6b) & 0xffffffff for word in range(128)))


class Disk:
    def __init__(self, text, path):
        words = text.split()
        size = re.fullmatch(r'(\d+)([MGT])', words[1]) if len(words) in (2, 3) else None
        if not size or words[0] not in ('ide', 'virtio') or (words + [''])[2] not in {**FAULTS, **FILE_SYSTEMS}:
            raise ValueError(f'disks: {text!r}: write BUS SIZE [OPTION], with {", ".join(filter(None, [*FAULTS, *FILE_SYSTEMS]))}')
        self.bus, self.path, self.fault = words[0], path, (words + [''])[2]
        self.bytes = int(size[1]) * SIZES[size[2]]

    def create(self):
        """A sparse file with the signature and the pattern that the guest reads."""
        os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
        with open(self.path, 'wb') as file:
            file.truncate(self.bytes)
            if self.fault in FILE_SYSTEMS:
                run_tool('mke2fs', '-q', '-F', '-t', 'ext2', '-b', str(FILE_SYSTEMS[self.fault]), self.path)
                return
        if self.fault == 'swap':  # it clears the first KiB, and has words about files that are sparse or that others may read
            run_tool('mkswap', self.path)
        with open(self.path, 'r+b') as file:
            file.write(TEXT + struct.pack('<7I', *FAULTS[self.fault]))
            file.seek(FROM_HOST[0] * SECTOR)
            file.write(b''.join(pattern(sector, 1) for sector in FROM_HOST))

    def options(self):
        """Arguments for run-qemu, and for QEMU."""
        if self.fault in ('', 'removed', 'leaves', 'swap', *FILE_SYSTEMS):
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


    def judge_files(self, result, keeps):
        """The file system has no fault, and is marked clean; the file that a program has left there, if it said so, is right."""
        status, output = run_tool('e2fsck', '-fn', self.path)
        result.check(status == 0, f'e2fsck of {self.path} ends with {status}: {" ".join(output.split())[:300]}')
        state = re.search(r'^Filesystem state: *(.*)$', run_tool('dumpe2fs', '-h', self.path)[1], re.MULTILINE)
        result.check(state and state[1] == 'clean', f'{self.path} is {state[1] if state else "unknown"}, not clean')
        if keeps:
            dump = self.path + '.kept'
            open(dump, 'wb').close()
            run_tool('debugfs', '-R', f'dump /kept {dump}', self.path)
            with open(dump, 'rb') as file:
                contents = file.read()
            os.remove(dump)
            wanted = b''.join(struct.pack('<I', (word * 2654435761 + 1) & 0xffffffff) for word in range(KEPT_BYTES // 4))
            result.check(contents == wanted, f'{self.path}: the file kept is not what the program has written')


def run_tool(name, *arguments):
    """Status and output of a tool of e2fsprogs, which some systems have in a folder that is not in the PATH of users."""
    tool = shutil.which(name) or shutil.which(name, path='/usr/sbin:/sbin') or name
    done = subprocess.run([tool, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.returncode, done.stdout.decode(errors='replace')


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
    keeps = len(re.findall(r'^ *# \S+: the host finds the file kept', text, re.MULTILINE))
    file_systems = [disk for disk in disks if disk.fault in FILE_SYSTEMS]
    result.check(keeps in (0, len(file_systems)), f'programs have left a file on {keeps} disks, there are {len(file_systems)}')
    for disk in file_systems:
        disk.judge_files(result, keeps)
    for disk in disks:
        os.remove(disk.path)
