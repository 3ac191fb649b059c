"""Tests, their results, and running programs."""
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

from .progress import Hung, Watch, tree  # noqa: F401 (Hung is what run_program may return)


@dataclasses.dataclass
class Result:
    """Counts of cases, and the reasons of failures."""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    problems: list = dataclasses.field(default_factory=list)
    notes: list = dataclasses.field(default_factory=list)
    log: str = ''  # a file; its end is shown if something failed
    seconds: float = 0.0    # elapsed time
    processor: float = 0.0  # processor time of the programs

    def check(self, holds, problem):
        """Counts one scripted check."""
        if holds:
            self.passed += 1
        else:
            self.failed += 1
            self.problems.append(problem)
        return holds

    def fail(self, problem):
        self.check(False, problem)


@dataclasses.dataclass
class Test:
    name: str
    run: object          # () -> Result
    goals: tuple = ()    # make builds these first
    slow: int = 0        # tests with higher values start earlier
    last: bool = False   # needs files of the other tests
    processors: int = 1  # what it can keep busy
    named: bool = False  # takes long: runs only with --only


running = set()  # processes to end when the runner is interrupted
stopping = False
spent = threading.local()  # processor time of the programs that this thread has run: spent.seconds


def run_program(command, log, limit, env=None, append=False, processors=1, cwd=None, errors=subprocess.STDOUT):
    """Runs a program with its output in the file `log`. Returns its status. If it hangs (progress.py: `limit` seconds of processor
    time on each of `processors`), kills it and its descendants and returns a Hung."""
    os.makedirs(os.path.dirname(os.path.abspath(log)), exist_ok=True)
    with open(log, 'ab' if append else 'wb') as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, cwd=cwd,
                                   start_new_session=True, env={**os.environ, **(env or {})})
        running.add(process)
        if stopping:
            kill(process)
        try:
            return wait(process, Watch(process.pid, limit, processors))
        except KeyboardInterrupt:
            kill(process)
            raise
        finally:
            running.discard(process)


def run_captured(command, limit, **options):
    """As run_program; returns the status and the output."""
    with tempfile.TemporaryDirectory() as folder:
        status = run_program(command, f'{folder}/log', limit, **options)
        return status, read_log(f'{folder}/log')


def wait(process, watch):
    """The status of a process, or a Hung."""
    pause = 0.002
    while process.returncode is None:
        try:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        except ChildProcessError:  # kill() was faster
            break
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            spent.seconds = getattr(spent, 'seconds', 0.0) + usage.ru_utime + usage.ru_stime
            break
        if hung := watch.hung():
            kill(process)
            spent.seconds = getattr(spent, 'seconds', 0.0) + watch.used
            return hung
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    return process.returncode


def kill(process):
    """Kills a process and its descendants, in any session."""
    for pid in tree(process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.wait()


def kill_all():
    global stopping
    stopping = True  # a program that is just being started is killed by its thread
    for process in list(running):
        kill(process)


def read_log(path):
    """A log as text: serial lines end in CR LF, and a broken kernel may print anything."""
    with open(path, 'rb') as file:
        return file.read().decode('utf-8', 'replace').replace('\r\n', '\n')


def tail(path, lines=25):
    try:
        return read_log(path).splitlines()[-lines:]
    except OSError:
        return []


def timed(test):
    start, spent.seconds = time.monotonic(), 0.0
    try:
        result = test.run()
    except Exception as error:  # a mistake in the runner is a failure of that test, not of the run
        result = Result()
        result.fail(f'the runner failed: {error!r}')
    result.seconds, result.processor = time.monotonic() - start, spent.seconds
    return result


def main(function):
    """Runs a script's main; Ctrl-C or SIGTERM ends it and its child processes, without a traceback."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return function()
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # ignore further ones
        kill_all()
        print(f'{os.path.basename(sys.argv[0])}: interrupted', file=sys.stderr)
        sys.stderr.flush()
        os._exit(130)  # without waiting for threads
