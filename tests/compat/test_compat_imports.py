"""The adapters of ssd_fast.compat do not need the codebases that they replace."""

from __future__ import annotations

import subprocess
import sys

ADAPTERS = ("amdegroot", "lufficc", "nvidia", "opencv", "qfgaohao")


def test_adapters_import_no_codebase_they_replace():
    """Import the adapters in a new process in which none of these packages can be found."""
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
