"""Rehearse gpu_report.py without a GPU: every stage, every tool misbehaving, and kills at several moments.

    python scripts/gpu_rehearsal.py OUT [--short]        (or: make gpu-rehearsal)

The emulated builds (make build-tests) stand in for nvcc's, scripts/gpu/rehearsal/stand_in.py for the tools. It is known
what each rehearsal must find, so this is a test: exit status 1 means that a report found something else.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

from gpu.rehearsal.rehearsals import RehearsalError, rehearsals

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the reports")
    parser.add_argument(
        "--short", action="store_true", help="leave out the misbehaving tools and most kills, as CI does"
    )
    options = parser.parse_args()
    if not list((ROOT / "build" / "tests").glob("_C_emulated*.so")):
        print("gpu-rehearsal: the emulated builds are missing: make build-tests", file=sys.stderr)
        return 2
    failed = 0
    for name, rehearse in rehearsals(options.short):
        out = options.out.resolve() / name
        shutil.rmtree(out, ignore_errors=True)
        begin = time.monotonic()
        try:
            rehearse(out)
            verdict = "as it must be"
        except RehearsalError as error:
            failed += 1
            verdict = f"WRONG: {error}"
        print(f"{name:32} {time.monotonic() - begin:5.1f} s  {verdict}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
