"""What a test is to the runner, and what comes out of it."""
import dataclasses
import os
import signal
import subprocess
import time


@dataclasses.dataclass
class Result:
    """Counts of cases, and why those that failed did."""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    problems: list = dataclasses.field(default_factory=list)
    notes: list = dataclasses.field(default_factory=list)
    log: str = ''  # a file whose end is shown if something failed
    seconds: float = 0.0

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
    goals: tuple = ()    # what make has to build first
    slow: int = 0        # slower ones are started earlier
    last: bool = False   # needs what the others have left
    named: bool = False  # takes long: only when --only names it


running = set()  # processes to end when the runner is interrupted
stopping = False


def run_program(command, log, timeout, env=None, append=False):
    """Runs a program with its output in the file `log`. Returns its status, or None if it was still running after
    `timeout` seconds: then it, and all it started, has been killed."""
    os.makedirs(os.path.dirname(log), exist_ok=True)
    with open(log, 'ab' if append else 'wb') as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                   start_new_session=True, env={**os.environ, **(env or {})})
        running.add(process)
        if stopping:
            kill(process)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            kill(process)
            return None
        except KeyboardInterrupt:
            kill(process)
            raise
        finally:
            running.discard(process)


def kill(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def kill_all():
    global stopping
    stopping = True  # what is being started at this moment ends itself
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
    start = time.monotonic()
    try:
        result = test.run()
    except Exception as error:  # a mistake in the runner is a failure of that test, not of the run
        result = Result()
        result.fail(f'the runner failed: {error!r}')
    result.seconds = time.monotonic() - start
    return result
