"""Runs programs on Debian's Linux 6.1 for i386, of which scripts/make-linux has unpacked the packages."""
import io
import os
import stat

from . import machine

FOLDER = f'{machine.BUILD}/linux'
LINUX, BUSYBOX, MODULES = (f'{FOLDER}/{name}' for name in ('vmlinuz', 'root/bin/busybox', 'root/lib/modules'))
MARK = 'linux-answers:'


class Archive:
    """A cpio archive of the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst of Linux)."""

    def __init__(self):
        self.out, self.number = io.BytesIO(), 0

    def _pad(self):
        self.out.write(b'\0' * (-self.out.tell() % 4))

    def add(self, name, mode, content=b''):
        self.number += 1
        links, encoded = 2 if stat.S_ISDIR(mode) else 1, name.encode() + b'\0'
        fields = [self.number, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(encoded), 0]
        self.out.write(b'070701' + b''.join(b'%08X' % field for field in fields) + encoded)
        self._pad()
        self.out.write(content)
        self._pad()

    def finish(self):
        self.add('TRAILER!!!', 0)
        return self.out.getvalue()


def initramfs(path, script, files):
    """An initramfs whose first process runs the lines of `script`. `files`: {path in it: path here}."""
    archive, folders = Archive(), {'bin', 'proc'}
    for name in files:
        parts = os.path.dirname(name).split('/')
        folders |= {'/'.join(parts[:i + 1]) for i in range(len(parts))} - {''}
    for folder in sorted(folders):
        archive.add(folder, stat.S_IFDIR | 0o755)
    for name, source in {'bin/busybox': BUSYBOX, **files}.items():
        with open(source, 'rb') as file:
            archive.add(name, stat.S_IFREG | 0o755, file.read())
    script = ['#!/bin/busybox sh', '/bin/busybox mount -t proc proc /proc', '/bin/busybox stty -F /dev/console -onlcr',
              *script, '/bin/busybox poweroff -f']
    archive.add('init', stat.S_IFREG | 0o755, '\n'.join(script).encode() + b'\n')
    with open(path, 'wb') as file:
        file.write(archive.finish())


def run(log, runs, options, before=(), files=(), **how):
    """Runs programs one after the other, as root, in the same boot, after the shell's lines `before`. `runs`: (file here, its
    arguments). For each: its lines and its status. `files`: more files of the initramfs; `how`: of machine.boot."""
    for needed in (LINUX, BUSYBOX):
        if not os.path.exists(needed):
            raise machine.Failed(f'there is no {needed}: run scripts/make-linux')
    script, files = list(before), dict(files)
    for number, (path, arguments) in enumerate(runs):
        name = f'programs/{number}/{os.path.basename(path)}'
        files[name] = path
        script += [f'echo "{MARK} {number}"', f'/{name} {arguments}', f'echo "{MARK} status $?"']
    path = f'{FOLDER}/{log}-initramfs'
    initramfs(path, script, files)
    text = machine.boot(log, LINUX, options, ['--accel', 'tcg'], initrd=path, **how)
    found, lines = [], None
    for line in text.replace('\r', '').split('\n'):
        if line.startswith(f'{MARK} status '):
            found.append((lines, int(line.split()[-1])))
            lines = None
        elif line.startswith(MARK):
            lines = []
        elif lines is not None:
            lines.append(line)
    if len(found) != len(runs):
        raise machine.Failed(f'only {len(found)} of {len(runs)} programs have ended: see {machine.LOGS}/{log}.log')
    return found
