"""External NMIs, by the command `nmi` of QEMU's monitor, which interrupts every CPU in any state."""
import os
import subprocess
import time

from . import guest
from .progress import Watch
from .result import Test, kill, read_log, running

SUITES = 'kmap_local,kmap_scale,pkmap,physical,smp,thread,user.hello*,user.fork*,user.thread_local*,user.threads*,vmap'
BETWEEN = 0.01  # seconds

# name: keys of tests/guest/matrix.cfg
MACHINES = {
    'nmi-button': {'mem': '1G', 'smp': '2', 'append': f'selftest={SUITES} exit',
                   'expect': '\\] nmi: .*CPU 0: \\d+ unexpected NMIs so far\n'
                             '\\] nmi: .*CPU 1: \\d+ unexpected NMIs so far\n'
                             '\\] cpu: CPU 0: \\d\\d+ unexpected NMIs'},
    'nmi-button-nopse': {'mem': '1G', 'append': f'nopse selftest={SUITES} exit',
                         'expect': '\\] cpu: CPU 0: \\d\\d+ unexpected NMIs'},
    'nmi-panics': {'mem': '64M', 'append': 'nmi=panic selftest=full exit', 'status': '37',
                   'expect': '^panic: NMI: the board reports no reason'},
}


def press(machine, where):
    os.makedirs(guest.LOGS, exist_ok=True)
    open(machine.log(), 'w', encoding='utf-8').close()
    command = guest.boot_command(machine, where)
    at = command.index(machine.elf)
    command = command[:at] + ['--serial', machine.log(), machine.elf, '--', '-monitor', 'stdio']
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
                               text=True, start_new_session=True)
    running.add(process)
    watch, hung = Watch(process.pid, machine.timeout, machine.processors()), None
    try:
        # Not before loft has loaded its IDT: firmware and loader would handle the NMI.
        while process.poll() is None and not (hung := watch.hung()):
            if '] timer: ' in read_log(machine.log()):
                process.stdin.write('nmi\n')
                process.stdin.flush()
            time.sleep(BETWEEN)
        status = hung or process.returncode
    except BrokenPipeError:
        status = process.wait(5)  # it has just ended
    finally:
        kill(process)
        running.discard(process)
    return guest.judge(machine, status, read_log(machine.log()))


def tests(where):
    found = []
    for name, keys in MACHINES.items():
        machine = guest.Machine(name, {'timeout': '120', 'forbid': '^qemu-system-\\S+: warning', **keys})
        found.append(Test(f'guest/{name}', lambda machine=machine: press(machine, where), machine.goals(),
                          int(machine.timeout)))
    return found
