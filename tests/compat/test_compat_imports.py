"""The adapters of ssd_fast.compat need none of the codebases that they stand for."""

from __future__ import annotations

import subprocess
import sys

ADAPTERS = ("amdegroot", "lufficc", "nvidia", "opencv", "qfgaohao")


def test_adapters_import_nothing_else():
    """In a new process, where none of these could be found."""
    code = f"""
import importlib, sys
absent = ("cv2", "torchvision", "yacs", "layers", "vision", "ssd", "data")
sys.modules.update(dict.fromkeys(absent))  # importing one raises
for name in {ADAPTERS}:
    module = importlib.import_module(f"ssd_fast.compat.{{name}}")
    for public in module.__all__:
        assert getattr(module, public).__doc__, public
print("imported")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "imported\n", done.stderr
