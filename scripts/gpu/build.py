"""Build the extension and the C++ runners for the GPU at hand, with cmake alone."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from gpu import machine
from gpu.report import CannotRunError, Report, python

ROOT = Path(__file__).resolve().parents[2]
RUNNERS = "cuda_runners"


def build(report: Report) -> None:
    """Build _C and, unless --runners names a folder of them, the runners; install _C into the package; import it."""
    targets = ["_C", *([] if report.options.runners else [RUNNERS])]
    if not report.options.rehearsal:
        for older in (ROOT / "ssd_fast").glob(
            "_C*.so"
        ):  # an old one must not be tested in place of one that fails to build
            older.unlink()
    compile_tree(report, ROOT, report.build_folder, targets)
    with report.findings.case("install"):
        # Built by itself, so that _C is tested even if a runner does not compile.
        folder = str(report.build_folder)
        for words in (["--build", folder, "--target", "_C"], ["--install", folder, "--prefix", str(ROOT)]):
            ended = report.execute(["cmake", *words], "build", interrupt=True)
            if ended.status:
                raise RuntimeError(f"cmake {words[0]} {ended.verdict}: {ended.last_line}")
    with report.findings.case("import") as result:
        code = "import json, ssd_fast; print(json.dumps([ssd_fast.build_info(), ssd_fast.cuda_status()]))"
        ended = report.execute(python("-c", code), "build")
        if ended.status:
            raise RuntimeError(f"importing ssd_fast {ended.verdict}: {ended.last_line}")
        result["found"] = ended.last_line
        if not report.options.rehearsal and '"unavailable: ' in ended.last_line:
            raise RuntimeError(f"ssd_fast cannot use the GPU: {ended.last_line}")


def compile_tree(report: Report, source: Path, folder: Path, targets: list[str], cuda_flags: str = "") -> None:
    """Configure a checkout and build some of its targets. If one does not compile, the others are still built."""
    options = [
        *(["-GNinja"] if shutil.which("ninja") else []),
        "-DSSD_FAST_CUDA=ON",  # so that a missing nvcc fails here and not in each test
        "-DSSD_FAST_TESTS=ON",
        f"-DCMAKE_CUDA_ARCHITECTURES={machine.architecture()}",
        f"-DCMAKE_CUDA_FLAGS={cuda_flags}",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={_pybind11()}",
    ]
    with report.findings.case("configure"):
        ended = report.execute(["cmake", "-S", source, "-B", folder, *options], "build")
        if ended.status:
            raise RuntimeError(f"cmake {ended.verdict}: {ended.last_line}")
    with report.findings.case("compile") as result:
        go_on = ["--", "-k0"] if shutil.which("ninja") else ["--", "-k"]
        words = ["--build", str(folder), "--parallel", str(report.options.jobs), "--target", *targets, *go_on]
        ended = report.execute(["cmake", *words], "build", interrupt=True)
        result["warnings"] = len(re.findall(r"\bwarning\b", ended.output, re.IGNORECASE))
        if ended.status:
            raise RuntimeError(f"the build {ended.verdict}: {ended.last_line}")


def find_runners(report: Report) -> list[Path]:
    """The runners for a GPU: those in the folder of --runners, else those built here.

    Raises: CannotRunError: there are none.
    """
    found = sorted((report.options.runners or report.build_folder / "runners").glob("*_cuda"))
    if not found:
        raise CannotRunError("there are no runners: they did not compile, or the folder of --runners has none")
    return found


def _pybind11() -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = [sys.executable, "-m", "pybind11", "--cmakedir"]
        return subprocess.check_output(command, text=True, timeout=60).strip()
    return "pybind11-is-not-installed"
