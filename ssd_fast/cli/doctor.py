"""The command `ssd-fast doctor`: shows what is installed and what runs here, and tests the kernels."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table
from rich.text import Text

from ._output import out, print_json

_PACKAGES = ("ssd_fast", "torch", "torchvision", "numpy", "pillow", "safetensors", "typer", "rich")
_EXTRAS = {
    "torchvision": ("torchvision",),
    "train": ("torchvision", "pycocotools"),
    "bench": ("pytest-benchmark", "matplotlib", "opencv-python-headless", "torchvision"),
    "cupy": ("cupy-cuda12x or cupy-cuda13x",),
    "numba": ("numba", "numba-cuda"),
}
_CPU_FLAGS = ("sse4_2", "avx", "fma", "avx2", "avx512f", "asimd", "sve")


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Show versions, the build, the state of CUDA and the CPU, and test the kernels. Exit status 1 if a test fails."""
    from .._backend import build_info, cuda_status

    report: dict[str, Any] = {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "build": {key: str(value) if value is not None else None for key, value in build_info().items()},
        "cuda": {
            "status": cuda_status(),
            "torch": torch.version.cuda,
            "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
        "cpu": _cpu(),
        "extras": {name: _missing(packages) for name, packages in _EXTRAS.items()},
        "tests": _tests(),
    }
    if as_json:
        print_json(report)
    else:
        _show(report)
    if not all(test["passed"] for test in report["tests"]):
        raise typer.Exit(1)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        if package == "ssd_fast":  # built in place
            from .. import __version__

            return __version__
        return None


def _missing(packages: tuple[str, ...]) -> list[str]:
    """The packages that are not installed; "a or b" needs only one of them."""
    return [names for names in packages if not any(_version(name) for name in names.split(" or "))]


def _cpu() -> dict[str, Any]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    return {
        "model": fields.get("model name") or platform.machine(),
        "features": [flag for flag in _CPU_FLAGS if flag in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _tests() -> list[dict[str, Any]]:
    devices = ["cpu"]
    from .._backend import cuda_status

    if cuda_status().startswith("available") and torch.cuda.is_available():
        devices.append("cuda")
    tests = []
    for device in devices:
        for name, test in (("nms of four boxes", _test_nms), ("detect a shipped photo", _test_detect)):
            try:
                passed, found = test(device)
            except Exception as error:  # whatever is wrong, the user wants to read it
                passed, found = False, f"{type(error).__name__}: {error}"
            tests.append({"test": name, "device": device, "passed": passed, "found": found})
    return tests


def _test_nms(device: str) -> tuple[bool, str]:
    """Test NMS: it removes the worse of two boxes with an IoU of 0.68 and keeps both at 0.25."""
    from ..ops import nms

    corners = [[0.0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30], [24, 22, 34, 32]]
    boxes = torch.tensor(corners, dtype=torch.float32, device=device)
    kept = nms(boxes, torch.tensor([0.8, 0.9, 0.7, 0.6], dtype=torch.float32, device=device), 0.5).tolist()
    return kept == [1, 2, 3], f"kept {kept}"


def _test_detect(device: str) -> tuple[bool, str]:
    from ..assets import asset_path
    from ..detector import load_detector

    detector = load_detector(device=device)
    (found,) = detector(asset_path("chelsea.jpg"), 0.5).to_list()
    labels = [detector.classes[label] for label in found["labels"].tolist()]
    text = ", ".join(f"{label} {score:.0%}" for label, score in zip(labels, found["scores"].tolist(), strict=True))
    return labels == ["cat"], text or "nothing"


def _show(report: dict[str, Any]) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    def section(title: str, rows: Sequence[tuple[str, str | Text]]) -> None:
        table.add_row(Text(title, style="bold cyan"), "")
        for name, value in rows:
            table.add_row(f"  {name}", value)

    absent = Text("not installed", style="dim")
    section("versions", [(name, value or absent) for name, value in report["versions"].items()])
    section("build", [(name.replace("_", " "), value or "none") for name, value in report["build"].items()])
    cuda = report["cuda"]
    style = "green" if cuda["status"].startswith("available") else "yellow"
    section(
        "CUDA",
        [
            ("kernels", Text(cuda["status"], style=style)),
            ("torch's CUDA", cuda["torch"] or "none"),
            ("devices", ", ".join(cuda["devices"]) or "none"),
        ],
    )
    cpu = report["cpu"]
    features = " ".join(cpu["features"]) or "unknown"
    section(
        "CPU", [("model", cpu["model"]), ("features", features), ("threads", f"{cpu['threads']} of {cpu['cores']}")]
    )
    section(
        "extras",
        [
            (name, Text(f"missing: {', '.join(missing)}", style="dim") if missing else Text("installed", style="green"))
            for name, missing in report["extras"].items()
        ],
    )
    verdicts = [
        (
            f"{test['test']} ({test['device']})",
            Text.assemble(("passed" if test["passed"] else "FAILED", "green" if test["passed"] else "bold red"), ": ")
            + Text(test["found"]),
        )
        for test in report["tests"]
    ]
    section("tests", verdicts)
    out.print(table)
