"""The modules that `import ssd_fast` imports, and those that it imports on demand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ssd_fast

PACKAGE = Path(ssd_fast.__file__).parent


def in_a_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_of_package_imports_no_networks():
    code = "import sys, ssd_fast; dir(ssd_fast); print(*sorted(m for m in sys.modules if m.count('.') < 2))"
    imported = set(in_a_new_process(code).split())
    light = {"_C", "_backend", "_checks", "_io", "arrays", "detections", "ground_truth", "ops", "presets", "specs"}
    assert {name for name in imported if name.startswith("ssd_fast.")} == {f"ssd_fast.{name}" for name in light}
    assert not imported & {"torchvision", "PIL", "safetensors", "matplotlib", "pycocotools", "typer", "rich"}


def test_detector_is_loaded_without_the_compiler_and_torchvision():
    """They take longer to import than everything else together."""
    code = "import sys, ssd_fast; ssd_fast.load_detector(device='cpu'); print(*sys.modules)"
    assert not set(in_a_new_process(code).split()) & {"torch._dynamo", "sympy", "torchvision"}


def test_lazy_names_are_imported_on_demand():
    """Ask in a new process, in which nothing else has imported them."""
    names = [*ssd_fast._LAZY]
    found = in_a_new_process(f"import ssd_fast; print(*[getattr(ssd_fast, name).__name__ for name in {names}])")
    assert found.split() == [name if module else f"ssd_fast.{name}" for name, module in ssd_fast._LAZY.items()]


def test_dir_lists_names_and_modules():
    """dir() lists all packages but the command line and those whose names other packages give."""
    unlisted = {"_io", "arrays", "cli", "criterion", "detector", "drawing", "ground_truth"}
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - unlisted
    assert {name for name, module in ssd_fast._LAZY.items() if module is None} == {*packages, "images"}
    assert dir(ssd_fast) == sorted([*ssd_fast.__all__, *packages, "images"])


def test_other_names_raise_attribute_error():
    with pytest.raises(AttributeError, match="module 'ssd_fast' has no attribute 'network'"):
        ssd_fast.network  # noqa: B018
