#!/usr/bin/env python3
"""Stand in for cmake, nvcc, ncu, compute-sanitizer or nvidia-smi, whichever name it is called by.

The JSON object in SSD_FAST_STAND_INS makes tools misbehave, such as {"ncu": "hang"}. Any tool can "hang", "crash" or
"fail" (a message and exit status 1); compute-sanitizer can find "errors" or print "not_supported", and ncu can print
"unknown_metric".
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RECORDED = HERE / "recorded"
PREBUILT = HERE.parents[2] / "build" / "tests"  # the emulated extension and runners

GPU = {
    "name": "NVIDIA H100 80GB HBM3",
    "driver_version": "580.159.04",
    "compute_cap": "9.0",
    "pstate": "P0",
    "clocks.sm": "1980",
    "clocks.mem": "2619",
    "clocks.max.sm": "1980",
    "clocks.max.mem": "2619",
    "temperature.gpu": "31",
    "power.draw": "69.70",
    "power.limit": "700.00",
    "utilization.gpu": "0",
    "memory.used": "4",
    "clocks_event_reasons.active": "0x0000000000000001",
}


def main() -> int:
    tool, words = Path(sys.argv[0]).name, sys.argv[1:]
    asks_version = "--version" in words
    mode = json.loads(os.environ.get("SSD_FAST_STAND_INS", "{}")).get(tool, "ok")
    if mode == "hang" and not asks_version:
        time.sleep(10_000)
    if mode == "crash" and not asks_version:
        os.kill(os.getpid(), signal.SIGSEGV)
    if mode == "fail":
        print(f"{tool}: a planted failure", file=sys.stderr)
        return 1
    if asks_version:
        print(f"{tool} of the rehearsal, version 13.0")
        return 0
    return {"cmake": cmake, "ncu": ncu, "compute-sanitizer": sanitizer, "nvidia-smi": nvidia_smi}[tool](words, mode)


def cmake(words: list[str], mode: str) -> int:
    """Check the options of a build, and "compile" by linking what was built for the emulator."""
    if "--install" in words:
        return 0 if Path(words[words.index("--install") + 1]).is_dir() else 1
    if "--build" in words:
        folder = Path(words[words.index("--build") + 1])
        if not (folder / "CMakeCache.txt").exists():
            print(f"Error: {folder} is not a directory with a CMakeCache.txt")
            return 1
        targets = words[words.index("--target") + 1 :]
        if "_C" in targets:
            for extension in PREBUILT.glob("_C_emulated*.so"):
                link(extension, folder / extension.name)
        if "cuda_runners" in targets:
            for runner in PREBUILT.glob("runners/*_plain"):
                link(runner, folder / "runners" / runner.name.replace("_plain", "_cuda"))
        print("[1/1] Linking what was built before")
        return 0
    folder = Path(words[words.index("-B") + 1])
    if not {"-DSSD_FAST_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=90"} <= set(words):
        print(f"CMake Error: the rehearsal expects a build for CUDA and for this GPU, got {words}")
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "CMakeCache.txt").touch()
    print("-- Configuring done")
    return 0


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(source)


def ncu(words: list[str], mode: str) -> int:
    """Run the program that would be profiled, and print a recorded profile."""
    if mode == "unknown_metric" and "smsp__inst_executed.sum" in words[words.index("--metrics") + 1]:
        print((RECORDED / "ncu_unknown_metric.txt").read_text(), end="")
        return 9
    program = words[words.index(next(word for word in words if "python" in Path(word).name)) :]
    status = subprocess.run(program, check=False).returncode
    print((RECORDED / "ncu_ok.txt").read_text(), end="")
    return status


def sanitizer(words: list[str], mode: str) -> int:
    """Print a recorded run: without errors, with errors, or refused by the tool."""
    tool = next(word.partition("=")[2] for word in words if word.startswith("--tool="))
    print((RECORDED / f"{tool}_{'clean' if mode == 'ok' else mode}.txt").read_text(), end="")
    return 0 if mode == "ok" else 9


def nvidia_smi(words: list[str], mode: str) -> int:
    fields = next(word.partition("=")[2] for word in words if word.startswith("--query-gpu=")).split(",")
    print(", ".join(GPU[field] for field in fields))
    return 0


if __name__ == "__main__":
    sys.exit(main())
