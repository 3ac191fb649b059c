"""Boots each processor model of QEMU with 4 GiB: loft either runs and accounts for all memory, or refuses with a reason."""
import os
import re
import subprocess

from . import guest
from .result import Test, read_log, run_program

SUITES = 'layout,zones,fixmap,physical,pkmap,user.hello,user.floating*,user.programs*'
REFUSAL = re.compile(r'^loft: cannot start: this CPU (lacks \w|has no CPUID)', re.MULTILINE)
# `host` is the host's processor, for KVM.
NO_MODEL = {'host'}


def models(program):
    """The names that `-cpu help` lists."""
    try:
        text = subprocess.run([program, '-cpu', 'help'], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    listed = text.split('Recognized')[0]
    return [name for name in re.findall(r'^(?:x86)? +(\S+)', listed, re.MULTILINE) if name not in NO_MODEL]


def boot(machine, where):
    os.makedirs(guest.LOGS, exist_ok=True)
    status = run_program(guest.boot_command(machine, where), machine.log(), machine.timeout)
    text = read_log(machine.log())
    if status == 39:
        machine.status, machine.ktap, machine.memory = 39, False, 'no'
    result = guest.judge(machine, status, text)
    if status == 39:
        result.check(REFUSAL.search(text), 'the refusal does not name the missing feature')
    return result


def tests(where, program='qemu-system-i386'):
    found = []
    for model in models(program):
        machine = guest.Machine(f'cpu-{model}', {'mem': '4G', 'cpu': model, 'program': program,
                                                 'append': f'selftest={SUITES} exit'})
        found.append(Test(f'cpus/{model}', lambda machine=machine: boot(machine, where), machine.goals(),
                          int(machine.timeout), named=True))
    return found
