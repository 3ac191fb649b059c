"""Checks the text on the VGA screen, on machines without the device that ends QEMU: there the kernel halts. Reads video memory
by QEMU's monitor, from the start address of the CRT controller."""
import os
import re
import subprocess
import time

from .guest import DEFAULT_KERNEL
from .make import BUILD, LOGS
from .progress import Watch
from .result import Result, Test, kill, read_log, running

ELF = f'{BUILD}/{DEFAULT_KERNEL}/loft.elf'
COLUMNS, ROWS = 80, 25
TIMEOUT = 30

# name: (options of run-qemu, serial output that means that the text is complete, text that must be on the screen)
SCREENS = {
    'refused-by-mm': (['--mem', '8M'], 'or more', 'not enough memory'),
    'refused-by-boot': (['--mem', '64M', '--cpu', 'pentium2,-pae'], 'runs here', 'this CPU lacks PAE'),
    'panic': (['--mem', '64M', '--append', 'crash=null-deref'], 'local slots held', 'null pointer dereference: read of 00000000'),
    'done': (['--mem', '64M', '--append', 'selftest=off'], 'To leave QEMU', 'nothing is left to do'),
}


def ask(process, question, answer, count):
    """Sends `question` to the monitor and returns the first `count` matches of `answer` in its output."""
    process.stdin.write(question + '\n')
    process.stdin.flush()
    found = []
    while len(found) < count and (line := process.stdout.readline()):
        found += re.findall(answer, line)
    return found


def rows_shown(process):
    """The 25 rows on the screen, as text."""
    # Registers 0C and 0D of the CRT controller: the first displayed character.
    start = [int(ask(process, f'i /b 0x3d4.{register}', r'^portb\[0x03d5\] = (\w+)', 1)[0], 16)
             for register in ('0x0c', '0x0d')]
    address = 0xb8000 + 2 * (start[0] << 8 | start[1])
    lines = ask(process, f'xp /{COLUMNS * ROWS}hx {address:#x}', r'^[0-9a-f]{16}:(.*)$', COLUMNS * ROWS // 8)
    # A character and its colour make a half-word.
    text = ''.join(chr(int(cell, 16) & 0x7f) for cell in ' '.join(lines).split())
    return [text[row * COLUMNS:(row + 1) * COLUMNS].rstrip() for row in range(ROWS)]


def read_screen(name, where):
    options, complete, wanted = SCREENS[name]
    os.makedirs(LOGS, exist_ok=True)
    serial = f'{LOGS}/screen-{name}.serial.log'
    open(serial, 'w', encoding='utf-8').close()
    command = ['scripts/run-qemu', *where, *options, '--no-exit', '--serial', serial, ELF, '--', '-monitor', 'stdio']
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, start_new_session=True)
    running.add(process)
    result = Result(log=f'{LOGS}/screen-{name}.log')
    try:
        watch = Watch(process.pid, TIMEOUT)
        while complete not in read_log(serial) and process.poll() is None and not watch.hung():
            time.sleep(0.05)
        time.sleep(0.2)  # the rest of the line
        rows = rows_shown(process)
    finally:
        kill(process)
        running.discard(process)
    with open(result.log, 'w', encoding='utf-8') as file:
        file.write('\n'.join(rows) + '\n')
    result.check(complete in read_log(serial), f'the serial port did not print {complete!r}')
    # A long line continues in the next row, at any character.
    result.check(wanted.replace(' ', '') in ''.join(rows).replace(' ', ''), f'the screen does not show {wanted!r}')
    return result


def tests(where):
    return [Test(f'guest/screen-{name}', lambda name=name: read_screen(name, where), (ELF,)) for name in SCREENS]
