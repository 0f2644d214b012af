"""What a machine with a GPU says of this checkout: build, tests, compute-sanitizer, benchmarks. Downloads nothing.

    python scripts/gpu_report.py OUT [--quick] [--only build tests ...]        (or: make gpu-report OUT=DIR)

Leaves at most 8 files in OUT: report.json and report.md, the logs build.log, tests.log and sanitizer.log, and of the
benchmarks results.json, results.md and a plot. A part that fails is recorded, and the others still run.

Exit status: 0 all parts passed; 1 a part failed; 2 wrong use; 3 no GPU: the CPU's parts passed, the rest was skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")

Part = dict[str, Any]  # status: "passed", "failed" or "skipped"; summary: a line; seconds


class Report:
    """The parts so far, written to OUT after each, so that an aborted run leaves what it found."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.parts: dict[str, Part] = {}

    def part(self, name: str, run: Callable[[], tuple[str, str]]) -> bool:
        """Runs a part, which returns (status, summary). An exception in it is its failure."""
        print(f"== {name}", flush=True)
        begin = time.monotonic()
        try:
            status, summary = run()
        except Exception as error:
            status, summary = "failed", f"{type(error).__name__}: {error}"
        self.parts[name] = {"status": status, "summary": summary, "seconds": round(time.monotonic() - begin, 1)}
        print(f"== {name}: {status}: {summary}", flush=True)
        self.write()
        return status == "passed"

    def write(self) -> None:
        lines = ["# GPU report of ssd_fast", "", "| part | status | seconds | |", "| --- | --- | --- | --- |"]
        for name, part in self.parts.items():
            lines.append(f"| {name} | {part['status']} | {part['seconds']} | {part['summary']} |")
        lines += ["", "The benchmarks' results are in results.md.", ""]
        (self.out / "report.md").write_text("\n".join(lines))
        (self.out / "report.json").write_text(json.dumps(self.parts, indent=1) + "\n")

    def status(self) -> int:
        statuses = [part["status"] for part in self.parts.values()]
        return 1 if "failed" in statuses else 3 if "skipped" in statuses else 0


def execute(command: Sequence[str], log: Path, *, timeout: float, **environment: str) -> tuple[int, str]:
    """(exit status, output) of a command, which is also shown and appended to a log. 124: it ran too long."""
    with log.open("a") as file:
        file.write(f"$ {' '.join(command).replace(str(ROOT), '.')}\n")
        file.flush()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            output, _ = process.communicate(timeout=timeout)
            status = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            status = 124
        output = output.replace(str(ROOT), ".")
        file.write(f"{output}\n[exit status {status}]\n\n")
    print(output, end="" if output.endswith("\n") else "\n", flush=True)
    return status, output


def build(log: Path) -> tuple[str, str]:
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--no-build-isolation",
        "--no-deps",
    ]
    archs = os.environ.get("CUDAARCHS", "90")
    status, _ = execute([*command, "--no-index", "-e", "."], log, timeout=1200, CUDAARCHS=archs)
    if status:
        return "failed", f"pip install ended with status {status}"
    code = "import ssd_fast; print(ssd_fast.build_info(), ssd_fast.cuda_status())"
    status, output = execute([sys.executable, "-c", code], log, timeout=300)
    return ("failed" if status else "passed"), last_line(output)


