"""Runs one command of the program and says what is wrong with how it ended."""

import os
import re
import resource
import signal
import subprocess
import time
from dataclasses import dataclass, field

# What an input may cost. CPU time is on the machine that `calibrate` was measured on, otherwise scaled by it.
CPU_SECONDS = 2.0
# Nothing computed for so long: it waits for somebody who does not come. The other limit ends what computes now and then.
IDLE_SECONDS = 20.0
WALL_SECONDS = 300.0
MEMORY_BYTES = 300 << 20
ERROR_CHARACTERS = 300

# What keeps a runaway from taking the machine with it; whoever meets these has failed long before.
ADDRESS_SPACE = 24 << 30
FILE_BYTES = 8 << 30

# CPU seconds of `calibrate` where the limit of two seconds was set.
CALIBRATION_SECONDS = 0.125

# C0, DEL, C1, line and paragraph separators, and what turns the direction of text around.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ")


@dataclass
class Outcome:
    """How one command ended. `signal` is that which ended it, 0 when it ended by itself."""

    command: list
    status: int = 0
    signal: int = 0
    hung: bool = False
    cpu: float = 0.0
    wall: float = 0.0
    memory: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    faults: list = field(default_factory=list)


def limit_this_process():
    """Bounds this process and the commands that it starts."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def calibrate():
    """How much slower this machine is, as it is now, than the one that the limit of CPU time was set on; at least 1."""
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        total = 0
        for number in range(1_500_000):
            total = (total * 31 + number) & 0xFFFF_FFFF
        best = min(best, time.process_time() - start)
    return max(1.0, best / CALIBRATION_SECONDS)


def execute(command, *, folder, scale=1.0, until=None, stdin=None):
    """Runs `command` to its end. A server has none: when standard error holds `until`, it is told to stop (SIGTERM)."""
    out_path, err_path = os.path.join(folder, ".stdout"), os.path.join(folder, ".stderr")
    outcome = Outcome(command)
    forget_peak()
    start = time.monotonic()
    with open(out_path, "wb") as out, open(err_path, "wb") as err, open(stdin or os.devnull, "rb") as source:
        # The campaign's own variables must not stand in for flags.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GLIMMER_")}
        process = subprocess.Popen(command, stdin=source, stdout=out, stderr=err, env=environment, cwd=folder)
    cpu_limit = int(CPU_SECONDS * scale) + 8
    try:
        resource.prlimit(process.pid, resource.RLIMIT_CPU, (cpu_limit, cpu_limit + 2))
    except ProcessLookupError:
        pass
    pause, stopping, ticks, last = 0.0005, False, 0, start
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        now = time.monotonic()
        if now - last > 1.0 and (new := cpu_ticks(process.pid)) != ticks:
            ticks, last = new, now
        if until and not stopping and until in read(err_path):
            stopping = True
            process.send_signal(signal.SIGTERM)
        if (now - last > IDLE_SECONDS or now - start > WALL_SECONDS) and not outcome.hung:
            outcome.hung = True
            process.kill()
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)
    # Popen is told that its child was waited for.
    process.returncode = os.waitstatus_to_exitcode(status)
    outcome.wall = time.monotonic() - start
    outcome.status, outcome.signal = max(process.returncode, 0), max(-process.returncode, 0)
    outcome.cpu = usage.ru_utime + usage.ru_stime
    # At least what this process itself holds when it starts the command: the kernel counts that in.
    outcome.memory = usage.ru_maxrss * 1024
    outcome.stdout, outcome.stderr = read(out_path), read(err_path)
    return outcome


def forget_peak():
    """What this process once held, to make an input, is no command's memory."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def cpu_ticks(pid):
    """CPU time of a running process, in ticks of the kernel."""
    with open(f"/proc/{pid}/stat") as file:
        # The name, in parentheses, may hold anything.
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def read(path):
    with open(path, "rb") as file:
        return file.read(8 << 20)


def judge(outcome, *, input_bytes, scale=1.0, stdout_is_ours=False):
    """Adds to `outcome.faults` what the program may not do. `stdout_is_ours`: standard output holds no text from a model
    or a person, so that it may hold no control characters."""
    faults = outcome.faults
    stderr = outcome.stderr.decode("utf-8", "replace")
    if outcome.status == 101 or "panicked" in stderr:
        faults.append("panic")
    elif outcome.hung:
        faults.append("hang")
    elif outcome.signal == signal.SIGXCPU or outcome.cpu > CPU_SECONDS * scale:
        faults.append("time")
    elif outcome.signal:
        faults.append("crash")
    elif outcome.status not in (0, 1, 2):
        faults.append("status")
    if outcome.memory > MEMORY_BYTES + input_bytes:
        faults.append("memory")
    if "panic" in faults or outcome.signal:
        return
    lines = stderr.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    messages = [line for line in lines if not LOG_LINE.match(line)]
    errors = [line for line in messages if line.startswith("error: ")]
    strays = [line for line in messages if not line.startswith(("error: ", "warning: ", "note: "))]
    if CONTROLS.search(stderr) or "\t" in stderr:
        faults.append("control characters")
    if outcome.status and len(errors) != 1 or not outcome.status and errors or strays:
        faults.append("not one line")
    if any(len(line) >= ERROR_CHARACTERS for line in errors):
        faults.append("long error")
    if any(len(line) >= ERROR_CHARACTERS for line in messages if line not in errors):
        faults.append("long warning")
    if stdout_is_ours and CONTROLS.search(outcome.stdout.decode("utf-8", "replace")):
        faults.append("control characters on stdout")
