"""Shared by the programs that measure on a GPU: arguments, findings, the deadline, and the rehearsal."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from device_cases import Case

from ssd_fast import _backend

sys.path.append(str(Path(__file__).resolve().parents[1] / "scripts"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from gpu import findings as gpu_findings
from gpu.findings import Findings
from gpu.rehearsal import torch_cuda

from helpers.extensions import find_emulated, load_extension

DEADLINE = "SSD_FAST_DEADLINE"  # environment variable: seconds since the epoch
SECONDS_PER_CASE = 3.0  # no case begins with less time than this left


class PrintedFindings(Findings):
    """Findings of a program that was started by hand: one line of output each."""

    restarts = True  # a lost CUDA context ends the program; it can be started again by hand

    def __init__(self) -> None:
        super().__init__(Path("/dev/stdout"))

    def mine(self) -> list[dict[str, Any]]:
        return []


def find_findings() -> Findings:
    return gpu_findings.from_environment() if gpu_findings.FILE in os.environ else PrintedFindings()


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the option that all these programs share."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument(
        "--rehearse", action="store_true", help="run small cases on the emulated extension, without a GPU"
    )
    return found


def use_device(rehearse: bool) -> torch.device:
    """The GPU; in a rehearsal the CPU, with the emulated extension and stand-ins for torch.cuda.

    Raises: RuntimeError: the emulated extension is not built.
    """
    if not rehearse:
        return torch.device("cuda")
    path = find_emulated()
    if path is None:
        raise RuntimeError("a rehearsal needs the emulated extension: make build-tests")
    torch_cuda.install()
    _backend.C = torch_cuda.Recorded(load_extension(path))
    return torch.device("cpu")


def load_build(path: Path, rehearse: bool) -> Any:
    """Another build of the extension, or the installed one, which cannot be loaded twice."""
    installed: ModuleType = _backend._C
    is_installed = installed.__file__ is not None and path.samefile(installed.__file__)
    build = installed if is_installed else load_extension(path.resolve())
    return torch_cuda.Recorded(build) if rehearse else build


def measure_cases(cases: Iterable[Case], findings: Findings, measure: Callable[[Case, dict[str, Any]], None]) -> None:
    """Measure each case that has no finding yet; if the deadline is near, add one finding for the cases left."""
    deadline = float(os.environ.get(DEADLINE, "inf"))
    done = findings.done()
    for case in cases:
        if case.name in done:
            continue
        if time.time() > deadline - SECONDS_PER_CASE:
            text = f"the deadline is near: stopped before {case.name}"
            findings.add("skipped", gpu_findings.REST, text, late=True)
            return
        with findings.case(case.name) as values:
            measure(case, values)
