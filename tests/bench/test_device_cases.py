"""The programs that measure on a GPU, rehearsed on the CPU: their cases and their findings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import ssd_fast
from helpers.paths import ROOT

sys.path.append(str(ROOT / "bench"))
sys.path.append(str(ROOT / "scripts"))

import device_cases
import device_timing
from gpu import findings
from gpu.rehearsal import torch_cuda

CPU = torch.device("cpu")
TIMES = {"graph_us", "eager_us", "kernels", "launches", "limit_us", "share_of_limit", "bytes"}

# A table of four cases: one is broken, and one leaves CUDA unusable after its second call.
BROKEN_CASES = """
import dataclasses, itertools, sys, torch, device_builders, device_cases, device_times
calls = itertools.count()
def lose():
    if next(calls) >= 2:
        raise RuntimeError("CUDA error: misaligned address")
    return torch.zeros(1)
def broken(*_, **__):
    raise RuntimeError("no such head")
good = device_cases.named("default_boxes")
device_cases.CASES = (
    dataclasses.replace(good, name="first"),
    dataclasses.replace(good, name="broken", build=broken),
    dataclasses.replace(good, name="lost", build=lambda *_, **__: device_builders.Prepared((), lose)),
    dataclasses.replace(good, name="last"),
)
sys.exit(device_times.main())
"""
# A device that can neither capture nor profile.
NO_TOOLS = """
import sys, device_timing, device_times
def fail(*_):
    raise RuntimeError("not permitted")
device_timing.capture = device_timing.profile_kernels = fail
sys.exit(device_times.main())
"""
# A second build with different IoUs, and with different default boxes after the first three calls.
OTHER_BITS = """
import itertools, sys, compare_builds, device_program
class Other:
    def __init__(self, build):
        self.build, self.calls = build, itertools.count()
    def __getattr__(self, name):
        return getattr(self.build, name)
    def box_iou(self, *arguments):
        self.build.box_iou(*arguments)
        arguments[-1][0, 0] += 1
    def default_boxes(self, out, **options):
        self.build.default_boxes(**options, out=out)
        out[0, 0] += next(self.calls) >= 3
