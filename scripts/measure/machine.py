"""Boots a kernel in QEMU and returns its output."""
import json
import os
import resource
import subprocess
import sys
import time

from runner import result, verdict
from runner.make import BUILD, LOGS
from runner.result import Hung, read_log, run_program

from . import lines

MEM = '2G'  # a gigabyte of high memory, for both kernels


# make's variables are in the environment; run-qemu would use them as options.
NO_OPTIONS = dict.fromkeys(('MEM', 'SMP', 'APPEND', 'ACCEL', 'QEMU', 'CPU', 'ICOUNT', 'ISO', 'DISK', 'DISK_BUS'), '')


class Failed(Exception):
    """A kernel could not be measured; the text is the reason."""


def boot(log, kernel, append, where, mem=MEM, timeout=300, initrd=None, smp='1', icount='0',
         modules=(), disks=()):
    """The log of a boot. `where`: run-qemu's options for accelerator and program; `initrd`: of Linux, `modules`: of loft;
    `disks`: as run-qemu's --disk."""
    command = ['scripts/run-qemu', '--mem', mem, '--smp', smp, '--append', append, *where]
    if icount != 'off':
        command += ['--icount', icount]
    if initrd:
        command += ['--module', initrd]  # Linux finds its initramfs where multiboot modules are
    for option, values in (('--module', modules), ('--disk', disks)):
        for value in values:
            command += [option, value]
    path = f'{LOGS}/{log}.log'
    status = run_program([*command, kernel], path, timeout, env=NO_OPTIONS, processors=int(smp))
    if isinstance(status, Hung):
        raise Failed(f'{kernel} hangs: {status}; see {path}')
    text = read_log(path)
    # loft ends QEMU with 33, Linux switches the machine off.
    good, sentences = (status == 0, [verdict.STATUS.get(status, f'QEMU ended with status {status}')]) if initrd else \
        verdict.judge(status, text, wants_exit=True)
    if status == 2:  # run-qemu has printed the reason
        raise Failed(text.strip().splitlines()[-1])
    if not good:
        raise Failed(f'{kernel}: {"; ".join(sentences)}; see {path}')
    return text


def loft(log, kernel, what, where, selftest='off', words='', **machine):
    """The lines of loft's benchmark, and its whole log. `words`: more of the kernel's options."""
    text = boot(log, kernel, ' '.join(filter(None, (f'selftest={selftest} bench={what}', words, 'exit'))), where, **machine)
    found = lines.parse(text)
    if not found:
        raise Failed(f'{kernel} has measured nothing: see {LOGS}/{log}.log')
    return found, text


def unit(where, icount):
    """The unit of a tick."""
    if icount == '0':
        return 'instructions'
    return f'instructions, each {2 ** int(icount)} ticks' if icount != 'off' else \
        f'ticks of the TSC ({" ".join(where[1:2])}, not repeatable)'


class Share:
    """The share of a processor that the emulators had that were started and have ended since. If it is below one whole processor,
    measured times are wrong, because ticks continue while an emulator waits."""
    ENOUGH = 0.85  # a booting guest is sometimes idle

    def __init__(self):
        self.begin = self._times()

    @staticmethod
    def _times():
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime, time.monotonic()

    def get(self):
        used, now = self._times()
        return (used - self.begin[0]) / (now - self.begin[1])

    def say(self):
        if self.get() < self.ENOUGH:
            print(f'This machine was busy: the emulator had {100 * self.get():.0f} % of a processor. Times, and their ratios, '
                  'are not reliable.\n', flush=True)


def qemu_version(where, mem=MEM):
    command = subprocess.run(['scripts/run-qemu', '--print', '--mem', mem, *where, 'kernel'], capture_output=True,
                             text=True, check=True, env={**os.environ, **NO_OPTIONS}).stdout.split()
    version = subprocess.run([command[0], '--version'], capture_output=True, text=True, check=True).stdout
    return version.splitlines()[0]


def write_json(path, content):
    with open(path, 'w', encoding='utf-8') as file:
        json.dump(content, file, indent=1)
        file.write('\n')
    print(f'written to {path}', flush=True)


def add_arguments(parser):
    parser.add_argument('--accel', default='tcg', help="QEMU's accelerator (tcg)")
    parser.add_argument('--qemu', default='', help='QEMU program instead of the default for the memory size')


def where(chosen):
    return ['--accel', chosen.accel] + (['--qemu', chosen.qemu] if chosen.qemu else [])


def main(function):
    """Runs a script's main; when it ends, for any reason, the QEMU that it has started is ended, too."""
    def unless_failed():
        try:
            return function()
        except Failed as failure:
            print(f'{os.path.basename(sys.argv[0])}: {failure}', file=sys.stderr)
            return 1

    return result.main(unless_failed)
