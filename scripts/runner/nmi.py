"""NMIs from outside, by QEMU's command inject-nmi, which interrupts every CPU in any state, at random moments.

A processor keeps one NMI pending, so two that come close together are one to it: a CPU counts at most as many as were sent. What
is required is the least number that each CPU counts. QEMU answers a command when the NMI is pending on every CPU.
"""
import random
import re
import time

from . import guest
from .monitor import booted
from .result import Result, Test, read_log

SUITES = 'kmap_local,kmap_scale,pkmap,physical,smp,thread,user.hello*,user.fork*,user.thread_local*,user.threads*,vmap'
# Seconds between two NMIs, in the mean; the shortest and the longest are 0 and twice this.
MEAN, LONG_MEAN = 0.002, 0.0002
SEED = 7
COUNTED = re.compile(r'^\[.*\] cpu: CPU (\d+): (\d+) unexpected NMIs$', re.MULTILINE)
OWN_SUITES = {'nmi', 'nmi_stepping'}  # send NMIs themselves, which the same counters count

# name: keys of tests/guest/matrix.cfg, and the number of NMIs that each CPU has to count
MACHINES = {
    'nmi-button': ({'mem': '1G', 'smp': '4', 'append': f'selftest={SUITES} exit',
                    'expect': ''.join(f'\\] nmi: .*CPU {cpu}: \\d+ unexpected NMIs so far\n' for cpu in range(4))}, 500),
    'nmi-button-nopse': ({'mem': '1G', 'append': f'nopse selftest={SUITES} exit'}, 100),
    'nmi-button-while-nmis': ({'mem': '1G', 'smp': '2', 'append': f'selftest={",".join(sorted(OWN_SUITES))} exit'}, 100),
    'nmi-panics': ({'mem': '64M', 'append': 'nmi=panic selftest=full exit', 'status': '37',
                    'expect': '^panic: NMI: the board reports no reason'}, 0),
}
# All self-tests, again and again, until each CPU has counted the number that was asked for.
LONG = ('64g-highpte-smp-preempt', '64g-highpte-smp-preempt-debug')


def press(machine, where, generator, mean=MEAN):
    """Boots the machine, and sends NMIs from loft's first line to its end. Returns the status and the number of NMIs."""
    hung, sent = None, 0
    with booted(machine, where) as monitor:
        # Not before loft runs: firmware and loader would handle the NMI.
        while monitor.alive and not (hung := monitor.watch.hung()) and '] loft: ' not in read_log(machine.log()):
            time.sleep(0.01)
            monitor.execute('query-status')
        while not hung and monitor.execute('inject-nmi'):
            sent += 1
            time.sleep(generator.uniform(0, 2 * mean))
            hung = monitor.watch.hung()
        return monitor.status(hung), sent


def counted(text):
    return {int(cpu): int(number) for cpu, number in COUNTED.findall(text)}


def pressed(machine, where, least):
    """One boot."""
    status, sent = press(machine, where, random.Random(SEED))
    text = read_log(machine.log())
    result = guest.judge(machine, status, text)
    if least:
        counts = counted(text)
        result.notes.append(f'{sent} NMIs sent, seed {SEED}; counted by CPU: {counts}')
        for cpu in range(machine.processors()):
            result.check(counts.get(cpu, 0) >= least, f'CPU {cpu} counted {counts.get(cpu, 0)} NMIs, expected were {least}')
    return result


def add(total, result):
    total.passed += result.passed
    total.failed += result.failed
    total.skipped += result.skipped
    total.problems += result.problems
    total.log = result.log


def storm(kernel, where, least):
    """Boots until each CPU has counted `least` NMIs from outside; each boot has its own seed."""
    suites = ','.join(suite for suite in guest.self_tests() if suite not in OWN_SUITES)
    total, sums, sent, boots = Result(), {cpu: 0 for cpu in range(4)}, 0, 0
    while not total.failed and min(sums.values()) < least:
        boots += 1
        machine = guest.Machine(f'nmis-{kernel}', {
            'kernel': kernel, 'mem': '1G', 'smp': '4', 'append': f'selftest={suites} seed={boots} exit', 'timeout': '600',
            'forbid': '^panic\n^qemu-system-\\S+: warning'})
        status, more = press(machine, where, random.Random(boots), LONG_MEAN)
        text = read_log(machine.log())
        add(total, guest.judge(machine, status, text))
        counts = counted(text)
        sent += more
        for cpu in sums:
            total.check(0 < counts.get(cpu, 0) <= more,
                        f'CPU {cpu} counted {counts.get(cpu, 0)} NMIs in boot {boots}, {more} were sent')
            sums[cpu] += counts.get(cpu, 0)
        print(f'      nmis/{kernel}: boot {boots}: {more} NMIs sent; counted by CPU: {counts}', flush=True)
    total.notes.append(f'{sent} NMIs sent in {boots} boots, seeds 1 to {boots}; counted by CPU: {sums}')
    return total


def tests(where, wanted):
    """`wanted`: how many NMIs each CPU has to count in the long tests."""
    found = []
    for name, (keys, least) in MACHINES.items():
        machine = guest.Machine(name, {'timeout': '120', 'forbid': '^qemu-system-\\S+: warning', **keys})
        found.append(Test(f'guest/{name}', lambda machine=machine, least=least: pressed(machine, where, least),
                          machine.goals(), int(machine.timeout)))
    for kernel in LONG:
        found.append(Test(f'nmis/{kernel}', lambda kernel=kernel: storm(kernel, where, wanted),
                          guest.Machine(kernel, {'kernel': kernel}).goals(), named=True))
    return found
