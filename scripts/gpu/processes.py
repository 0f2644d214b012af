"""Run programs under a time limit, and log their output line by line as it comes."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIMED_OUT = 124  # exit status of a program that was killed at its limit, as with timeout(1)

_LOG_BYTES = 12 << 20  # per log, so that it can be copied from any machine
_GRACE_SECONDS = 5.0
_KEPT_LINES = 400  # of a program's output, for the caller
_LONGEST_LINE = 1 << 16  # in characters; the rest counts as another line
_DEATH_SECONDS = 10.0  # after SIGKILL; a driver may keep a process for longer, or forever
_running: set[subprocess.Popen[str]] = set()
_closed = threading.Event()  # set when the report ends; nothing is started after that


class Log:
    """A file to which several programs write whole lines, up to a limit."""

    def __init__(self, path: Path, limit: int = _LOG_BYTES) -> None:
        self.path = path
        self._left = limit - (path.stat().st_size if path.exists() else 0)
        self._lock = threading.Lock()

    def write(self, line: str) -> None:
        """Append a line at once, without the checkout's path in it."""
        data = (line.rstrip("\n").replace(str(ROOT), ".") + "\n").encode(errors="replace")
        with self._lock, contextlib.suppress(OSError):  # a full disk must not stop the reading of the program's output
            if self._left <= 0:
                return
            self._left -= len(data)
            if self._left <= 0:
                data = b"[the log is full: the rest is left out]\n"
            with self.path.open("ab", buffering=0) as file:
                file.write(data)


@dataclass(frozen=True)
class Ended:
    """How a program ended: its exit status (minus the signal's number, or TIMED_OUT) and its last lines."""

    status: int
    output: str
    seconds: float

    @property
    def last_line(self) -> str:
        """The last line that is not blank."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return lines[-1][:300] if lines else "no output"

    @property
    def tail(self) -> str:
        """The end of its output, on one line; of a Python program that crashed, where it was."""
        lines = [line.strip() for line in self.output.splitlines()]
        fatal = next((i for i, line in enumerate(lines) if line.startswith("Fatal Python error")), None)
        if fatal is None:
            return " / ".join(lines[-8:])[-1500:]
        current = next((i for i, line in enumerate(lines) if i > fatal and line.startswith("Current thread")), fatal)
        return " / ".join([lines[fatal], *lines[current + 1 : current + 7]])[:1500]

    @property
    def verdict(self) -> str:
        """How it ended, in words."""
        if self.status == TIMED_OUT:
            return f"was killed after {self.seconds:.0f} s"
        if self.status < 0:
            with contextlib.suppress(ValueError):
                return f"was ended by {signal.Signals(-self.status).name}"
        return f"ended with status {self.status}"


class EndingError(BaseException):
    """Raised in a stage whose programs are killed because the report ends: they have not crashed."""


def execute(
    command: Sequence[str | Path],
    log: Log,
    *,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    prefix: str = "",
    stop: Callable[[], bool] | None = None,
    interrupt: bool = False,
) -> Ended:
    """Run a program in the checkout until it ends, its time is over, or stop(), which is called often, returns True.

    interrupt: send SIGINT before SIGKILL, for tools such as ncu and compute-sanitizer that then print what they have.

    Raises: EndingError: the report ends, and the program with it.
    """
    words = [str(word) for word in command]
    log.write(f"{prefix}$ {' '.join(words)}")
    begin = time.monotonic()
    if _closed.is_set():
        raise EndingError
    try:
        process = subprocess.Popen(
            _with_our_death(words),
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0,  # not a new session, which could outlive this program
        )
    except OSError as error:
        log.write(f"{prefix}{error}")
        return Ended(127, str(error), 0.0)
    _running.add(process)
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    reader = threading.Thread(target=_read, args=(process, kept, log, prefix), daemon=True)
    reader.start()
    timed_out = False
    try:
        while process.poll() is None:
            timed_out = _closed.is_set() or time.monotonic() - begin > seconds or (stop is not None and stop())
            if timed_out:
                if interrupt and not _closed.is_set():
                    _interrupt(process)
                break
            time.sleep(0.05)
    finally:
        kill(process)  # and what it started
        reader.join(timeout=2)  # a daemon that it started may hold the pipe open
        _running.discard(process)
    if _closed.is_set():
        raise EndingError
    status = TIMED_OUT if timed_out or process.returncode is None else process.returncode
    ended = Ended(status, "\n".join(kept), time.monotonic() - begin)
    log.write(f"{prefix}[{ended.verdict}, {ended.seconds:.1f} s]")
    return ended


def _interrupt(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGINT)
        process.wait(_GRACE_SECONDS)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a program, its process group, and its descendants in other groups, such as ninja's compilers."""
    others = _descendants(process.pid) if process.returncode is None else []
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in others:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_DEATH_SECONDS)


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found[1:]


def close() -> None:
    """Kill every program that is running, and start no more."""
    _closed.set()
    for process in list(_running):
        kill(process)


def _with_our_death(words: list[str]) -> list[str]:
    """The command, wrapped so that it is killed when this process dies, where setpriv is installed."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--", *words] if setpriv else words


def _read(process: subprocess.Popen[str], kept: deque[str], log: Log, prefix: str) -> None:
    assert process.stdout is not None
    with process.stdout as output:
        for line in iter(functools.partial(output.readline, _LONGEST_LINE), ""):
            kept.append(line.rstrip("\n").replace(str(ROOT), "."))
            log.write(prefix + line)
