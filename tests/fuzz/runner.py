"""Runs calls in a forked process that may crash or hang: the next process continues after the call that ended it."""

from __future__ import annotations

import dataclasses
import faulthandler
import multiprocessing
import os
import re
import resource
import signal
import sys
import tempfile
from collections.abc import Container, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from helpers.backends import emulated_extension
from helpers.extensions import load_extension
from ssd_fast import _backend

from .calls import describe
from .draw import draw
from .judge import Backends, Verdict, judge

_CALLS_A_PROCESS = 20_000
_MEMORY = 3 * 2**29  # the most that a process may take beyond its memory at the start
# A sanitizer's message on where and why it stopped the process, or Python's on an error of the fuzzer itself.
_REPORT = r"(?<=/)csrc/\S+ runtime error: .*|SUMMARY: .*|^\w+(?:Error|Exception)\b.*"
_FORK = multiprocessing.get_context("fork")


@dataclasses.dataclass
class Result:
    """The result of one call; only findings have oddities and arguments."""

    number: int
    op: str
    verdict: Verdict
    oddities: list[str] = dataclasses.field(default_factory=list)
    arguments: dict[str, str] = dataclasses.field(default_factory=dict)


def backends(name: str, extension: Path | None = None) -> Backends:
    """Return the backends for "cpu" or "emulated"; extension: a file to try instead of the built one."""
    tried = plain = _backend.C
    if name == "emulated":
        tried = load_extension(extension) if extension else emulated_extension()
    elif extension:
        tried = plain = load_extension(extension)
    return Backends(tried, plain)


def run_here(seed: int, numbers: range, chosen: Backends, left_out: Container[int] = ()) -> Iterator[Result]:
    """Yield the results of calls made in this process."""
    for number in numbers:
        call, _ = draw(seed, number, left_out)
        verdict = judge(call, number, chosen)
        result = Result(number, call.op, verdict)
        if verdict.outcome == "finding":
            result.oddities, result.arguments = call.oddities, describe(call.arguments)
        yield result


def run(
    seed: int, numbers: range, chosen: Backends, timeout: float = 60.0, left_out: Container[int] = ()
) -> Iterator[Result]:
    """Yield the results of calls made in other processes, one at a time. A call may take `timeout` seconds."""
    first = numbers.start
    while first < numbers.stop:
        share = range(first, min(first + _CALLS_A_PROCESS, numbers.stop))
        with tempfile.TemporaryFile() as log:
            receiver, sender = _FORK.Pipe(duplex=False)
            process = _FORK.Process(target=_work, args=(sender, log.fileno(), seed, share, chosen, left_out))
            process.start()
            sender.close()
            end = ""
            try:
                while first < share.stop:
                    if not receiver.poll(timeout):
                        end = "hang"
                        break
                    yield receiver.recv()
                    first += 1
            except EOFError:
                end = "crash"
            if end:
                process.kill()
            process.join()
            receiver.close()
            if end:
                yield _ended(seed, first, left_out, end, process.exitcode, log)
                first += 1


def _work(sender: Connection, log: int, seed: int, numbers: range, chosen: Backends, left_out: Container[int]) -> None:
    faulthandler.disable()  # the parent reports a crash
    os.dup2(log, sys.stderr.fileno())
    torch.set_num_threads(1)
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):  # ASan maps terabytes
        most = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for result in run_here(seed, numbers, chosen, left_out):
        sender.send(result)
    sender.close()


def _ended(seed: int, number: int, left_out: Container[int], end: str, exit_code: int | None, log: Any) -> Result:
    call, _ = draw(seed, number, left_out)
    log.seek(0)
    said = log.read().decode(errors="replace")
    reports = re.findall(_REPORT, said, re.MULTILINE)
    code = exit_code or 0
    name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    text = "no answer" if end == "hang" else reports[0] if reports else name
    return Result(number, call.op, Verdict("finding", end, text), call.oddities, describe(call.arguments))


def minimized(seed: int, result: Result, chosen: Backends, timeout: float) -> Result:
    """Return the same kind of finding in the same call with as few oddities as possible."""
    left_out: set[int] = set()
    numbers = range(result.number, result.number + 1)
    for part in range(draw(seed, result.number)[1]):
        smaller = next(run(seed, numbers, chosen, timeout, left_out | {part}))
        if smaller.verdict[:2] == result.verdict[:2]:
            left_out.add(part)
            result = smaller
    return result
