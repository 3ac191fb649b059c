"""Checks the serial output for a sleeping reader, against the output on port 0xE9, which never waits."""
import fcntl
import os
import re
import subprocess
import time

from .guest import DEFAULT_KERNEL
from .make import BUILD, LOGS
from .result import Result, Test, kill, read_log, running

ELF = f'{BUILD}/{DEFAULT_KERNEL}/loft.elf'
SMALLEST_PIPE = 4096
TIMEOUT = 120
LOST = re.compile(rb'\r\n\[serial: (\d+) bytes are lost here: [^\n]*\]\r\n')


def boot(name, where, sleep):
    """Boots with a pipe of the smallest size, and reads it only after sleep(path of port 0xE9's output) has returned. Returns the
    status, the serial output, and the output on port 0xE9."""
    os.makedirs(LOGS, exist_ok=True)
    said = f'{LOGS}/{name}.e9'
    open(said, 'w', encoding='utf-8').close()
    command = ['scripts/run-qemu', *where, '--mem', '64M', '--append', 'selftest=layout,buddy,fixmap exit', '--debugcon', said,
               '--timeout', str(TIMEOUT), ELF]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
    running.add(process)
    try:
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
        sleep(said)
        text = process.stdout.read()
        status = process.wait()
    finally:
        kill(process)
        running.discard(process)
    with open(f'{LOGS}/{name}.log', 'wb') as file:
        file.write(text)
    return status, text, read_log(said).replace('\n', '\r\n').encode()


def sleeping_reader(where):
    result = Result(log=f'{LOGS}/serial-sleeping-reader.log')
    status, text, said = boot('serial-sleeping-reader', where, lambda _: time.sleep(3))
    result.check(status == 33, f'the status is {status}, not 33')
    result.check(len(said) > SMALLEST_PIPE + 1024, f'only {len(said)} bytes were printed: the pipe was never full')
    result.check(text == said, f'{len(text)} bytes arrived, {len(said)} were printed')
    return result


def absent_reader(where):
    """Without a reader until the kernel has ended: it must end nevertheless, and report the number of lost bytes."""
    def until_the_end(path):
        limit = time.monotonic() + TIMEOUT
        while not re.search(r'^# \d+ passed', read_log(path), re.MULTILINE) and time.monotonic() < limit:
            time.sleep(0.2)

    result = Result(log=f'{LOGS}/serial-absent-reader.log')
    status, text, said = boot('serial-absent-reader', where, until_the_end)
    result.check(status == 33, f'the status is {status}, not 33')
    parts = LOST.split(text)
    received, lost = parts[0::2], sum(int(number) for number in parts[1::2])
    result.check(len(parts) > 1 and lost > 0, 'the log does not report lost bytes')
    result.check(sum(map(len, received)) + lost == len(said),
                 f'{sum(map(len, received))} bytes arrived and {lost} were lost, {len(said)} were printed')
    result.check(said.startswith(received[0]), 'the output before the loss differs from that on port 0xE9')
    result.check(said.endswith(received[-1]), 'the output after the loss differs from that on port 0xE9')
    return result


def refusal(where):
    """A refusal before C++, with a full pipe that the reader has not emptied yet."""
    log = f'{LOGS}/serial-refusal.log'
    result = Result(log=log)
    os.makedirs(LOGS, exist_ok=True)
    reader, writer = os.pipe()
    before = b'-' * fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
    os.write(writer, before)
    command = ['scripts/run-qemu', *where, '--mem', '64M', '--cpu', 'pentium2,-pae', '--timeout', str(TIMEOUT), ELF]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writer, start_new_session=True)
    running.add(process)
    try:
        os.close(writer)
        time.sleep(2)
        with open(reader, 'rb') as pipe:
            text = pipe.read()
        status = process.wait()
    finally:
        kill(process)
        running.discard(process)
    with open(log, 'wb') as file:
        file.write(text)
    result.check(status == 39, f'the status is {status}, not 39')
    result.check(text.startswith(before), 'the earlier contents of the pipe are missing')
    result.check(re.fullmatch(rb'loft: cannot start: .*\. *\r\n', text[len(before):], re.DOTALL),
                 f'the refusal that arrived is {text[len(before):]}')
    return result


def tests(where):
    return [Test('guest/serial-sleeping-reader', lambda: sleeping_reader(where), (ELF,)),
            Test('guest/serial-absent-reader', lambda: absent_reader(where), (ELF,), TIMEOUT),
            Test('guest/serial-refusal', lambda: refusal(where), (ELF,), TIMEOUT)]