load = device_program.load_extension
device_program.load_extension = lambda path: Other(load(path)) if "other" in path.name else load(path)
sys.exit(compare_builds.main())
"""


class Program:
    """Runs a program as the report does, in a separate process, and reads its findings."""

    def __init__(self, folder: Path) -> None:
        self.findings = findings.Findings(folder / "findings.jsonl", stage="rehearsal")

    def run(self, *command: str, status: int = 0, **environment: str) -> str:
        paths = os.pathsep.join(str(ROOT / name) for name in (".", "bench", "scripts"))
        environment |= self.findings.environment() | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *command, "--rehearse"],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def found(self) -> dict[str, dict[str, Any]]:
        """Return the finished cases, in order."""
        return {found["case"]: found for found in self.findings.mine() if found["status"] in findings.FINAL}


@pytest.fixture
def program(tmp_path: Path, emulated: ModuleType) -> Program:
    return Program(tmp_path)


def test_case_names_are_unique_and_every_op_is_timed() -> None:
    names = [case.name for case in device_cases.CASES]
    assert len(set(names)) == len(names) >= 30
    assert {case.op for case in device_cases.CASES} == set(ssd_fast.ops.__all__)
    assert [case.name for case in device_cases.chosen(["C=21", "match"])] == [
        name for name in names if "C=21" in name or "match" in name
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nms n=1000", lambda kept: 20 * 40 + 8 * kept),
        ("box_iou 1000 x 8732", lambda _: 16 * (40 + 50) + 4 * 40 * 50),
        ("match N=32 G=8", lambda _: 16 * 16 + 8 * 3 + 16 * 190 + 8 * 2 * 190),
        ("default_boxes", lambda _: 16 * 190),
        ("postprocess sparse N=8 C=21", lambda _: 4 * 2 * 190 * (5 + 4) + 16 * 190 + 2 * (36 * 200 + 8)),
    ],
)
def test_bytes_moved_counts_each_input_and_result_once(name: str, expected: Callable[[int], int]) -> None:
    prepared = device_cases.named(name).prepare(CPU, small=True)
    returned = prepared.call(*prepared.inputs)
    assert prepared.bytes_moved(returned) == expected(len(prepared.result(returned)))


@pytest.mark.parametrize("layout", ["NCHW", "channels-last"])
def test_raw_maps_give_same_result_as_rows(layout: str) -> None:
    rows, maps = (
        device_cases.named(f"postprocess sparse N=1 C=91{words}").prepare(CPU, small=True)
        for words in ("", f" {layout} maps")
    )
    logits = maps.inputs[0]
    assert len(logits) == 3
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in logits if layout == "channels-last")
    for a, b in zip(rows.call(*rows.inputs), maps.call(*maps.inputs), strict=True):
        assert torch.equal(a, b)


def test_capture_refuses_calls_that_wait_for_gpu(emulated: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssd_fast._backend.C", torch_cuda.Recorded(emulated))
    prepared = device_cases.named("nms n=1000").prepare(CPU, small=True)
    graph = torch_cuda.CUDAGraph()
    with torch_cuda.capturing(graph):
        kept, count = prepared.call(*prepared.inputs)
    expected = kept[: int(count)].clone()
    kept.zero_()
    graph.replay()
    assert torch.equal(kept[: int(count)], expected)
    with pytest.raises(RuntimeError, match="not permitted"), torch_cuda.capturing(torch_cuda.CUDAGraph()):
        ssd_fast.nms(*prepared.inputs, 0.5)  # trims its result


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("Memset (Device)", "Memset (Device)"),
        ("Memcpy DtoH (Device -> Pageable)", "Memcpy DtoH (Device -> Pageable)"),
        ("void ssd::(anonymous namespace)::gather_kernel<float>(ssd::NmsTask<float>, int)", "gather_kernel<float>"),
        ("ssd::(anonymous namespace)::scan_kernel(unsigned int*, int)", "scan_kernel"),
        ("void ssd::(anonymous namespace)::filter<__half, 4>(ssd::View<__half>)", "filter<__half, 4>"),
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>, std::array<char*, 1ul> >"
            "(int, at::native::FillFunctor<float>, std::array<char*, 1ul>)",
            "vectorized_elementwise_kernel<...>",
        ),
        ("void ssd::Sorter<float>::run<int>(int*)", "run<int>"),
    ],
)
def test_short_name_of_kernel(name: str, short: str) -> None:
    assert device_timing.short_name(name) == short


def test_device_times_measures_chosen_cases(program: Program) -> None:
    program.run("bench/device_times.py", "--only", "default_boxes", "nms n=1000", "forward and backward N=32 C=91")
    found = program.found()
    names = [case.name for case in device_cases.chosen(["default_boxes", "nms n=1000", "backward N=32 C=91"])]
    assert list(found) == ["copy bandwidth", *names]
    assert {case["status"] for case in found.values()} == {"passed"}
    assert found["copy bandwidth"]["bytes_a_second"] > 0
    for name in names:
        assert found[name].keys() >= TIMES and not [key for key in found[name] if key.endswith("_error")]
        assert ("cold_us" in found[name]) != ("cold_left_out" in found[name])
        first, third = found[name]["graph_quartiles_us"]
        assert 0 < first <= found[name]["graph_us"] <= third
    kernels = found["multibox_loss forward and backward N=32 C=91"]["kernels"]
    assert [(kernel["name"], kernel["count"], kernel["kind"]) for kernel in kernels] == [
        ("Memset (Device)", 2, "memset"),
        ("multibox_loss_forward_kernel<float>", 1, "kernel"),
        ("multibox_loss_backward_kernel<float>", 1, "kernel"),
    ]
    assert all(0 < kernel["median_us"] <= kernel["us"] * 3 for kernel in kernels)


def test_failed_capture_and_profiler_lose_nothing_else(program: Program) -> None:
    program.run("-c", NO_TOOLS, "--only", "match")
    found = program.found()["match N=32 G=8"]
    assert found["status"] == "failed" and found["text"] == "RuntimeError: not captured: RuntimeError: not permitted"
    assert found["eager_us"] > 0
    assert found["graph_error"] == found["kernels_error"] == "RuntimeError: not permitted"
    assert "graph_us" not in found and "share_of_limit" not in found


def test_full_name_chooses_one_case() -> None:
    """A full name chooses one case even where it is part of other names."""
    assert [case.name for case in device_cases.chosen(["nms n=1000"])] == ["nms n=1000"]
    assert {case.op for case in device_cases.chosen(["nms n=10"])} == {"nms"}
    assert len([*device_cases.chosen()]) == len(device_cases.CASES)


def test_lost_context_ends_program_and_next_start_does_the_rest(program: Program) -> None:
    program.run("-c", BROKEN_CASES, status=findings.RESTART)
    assert {name: case["status"] for name, case in program.found().items()} == {
        "copy bandwidth": "passed",
        "first": "passed",
        "broken": "failed",
        "lost": "failed",
    }
    assert program.found()["broken"]["text"] == "RuntimeError: no such head"
    program.run("-c", BROKEN_CASES)
    found = program.found()
    assert found["last"]["status"] == "passed" and found["last"]["limit_us"] > 0
    begun = [case["case"] for case in program.findings.mine() if case["status"] == findings.BEGAN]
    assert begun == ["copy bandwidth", "first", "broken", "lost", "last"]


def test_no_case_begins_near_deadline(program: Program) -> None:
    code = (
        "import sys, device_program, device_times; device_program.SECONDS_PER_CASE = 1e6; sys.exit(device_times.main())"
    )
    program.run("-c", code, SSD_FAST_DEADLINE=str(time.time() + 1000))
    assert list(program.found()) == ["copy bandwidth", "the rest"]
    rest = program.found()["the rest"]
    assert (rest["status"], rest["late"]) == ("skipped", True)
    assert rest["text"] == f"the deadline is near: stopped before {device_cases.CASES[0].name}"


def test_findings_are_printed_without_report(program: Program) -> None:
    output = program.run("-c", "import os, sys; os.environ.pop('SSD_FAST_FINDINGS'); import device_times; "
                         "sys.exit(device_times.main())", "--only", "default_boxes")  # fmt: skip
    assert not program.findings.path.exists()
    lines = [json.loads(line) for line in output.splitlines()]
    assert [(line["case"], line["status"]) for line in lines[2:]] == [
        ("default_boxes", "began"),
        ("default_boxes", "passed"),
    ]


def test_profile_case_makes_one_call_in_range(program: Program) -> None:
    output = program.run("bench/profile_case.py", "multibox_loss training step N=32 C=91")
    assert output.splitlines()[-1] == "profiled: match multibox_loss_forward multibox_loss_backward"


def test_compare_builds_passes_builds_with_equal_bits(program: Program, emulated: ModuleType, tmp_path: Path) -> None:
    """Two copies of a build and the installed build, which runs the CPU kernels, give the same bits."""
    copy = tmp_path / "copy" / Path(str(emulated.__file__)).name
    copy.parent.mkdir()
    copy.write_bytes(Path(str(emulated.__file__)).read_bytes())
    builds = [f"one={emulated.__file__}", f"two={copy}", f"installed={ssd_fast._backend._C.__file__}"]
    only = ["postprocess dense N=1 C=21", "training step N=32 C=21", "nms n=1000"]
    program.run("bench/compare_builds.py", *builds, "--only", *only)
    found = program.found()
    assert len(found) == len(list(device_cases.chosen(only))) == 3
    for case in found.values():
        assert case["status"] == "passed", case
        assert list(case["builds"]) == ["one", "two", "installed"] and case["builds"]["one"]["ratio"] == 1
        assert all(0 < build["quartiles_us"][0] <= build["us"] for build in case["builds"].values())


def test_compare_builds_reports_build_with_other_bits(program: Program, emulated: ModuleType, tmp_path: Path) -> None:
    other = tmp_path / "_C_emulated.other.so"
    other.write_bytes(Path(str(emulated.__file__)).read_bytes())
    builds = [f"good={emulated.__file__}", f"bad={other}"]
    program.run("-c", OTHER_BITS, *builds, "--only", "box_iou", "default_boxes", "encode_boxes")
    called, graphed, passed = program.found().values()
    assert passed["status"] == "passed"
    assert called["status"] == graphed["status"] == "failed" and called["builds"]["bad"]["us"] > 0
    assert "good: bad: output 0 differs in 1 of 2000 elements; bad, in a graph: output 0 " in called["text"]
    assert "good: bad, in a graph: output 0 differs in 1 of 760 elements" in graphed["text"]
