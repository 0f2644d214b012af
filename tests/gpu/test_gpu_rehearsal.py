"""The GPU report from end to end without a GPU, so that no time on a GPU is lost to a fault in it."""

from __future__ import annotations

import os
import subprocess
import sys

from helpers.paths import ROOT


def test_short_rehearsal_ends_as_it_must(emulated, tmp_path):
    """Run every stage alone, and kill reports; `make gpu-rehearsal` also makes every tool hang, crash and fail."""
    command = [sys.executable, str(ROOT / "scripts" / "gpu_rehearsal.py"), str(tmp_path), "--short"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = [line.split(None, 3) for line in done.stdout.splitlines()]
    stages = ["first", "tests", "sanitize", "rivals", "counts", "ab"]
    assert [words[0] for words in verdicts] == [
        *stages,
        *("kill-after-2.0", "kill-after-6.0", "deadline", "no-gpu"),
    ]
    assert {words[3] for words in verdicts} == {"as it must be"}
