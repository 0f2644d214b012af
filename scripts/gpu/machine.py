"""Find the machine's tools, and describe the machine and its software."""

from __future__ import annotations

import glob
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# Where NVIDIA's installers put nvcc, compute-sanitizer and ncu, if not on the PATH.
TOOL_FOLDERS = (
    "/usr/local/cuda/bin",
    "/usr/local/cuda-*/bin",
    "/usr/local/cuda/compute-sanitizer",
    "/opt/nvidia/nsight-compute/*",
    "/usr/local/cuda/nsight-compute*",
    "/usr/local/nvidia/bin",
)
TOOLS = ("cmake", "ninja", "nvcc", "ncu", "compute-sanitizer", "nvidia-smi")

# A field that the driver does not know makes the whole query fail, so the less common ones are queried separately. The
# settings of the card are never changed.
_GPU_FIELDS = ("name", "driver_version", "compute_cap")
_MORE_GPU_FIELDS = (
    *("pstate", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "temperature.gpu", "power.draw"),
    *("power.limit", "utilization.gpu", "memory.used", "clocks_event_reasons.active"),
)


def add_tool_folders() -> None:
    """Append the toolkit's folders to the PATH of this process and of all that it starts."""
    known = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = [folder for pattern in TOOL_FOLDERS for folder in sorted(glob.glob(pattern), reverse=True)]
    added = [folder for folder in dict.fromkeys(found) if folder not in known and os.path.isdir(folder)]
    os.environ["PATH"] = os.pathsep.join([*known, *added])


def missing_tools() -> list[str]:
    """The tools that are not on the PATH."""
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def gpu() -> dict[str, str] | None:
    """nvidia-smi's fields of the first GPU, by name; None if there is no GPU."""
    found = _query(_GPU_FIELDS)
    return found | _query(_MORE_GPU_FIELDS) if found else None


def _query(fields: Sequence[str]) -> dict[str, str]:
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    lines = output(command).splitlines()
    values = [value.strip() for value in lines[0].split(",")] if lines else []
    return dict(zip(fields, values, strict=True)) if len(values) == len(fields) else {}


def architecture() -> str:
    """The CUDA architecture of the GPU as CMake writes it, such as "90"."""
    capability = (gpu() or {}).get("compute_cap", "").replace(".", "")
    return capability if capability.isdigit() else os.environ.get("CUDAARCHS", "90")


def software() -> dict[str, Any]:
    """Versions of the tools and of the Python packages, which are not imported."""
    from importlib import metadata

    packages = {}
    for name in ("torch", "torchvision", "numpy", "pybind11", "pytest", "pytest-benchmark", "numba", "numba-cuda"):
        packages[name] = _version(metadata, name)
    packages["cupy"] = next((v for n in ("cupy-cuda13x", "cupy-cuda12x", "cupy") if (v := _version(metadata, n))), None)
    return {
        **host(),
        "packages": packages,
        "tools": {tool: _tool_version(tool) for tool in TOOLS[:-1]},
        "executable_is_a_venv": sys.prefix != sys.base_prefix,
    }


def host() -> dict[str, Any]:
    """The commit, Python and the machine, without names of hosts, users or folders."""
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def commit() -> str:
    """The checkout's commit and whether it has changes; "unknown" where there is no .git."""
    found = output(["git", "rev-parse", "--short", "HEAD"]).strip()
    return (found + (" with changes" if output(["git", "status", "--porcelain"]) else "")) if found else "unknown"


def _version(metadata: Any, package: str) -> str | None:
    try:
        return str(metadata.version(package))
    except metadata.PackageNotFoundError:
        return None


def _tool_version(tool: str) -> str | None:
    if shutil.which(tool) is None:
        return None
    lines = [line.strip() for line in output([tool, "--version"]).splitlines() if line.strip()]
    told = [line for line in lines if "ersion" in line or "release" in line]
    return (told or lines or ["unknown version"])[0]


def output(command: list[str]) -> str:
    """What a command prints, or nothing if it is missing, fails or takes longer than 10 seconds."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
