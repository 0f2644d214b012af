"""How the time and memory of nms on the CPU grow with the number of boxes, as a Markdown table.

    python bench/nms_growth.py [--sizes 10000 100000 1000000]

The exponent is the slope of log(time) over log(n): 1 if twice as many boxes take twice as long. Times are the shortest
of a few calls. Memory is what the first call of a process adds to its resident memory, at its peak (on Linux).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import workloads
import workloads_nms
from torch import Tensor

import ssd_fast

IOU = 0.5
DEFAULT_SIZES = (10_000, 31_623, 100_000, 316_228, 1_000_000)
KINDS: dict[str, Callable[[int], Tensor]] = {
    "uniform": workloads_nms.evenly_dense_boxes,
    "the same under a giant box": workloads_nms.boxes_under_giant,
    "clustered": workloads_nms.evenly_clustered_boxes,
    "disjoint": workloads_nms.disjoint_boxes,
    "staircase, best first": workloads.staircase_boxes,
    "log-sized": workloads_nms.log_sized_boxes,
    "uniform, on 1000 px": workloads.uniform_boxes,
    "clustered, on 1000 px": workloads.clustered_boxes,
    "stacked": workloads.stacked_boxes,
}


def inputs(kind: str, n: int) -> tuple[Tensor, Tensor]:
    scores = workloads.distinct_scores(n)
    return KINDS[kind](n), scores.sort(descending=True).values if "best first" in kind else scores


def seconds(kind: str, n: int) -> float:
    boxes, scores = inputs(kind, n)
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 0.5 and len(times) < 200):
        begin = time.perf_counter()
        ssd_fast.nms(boxes, scores, IOU)
        times.append(time.perf_counter() - begin)
    return min(times)


def peak_bytes_per_box(kind: str, n: int) -> float:
    boxes, scores = inputs(kind, n)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
    before = peak_resident_bytes()
    ssd_fast.nms(boxes, scores, IOU)
    return (peak_resident_bytes() - before) / n


def peak_resident_bytes() -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def row(kind: str, sizes: list[int]) -> str:
    times = [seconds(kind, n) for n in sizes]
    exponent = np.polyfit(np.log(sizes), np.log(times), 1)[0]
    command = [sys.executable, __file__, "--memory-of", kind, "--sizes", str(sizes[-1])]
    memory = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    cells = [kind, *(f"{1e9 * t / n:.0f}" for t, n in zip(times, sizes, strict=True)), f"{exponent:.2f}"]
    return f"| {' | '.join(cells)} | {memory:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(DEFAULT_SIZES))
    parser.add_argument("--memory-of", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    if arguments.memory_of:
        print(peak_bytes_per_box(arguments.memory_of, arguments.sizes[-1]))
        return
    sizes = arguments.sizes
    print(f"| boxes | {' | '.join(f'{n:,}: ns per box' for n in sizes)} | exponent | peak bytes per box |")
    print("| --- |" + " --- |" * (len(sizes) + 2))
    for kind in KINDS:
        print(row(kind, sizes), flush=True)


if __name__ == "__main__":
    main()
