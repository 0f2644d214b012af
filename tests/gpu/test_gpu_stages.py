"""How the GPU report reads the output of its tools, builds variants and finds the files with tests."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
from pathlib import Path

import pytest
from gpu import ncu, patterns
from gpu.findings import Findings
from gpu.rehearsal import stand_in
from gpu.report import Deadline, Options, Report
from gpu.stages import STAGES
from gpu.stages.tests import gpu_test_files

from helpers.gpu_reports import make_report
from helpers.paths import ROOT

RECORDED = ROOT / "scripts" / "gpu" / "rehearsal" / "recorded"


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return make_report(tmp_path)


def ncu_table(name: str = "ncu_ok.txt") -> list[str]:
    return [line for line in (RECORDED / name).read_text().splitlines() if line.startswith('"')]


def test_ncu_parse_reads_table():
    kernels = ncu.parse(ncu_table())
    assert [kernel["name"] for kernel in kernels] == ["score_filter_kernel", "segment_nms_kernel", "merge_kernel"]
    first = kernels[0]
    assert (first["us"], first["dram_read_bytes"], first["registers"]) == (24.512, 22634496, 40)
    assert first["sectors_a_load"] == 4.0 and first["sectors_a_store"] == round(40960 / 17664, 2)
    assert first["grid"] == "(69, 8, 1)"


def test_ncu_parse_reads_odd_cells():
    whole = ncu.parse(ncu_table())[0]
    table = [line.replace('"24512"', '"24,512"').replace('"71.91"', '"n/a"') for line in ncu_table()]
    assert whole.pop("occupancy_percent") == 71.91
    assert ncu.parse(table)[0] == whole
    assert ncu.parse([]) == []


@pytest.mark.parametrize(
    ("mode", "status", "text"),
    [
        ("ok", "passed", ""),
        ("errors", "failed", "102 errors; it ended with status 9: Invalid __global__ write of size 8 bytes"),
        ("not_supported", "failed", "the tool could not run: Device not supported"),
        ("crash", "failed", "the tool gave no summary; it was ended by SIGSEGV"),
    ],
)
def test_sanitizer_verdict_of_each_outcome(report, tmp_path, monkeypatch, mode, status, text):
    from gpu.sanitizer import sanitize_runner

    (tmp_path / "compute-sanitizer").symlink_to(stand_in.__file__)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SSD_FAST_STAND_INS", json.dumps({"compute-sanitizer": mode}))
    sanitize_runner(report, "memcheck", [Path("nms_cuda")])
    found = report.findings.mine()[-1]
    assert (found["case"], found["status"]) == ("memcheck nms_cuda", status)
    assert text in found.get("text", "")


def test_only_memcheck_gets_option_about_failing_calls(report, tmp_path, monkeypatch):
    """The demonstration's runner makes a failing call; the other tools do not report it and may lack the option."""
    from gpu.sanitizer import sanitize_runner

    (tmp_path / "compute-sanitizer").symlink_to(stand_in.__file__)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for tool in ("memcheck", "racecheck", "initcheck", "synccheck"):
        sanitize_runner(report, tool, [Path("demo_cuda")])
    commands = [found["again"] for found in report.findings.mine() if found["status"] == "passed"]
    assert len(commands) == 4 and "--report-api-errors=no" in commands[0]
    assert not any("--report-api-errors" in command for command in commands[1:])


def test_machine_that_cannot_profile_is_asked_once(report, tmp_path, monkeypatch):
    (tmp_path / "ncu").write_text(
        "#!/bin/sh\necho '==ERROR== Failed to initialize the profiler: LibraryNotLoaded'\nexit 9\n"
    )
    (tmp_path / "ncu").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    report.step("ncu", 20, lambda step: ncu.profile(step, ncu.PROFILED))
    found = [(f["case"], f["status"]) for f in report.findings.mine() if f["status"] != "began"]
    assert found == [(ncu.PROFILED[0], "failed"), ("step", "skipped")]
    assert "cannot profile on this machine: Failed to initialize" in report.findings.mine()[-1]["text"]


PATTERN = {"loads": [4, 16, 0], "stores": [4, 32, 0], "shared_loads": [4, 0, 124], "shared_stores": [0, 0, 0]}


def profiled_pattern(sectors: int) -> str:
    """Return a shell script that stands for ncu: it prints one pattern with its counts and "measured" values."""
    values = (4, sectors, 4, 32, 4, 124, 0, 0)
    head = ",".join(f'"{name}"' for name in ("Kernel Name", *patterns.METRICS.values()))
    row = ",".join(f'"{value}"' for value in ("load_kernel(const float *)", *values))
    pattern = json.dumps({"pattern": "load 4 bytes", **PATTERN})
    return f"#!/bin/sh\ncat <<'END'\n{pattern}\n{head}\n" + '"",""\n' + f"{row}\nEND\n"


@pytest.mark.parametrize(("sectors", "status"), [(16, "passed"), (20, "failed")])
def test_patterns_are_compared_with_profiler(report, tmp_path, monkeypatch, sectors, status):
    (tmp_path / "ncu").write_text(profiled_pattern(sectors))
    (tmp_path / "ncu").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    patterns.check_patterns(report, [Path("nms_cuda"), Path("patterns_cuda")])
    found = report.findings.mine()[-1]
    assert (found["case"], found["status"]) == ("load 4 bytes", status)
    assert (status == "passed") or found["text"].endswith("load_sectors: expected 16, got 20.0")


def test_patterns_without_runner_are_skipped(report, tmp_path, monkeypatch):
    (tmp_path / "ncu").write_text("#!/bin/sh\n")
    (tmp_path / "ncu").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    report.step("patterns", 20, lambda step: patterns.check_patterns(step, [Path("nms_cuda")]))
    assert report.findings.mine()[-1]["status"] == "skipped"


def test_variant_that_does_not_compile_is_left_out(report, tmp_path, monkeypatch):
    """A stale build of its folder is not compared in its place, and a variant given as a file needs that file."""
    (tmp_path / "cmake").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "cmake").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(Report, "build_folder", tmp_path / "build")
    stale, given = tmp_path / "build" / "ab" / "tile" / "_C.so", tmp_path / "given.so"
    stale.parent.mkdir(parents=True)
    stale.touch()
    given.touch()
    variants = (f"gone={tmp_path / 'gone.so'}", "tile=-DTILE=8", f"given={given}")
    builds: list[str] = []
    options = dataclasses.replace(report.options, variants=variants)
    module = importlib.import_module("gpu.stages.ab")
    dataclasses.replace(report, options=options).step("build", 30, lambda step: module._build_all(step, builds))
    assert builds == [f"given={given}"]
    failed = [found["case"] for found in report.findings.mine() if found["status"] == "failed"]
    assert failed == ["file gone", "configure", "compile", "step"]


def test_gpu_test_files_are_found_by_text(request):
    """The report reads files instead of collecting them; this test compares it with collected tests."""
    marked = {item.path.name for item in request.session.items if item.get_closest_marker("gpu")}
    report = Report(Path(), Findings(Path()), Deadline.after(1), Options())
    found = {Path(file).name for file in gpu_test_files(report)}
    assert marked <= found
    assert "test_nms.py" in found


def test_stages_fit_in_one_command():
    assert list(STAGES) == ["first", "tests", "sanitize", "rivals", "counts", "ab"]
    assert all(seconds <= 540 for _, seconds in STAGES.values())
