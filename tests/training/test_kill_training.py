"""The script behind `make kill-test`, with few kills; `make kill-test KILLS=100` is the full test."""

from __future__ import annotations

import subprocess
import sys

from helpers.paths import ROOT


def test_three_kills_change_no_tensor():
    script = ROOT / "scripts" / "kill_training.py"
    # In a separate process, since the script forks.
    result = subprocess.run([sys.executable, script, "--kills", "3"], capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    assert "3 kills (1 SIGKILL, 1 SIGTERM, 1 SIGINT)" in result.stdout
    assert result.stdout.endswith("0 differing tensors, 0 other faults\n")
