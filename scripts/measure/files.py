"""The cost of operations on files and of swap, by the same static program on loft and on Debian's Linux (tests/user/filecosts.cpp)."""
import os
import subprocess

from . import guard, linux, lines, machine

PROGRAM = f'{machine.BUILD}/user/filecosts'
TABLE = 'tests/bench/files.txt'         # what loft is expected to cost
LINUX_TABLE = 'tests/bench/linux-files.txt'  # what Linux costs, measured once
GOALS = {'pwrite_new': 1800, 'pwrite': 1450, 'pread': 1400, 'pread64': 400, 'read_fault': 150, 'read_fault.single': 450,
         'write_fault.private': 1500, 'open_close': 1400}
# The same as scripts/bench-linux.
OPTIONS = 'console=ttyS0 quiet panic=-1 vdso32=0 tsc=reliable mitigations=off init_on_alloc=0 nokaslr'
FILE_MIB, SWAP_MIB, SWAP_MEM = 512, 1280, '256M'
DRIVERS = {'virtio': ('virtio', 'virtio_ring', 'virtio_pci_legacy_dev', 'virtio_pci_modern_dev', 'virtio_pci', 'virtio_blk'),
           'ide': ('scsi_common', 'scsi_mod', 'sd_mod', 'libata', 'ata_piix')}
EXT2 = ('crc16', 'crc32c_generic', 'libcrc32c', 'mbcache', 'jbd2', 'ext4')
DEVICE = {'virtio': 'vda', 'ide': 'sda'}
EXACT = ['--accel', 'tcg']


HEADER = '''# What operations on files cost on loft, in instructions: lines of tests/user/filecosts.cpp, on tmpfs. `make test` measures the
# default kernel again and fails if one of them has grown by more than 5 %; `make bench-update` writes this file. With a
# compiler that is not named here the figures are not compared.
'''


def read_linux():
    """{line: (lean, Debian)}, None where there is no figure."""
    with open(LINUX_TABLE, encoding='utf-8') as file:
        rows = [line.split('#')[0].split() for line in file]
    return {row[0]: tuple(None if cell == '-' else float(cell) for cell in row[1:]) for row in rows if row}


def tool(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise machine.Failed(f'{" ".join(command)}: {done.stderr.strip()}')


def ext2_disk():
    """A new disk of 1 GiB with an ext2 file system and a file of FILE_MIB, no page of which is zeros."""
    folder, disk = f'{machine.BUILD}/files', f'{machine.BUILD}/files.disk'
    os.makedirs(folder, exist_ok=True)
    with open(f'{folder}/data', 'wb') as file:
        for mib in range(FILE_MIB):
            file.write(bytes([mib % 255 + 1]) * (1 << 20))
    with open(disk, 'wb') as file:
        file.truncate(1 << 30)
    tool('mke2fs', '-q', '-F', '-t', 'ext2', '-b', '4096', '-d', folder, disk)
    os.remove(f'{folder}/data')
    return disk


def swap_disk():
    disk = f'{machine.BUILD}/swap.disk'
    with open(disk, 'wb') as file:
        file.truncate(2 << 30)
    tool('mkswap', disk)
    return disk


def loft(what, words='', **how):
    """The lines of a group of loft's benchmark, and the log."""
    return machine.loft(f'bench-files-{what.replace(".", "-")}', guard.ELF, what, EXACT, words=words, modules=[PROGRAM],
                        timeout=900, **how)


def loft_tmpfs():
    return loft('files.tmpfs')


def loft_disk(bus):
    """Everything on a disk: {line: ticks}, and what the kernel says of the disk, of reading the file and of swap."""
    name = {'virtio': 'vda', 'ide': 'hda'}[bus]
    found, said = {}, {}
    disk = ext2_disk()
    try:
        for what in ('files.read', 'files.ext2'):
            more, text = loft(what, f'mount={name}:/mnt', disks=[f'{bus}:{disk}'])
            found.update(more)
            said[what] = [line for line in text.splitlines() if f'disk: {name}: ' in line and ' reads, ' in line]
    finally:
        os.remove(disk)
    disk = swap_disk()
    try:
        more, text = loft('files.swap', f'swap={name}', disks=[f'{bus}:{disk}'], mem=SWAP_MEM)
        found.update(more)
        said['files.swap'] = [line for line in text.splitlines() if f'disk: {name}: ' in line and ' reads, ' in line]
    finally:
        os.remove(disk)
    return found, said


def modules(names):
    """The shell's lines that load modules of Debian's kernel, and the files that they need."""
    files = {}
    for folder, _, entries in os.walk(linux.MODULES):
        files.update({entry.removesuffix('.ko').replace('-', '_'): os.path.join(folder, entry) for entry in entries})
    missing = [name for name in names if name not in files]
    if missing:
        raise machine.Failed(f'{linux.MODULES} has no {", ".join(missing)}: run scripts/make-linux')
    return [f'/bin/busybox insmod /modules/{name}.ko' for name in names], {f'modules/{name}.ko': files[name] for name in names}


def linux_run(log, arguments, before, names=(), **how):
    load, files = modules(names)
    answers = linux.run(log, [(PROGRAM, arguments)], OPTIONS, before=load + list(before), files=files, timeout=900, **how)
    text, status = answers[0]
    found = lines.parse('\n'.join(text))
    if status != 0 or not found:
        raise machine.Failed(f'filecosts {arguments} ended with status {status}: see {machine.LOGS}/{log}.log')
    return found, text


BUSYBOX = '/bin/busybox'


def linux_tmpfs():
    return linux_run('bench-files-linux', 'paths tmpfs /t/costs', [f'{BUSYBOX} mkdir /t', f'{BUSYBOX} mount -t tmpfs none /t'])


def linux_disk(bus):
    device, found = DEVICE[bus], {}
    # /dev of the initramfs is empty, and a driver may find its disk later.
    wait = [f'{BUSYBOX} mkdir -p /dev /mnt', f'{BUSYBOX} mount -t devtmpfs none /dev',
            f'while [ ! -e /dev/{device} ]; do {BUSYBOX} sleep 1; done']
    disk = ext2_disk()
    try:
        for arguments in ('read ext2 /mnt/data', 'disk ext2 /mnt/costs'):
            more, _ = linux_run('bench-files-linux', arguments, wait + [f'{BUSYBOX} mount -t ext2 /dev/{device} /mnt'],
                                EXT2 + DRIVERS[bus], disks=[f'{bus}:{disk}'])
            found.update(more)
    finally:
        os.remove(disk)
    disk = swap_disk()
    try:
        more, _ = linux_run('bench-files-linux', f'swap swap {SWAP_MIB}', wait + [f'{BUSYBOX} swapon /dev/{device}'],
                            DRIVERS[bus], disks=[f'{bus}:{disk}'], mem=SWAP_MEM)
        found.update(more)
    finally:
        os.remove(disk)
    return found
