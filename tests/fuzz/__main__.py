"""`PYTHONPATH=tests python -m fuzz`: exit status 0 without findings, 1 with findings, 2 for wrong use."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from .report import Report
from .runner import backends, minimized, run

_MOST_MINIMIZED = 40


def main() -> int:
    parser = argparse.ArgumentParser("fuzz", description="Random calls of the ops, valid and broken ones.")
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="K", help="run only call number K")
    parser.add_argument("--first", type=int, default=0, metavar="K", help="number of the first call")
    parser.add_argument("--backend", choices=("cpu", "emulated"), default="cpu")
    parser.add_argument("--extension", type=Path, metavar="FILE", help="a build of the extension to try instead")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="time limit of a call")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report here, too")
    options = parser.parse_args()

    torch.set_num_threads(1)
    chosen = backends(options.backend, options.extension)
    first = options.first if options.only is None else options.only
    numbers = range(first, first + (options.calls if options.only is None else 1))
    report = Report()
    for result in run(options.seed, numbers, chosen, options.timeout):
        report.add(result)
        if result.number % 10_000 == 9_999:
            print(f"{result.number + 1} calls, {report.findings} findings", file=sys.stderr)
    for group in report.ranked()[:_MOST_MINIMIZED]:
        group.example = minimized(options.seed, group.example, chosen, options.timeout)
    print(report.table())
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), indent=1))
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
