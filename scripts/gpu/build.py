"""The builds: the extension and the C++ runners, by cmake alone, for the GPU at hand."""

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
    """Build _C and, unless they were carried here, the runners; put _C into the package; import it."""
    targets = ["_C", *([] if report.options.runners else [RUNNERS])]
    if not report.options.rehearsal:
        for older in (ROOT / "ssd_fast").glob("_C*.so"):  # it must not be tested in the place of one that fails
            older.unlink()
    compile_tree(report, ROOT, report.build_folder, targets)
    with report.findings.case("install"):
        # By itself: a runner that does not compile leaves _C to be judged.
        folder = str(report.build_folder)
        for words in (["--build", folder, "--target", "_C"], ["--install", folder, "--prefix", str(ROOT)]):
            ended = report.execute(["cmake", *words], "build", interrupt=True)
            if ended.status:
                raise RuntimeError(f"cmake {words[0]} {ended.verdict}: {ended.last_line}")
    with report.findings.case("import") as result:
        code = "import json, ssd_fast; print(json.dumps([ssd_fast.build_info(), ssd_fast.cuda_status()]))"
        ended = report.execute(python("-c", code), "build")
        if ended.status:
            raise RuntimeError(f"ssd_fast does not import: {ended.last_line}")
        result["found"] = ended.last_line


def compile_tree(report: Report, source: Path, folder: Path, targets: list[str], cuda_flags: str = "") -> None:
    """Configure a checkout and build targets of it. One that does not compile leaves the others built."""
    options = [
        *(["-GNinja"] if shutil.which("ninja") else []),
        "-DSSD_FAST_CUDA=ON",  # so that a build without CUDA fails here and not in each test
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
    """The runners for a GPU: those carried here, else those built.

    Raises: CannotRunError: there are none.
    """
    found = sorted((report.options.runners or report.build_folder / "runners").glob("*_cuda"))
    if not found:
        raise CannotRunError("no runners are there: they did not compile, or --runners names another folder")
    return found


def _pybind11() -> str:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = [sys.executable, "-m", "pybind11", "--cmakedir"]
        return subprocess.check_output(command, text=True, timeout=60).strip()
    return "pybind11-is-not-installed"