def cmake_options() -> list[str]:
    """Where the interpreter and pybind11 are, for the test builds."""
    import pybind11

    generator = ["-GNinja"] if shutil.which("ninja") else []
    return [*generator, f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"]


def build_emulated(log: Path) -> tuple[str, str]:
    if shutil.which("nvcc") is None:
        return "skipped", "no CUDA toolkit (nvcc) on the PATH"
    folder = str(ROOT / "build" / "tests")
    options = ["-DSSD_FAST_TESTS=ON", "-DSSD_FAST_CUDA=OFF", *cmake_options()]
    for command in (["cmake", "-S", str(ROOT), "-B", folder, *options], ["cmake", "--build", folder, "--parallel"]):
        status, output = execute(command, log, timeout=1800)
        if status:
            return "failed", last_line(output)
    return "passed", "the emulated extension and the runners are built"


def test(log: Path, *, gpu: bool, emulated: bool) -> tuple[str, str]:
    required = {"SSD_FAST_REQUIRE_CUDA": "1"} if gpu else {}
    required |= {"SSD_FAST_REQUIRE_EMULATED": "1"} if emulated else {}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--durations=15"]
    status, output = execute(command, log, timeout=2400, **required)
    return ("failed" if status else "passed"), last_line(output).strip("= ")


def build_runners(log: Path) -> tuple[str, str]:
    """The C++ runners, compiled by nvcc for the GPU at hand."""
    folder = str(ROOT / "build" / "gpu")
    archs = os.environ.get("CUDAARCHS", "native")
    options = ["-DSSD_FAST_TESTS=ON", "-DSSD_FAST_CUDA=ON", f"-DCMAKE_CUDA_ARCHITECTURES={archs}", *cmake_options()]
    configure = ["cmake", "-S", str(ROOT), "-B", folder, *options]
    for command in (configure, ["cmake", "--build", folder, "--target", "cuda_runners", "--parallel"]):
        status, output = execute(command, log, timeout=1800)
        if status:
            return "failed", last_line(output)
    runners = find_runners()
    return ("passed" if runners else "failed"), f"{len(runners)} runners: {', '.join(path.name for path in runners)}"


def find_runners() -> list[Path]:
    return sorted((ROOT / "build" / "gpu" / "runners").glob("*_cuda"))


def run_runners(log: Path) -> tuple[str, str]:
    """Each runner on the GPU, without a tool."""
    failed = [path.name for path in find_runners() if execute([str(path)], log, timeout=600)[0]]
    if not find_runners():
        return "failed", "no runners are built"
    return ("failed", f"failed: {', '.join(failed)}") if failed else ("passed", f"{len(find_runners())} runners")


def sanitize(log: Path, tool: str) -> tuple[str, str]:
    """compute-sanitizer over each runner, one schedule of each case: a GPU has its own."""
    if shutil.which("compute-sanitizer") is None:
        return "failed", "compute-sanitizer is not on the PATH"
    if not find_runners():
        return "failed", "no runners are built"
    command = ["compute-sanitizer", f"--tool={tool}", "--error-exitcode=9", "--print-limit=20"]
    failed, errors = [], 0
    for runner in find_runners():
        status, output = execute([*command, str(runner), "--schedules", "1"], log, timeout=900)
        errors += sum(int(count) for count in re.findall(r"ERROR SUMMARY: (\d+) error", output))
        errors += sum(int(count) for count in re.findall(r"RACECHECK SUMMARY: (\d+) hazard", output))
        if status:
            failed.append(f"{runner.name} (status {status})")
    if failed:
        return "failed", f"{errors} errors; {', '.join(failed)}"
    return "passed", f"{len(find_runners())} runners, {errors} errors"


def bench(out: Path, quick: bool) -> tuple[str, str]:
    """The benchmarks' own report, of whose files the log is dropped: the results are what matters."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "bench.log"
        command = [sys.executable, "bench/report.py", folder, *(["--quick"] if quick else [])]
        status, output = execute(command, log, timeout=3600)
        plots = sorted(Path(folder).glob("*.png"))
        for path in [Path(folder) / "results.json", Path(folder) / "results.md", *plots[-1:]]:  # cuda's after cpu's
            if path.exists():
                shutil.copy(path, out / path.name)
    return ("failed" if status else "passed"), last_line(output).rsplit(":", 1)[0]


def last_line(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1].strip().replace("|", "/")[:300] if lines else "no output"


def why_no_gpu() -> str | None:
    """None if torch sees a GPU and nvcc is there."""
    import torch

    if not torch.cuda.is_available():
        return "no GPU that torch can use"
    return None if shutil.which("nvcc") else "a GPU, but no CUDA toolkit (nvcc) on the PATH"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for the report")
    parser.add_argument("--quick", action="store_true", help="a quick run of the benchmarks")
    parser.add_argument("--only", nargs="+", help="some parts, by the beginning of their names")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    out = options.out.resolve()
    logs = {name: out / f"{name}.log" for name in ("build", "tests", "sanitizer")}
    for log in logs.values():
        log.write_text("")
    missing = why_no_gpu()
    report = Report(out)

    def part(name: str, run: Callable[[], tuple[str, str]], *, needs_gpu: bool = False) -> bool:
        if options.only and not any(name.startswith(wanted) for wanted in options.only):
            return True
        if needs_gpu and missing:
            return report.part(name, lambda: ("skipped", str(missing)))
        return report.part(name, run)

    part("build", lambda: build(logs["build"]))
    emulated = part("build of the emulated tests", lambda: build_emulated(logs["build"]))
    tests = "tests without a GPU" if missing else "tests, a GPU required"
    part(tests, lambda: test(logs["tests"], gpu=missing is None, emulated=emulated))
    built = part("build of the runners", lambda: build_runners(logs["build"]), needs_gpu=True)
    if built or missing:
        part("runners", lambda: run_runners(logs["sanitizer"]), needs_gpu=True)
        for tool in TOOLS:
            part(f"compute-sanitizer {tool}", lambda tool=tool: sanitize(logs["sanitizer"], tool), needs_gpu=True)  # type: ignore[misc]
    part("benchmarks", lambda: bench(out, options.quick))
    status = report.status()
    words = {0: "all parts passed", 1: "a part failed", 3: f"the parts for the CPU passed; skipped the rest: {missing}"}
    print(f"gpu-report: {words[status]} (exit status {status}); see {options.out / 'report.md'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
