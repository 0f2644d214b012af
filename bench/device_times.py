"""Time every case on a GPU, the most informative first, without rivals: one finding per case.

    python bench/device_times.py [--only PART ...] [--rehearse]

Values, in microseconds per call: graph_us, in a replayed graph of ten calls; cold_us, in a graph that rotates copies of
the inputs past the cache; eager_us, called from Python; kernels, each kernel by the profiler; limit_us, the inputs and
outputs at the speed of a copy. If restarted with the same file of findings, it continues where it stopped.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Any

import device_program
import torch
from device_cases import Case, chosen
from device_program import Findings
from device_timing import measure, profile_kernels
from timing import copied_per_second, time_events

BANDWIDTH = "copy bandwidth"  # the name of the case, and below that of its value
SPEED = "bytes_a_second"  # the key in findings, also in those of earlier reports


def find_bandwidth(findings: Findings, device: torch.device, size: int) -> float | None:
    """Bytes per second of a copy of this size, measured now or by an earlier run; None if that failed."""
    if BANDWIDTH not in findings.done():
        with findings.case(BANDWIDTH) as values:
            values[SPEED] = copied_per_second(size, device, time_events)
            with contextlib.suppress(RuntimeError):  # the first use starts the profiler, and may miss kernels
                profile_kernels(lambda: torch.zeros(1, device=device), 1)
            return float(values[SPEED])
    return next((float(found[SPEED]) for found in findings.mine() if SPEED in found), None)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = device_program.parser(__doc__)
    parser.add_argument("--only", nargs="+", default=[], help="only cases of these names, or with these in their names")
    options = parser.parse_args(arguments)
    device = device_program.use_device(options.rehearse)
    findings = device_program.find_findings()
    bandwidth = find_bandwidth(findings, device, 1 << 16 if options.rehearse else 1 << 30)
    seconds = 0.01 if options.rehearse else 0.25

    def measure_case(case: Case, values: dict[str, Any]) -> None:
        measure(case.prepare(device, small=options.rehearse), device, bandwidth, seconds, values)
        if "graph_error" in values:  # every case can be captured; other errors are notes beside the times
            raise RuntimeError(f"not captured: {values['graph_error']}")

    device_program.measure_cases(chosen(options.only), findings, measure_case)
    return 0


if __name__ == "__main__":
    sys.exit(main())
