"""The C++ runners, which test_checker.py builds and runs in every flavor, leave out no kernel."""

from __future__ import annotations

import re

from helpers.paths import ROOT

CMAKE = (ROOT / "CMakeLists.txt").read_text()
NO_KERNELS = {"csrc/common/cuda_info.cu", "csrc/common/launch.cu", "csrc/common/prepare.cu"}


def runner_sources() -> dict[str, list[str]]:
    """Return the source files of each runner."""
    calls = re.findall(r"^ *ssd_add_runner\((\w+)\s([^)]*)\)", CMAKE, re.MULTILINE)
    return {family: files.split() for family, files in calls}


def test_every_cuda_source_is_in_a_runner() -> None:
    listed = re.search(r"set\(SSD_CUDA_SOURCES\s([^)]*)\)", CMAKE)
    assert listed is not None
    kernels = set(listed[1].split()) - NO_KERNELS
    assert len(kernels) >= 10
    assert kernels - {file for files in runner_sources().values() for file in files} == set()


def test_every_family_has_runner_of_same_name() -> None:
    families = {path.parent.name for path in ROOT.glob("csrc/*/*_task.h")}
    assert len(families) >= 5
    assert families - runner_sources().keys() == set()
    for family in families:
        assert f"tests/cpp/run_{family}.cpp" in runner_sources()[family]
