"""The fuzzer (tests/fuzz): some of its calls, and the faults that it must notice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from fuzz import judge, problems
from fuzz.calls import Call
from fuzz.draw import draw
from fuzz.report import Report
from fuzz.runner import Result, backends, minimized, run

import ssd_fast
from helpers.backends import emulated_extension
from helpers.paths import ROOT
from ssd_fast import _backend

pytestmark = pytest.mark.usefixtures("one_thread")
OPS = [builder.__name__ for builder in problems.OPS]


@pytest.mark.parametrize("name, calls", [("cpu", 15_000), ("emulated", 600)])
def test_fuzzer_has_no_findings(name, calls, tmp_path):
    if name == "emulated":
        emulated_extension()  # skips the test without an emulated build
    command = [sys.executable, "-W", "ignore", "-m", "fuzz", "--calls", str(calls), "--seed", "1", "--backend", name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "report.json")], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert not report["findings"] and set(report["outcomes"]) == set(OPS)
    for op, outcomes in report["outcomes"].items():
        assert outcomes["accepted"] > 0 and outcomes["refused"] > 0, op
    assert sum(sum(outcomes.values()) for outcomes in report["outcomes"].values()) == calls
    assert set(report["refused"]) >= {"shape", "dtype", "device", "type", "value"}


# ---- planted bugs ---------------------------------------------------------------------------------------------------


class Planted:
    """The extension with one function that does something else after the real one, or instead of it."""

    def __init__(self, name, behind=None, instead=None):
        self._name, self._behind, self._instead = name, behind, instead

    def __getattr__(self, name):
        real = getattr(_backend._C, name)
        if name != self._name:
            return real

        def planted(*args, **options):
            if self._instead is not None:
                return self._instead(real, *args, **options)
            real(*args, **options)
            return self._behind(*args)

        return planted


def as_array(x):
    return x.detach().numpy() if isinstance(x, torch.Tensor) else x


def nudge(*args):
    out = as_array(args[2])
    if out.size:
        out.flat[-1] = np.nextafter(out.flat[-1], np.float32(2))


def exchange(boxes, scores, threshold, workspace, kept, count):
    if count[0] > 1:
        kept[0], kept[1] = int(kept[1]), int(kept[0])


def scribble(boxes, default_boxes, *_):
    if default_boxes.shape[0] and as_array(default_boxes).flags.writeable:
        default_boxes[0, 0] += 1


def trust_alignment(real, deltas, default_boxes, out, **options):
    real(deltas, default_boxes, **options, out=out)
    if as_array(deltas).ctypes.data % 32 if deltas.dtype != torch.bfloat16 else deltas.data_ptr() % 32:
        out[...] = 0


def forget_ties(*args):
    matched = as_array(args[-1])
    matched[matched == 1] = 0


def complain(*_, **options):
    raise RuntimeError("nms_padded: out of luck")


FORM = "not in the promised form"
PLANTED = {
    "a value one ulp off": ("box_iou", Planted("box_iou", behind=nudge), "wrong result"),
    "kept indices in another order": ("nms", Planted("nms", behind=exchange), "wrong result"),
    "another ground truth": ("match", Planted("match", behind=forget_ties), "wrong result"),
    "a changed input": ("encode_boxes", Planted("encode_boxes", behind=scribble), "modified its input"),
    "trust in alignment": ("decode_boxes", Planted("decode_boxes", instead=trust_alignment), "wrong result"),
    "another error": ("nms_padded", Planted("nms_padded", instead=complain), f"RuntimeError {FORM}"),
}


@pytest.mark.parametrize("op, extension, kind", PLANTED.values(), ids=PLANTED.keys())
def test_planted_bugs_are_found(op, extension, kind):
    """A bug is found also where the plain results have it too, by the reference or by the bytes of the input."""

    def kinds(chosen):
        return {result.verdict.kind for result in run(3, range(600), chosen) if result.op == op}

    assert kind in kinds(judge.Backends(extension, extension)) and kind not in kinds(backends("cpu"))


def on_strange_boxes(action):
    """Return an extension whose box_iou does the action if the first set has 5 boxes."""

    def instead(real, boxes1, *rest):
        if boxes1.shape[0] == 5:
            action()
        real(boxes1, *rest)

    return Planted("box_iou", instead=instead)


def crashing_call(name="box_iou", rows=5):
    """Return the number of a call with two oddities that reaches the extension."""
    for k in range(10_000):
        call, oddities = draw(3, k)
        if call.op == name and len(call.arguments["boxes1"]) == rows and oddities == 2 and not call.must_refuse:
            return k
    raise AssertionError("no such call")


@pytest.mark.parametrize(
    "action, kind, text",
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), "crash", "SIGSEGV"),
        (lambda: os._exit(3), "crash", "exit status 3"),
        (lambda: time.sleep(3600), "hang", "no answer"),
    ],
    ids=["segfault", "exit", "hang"],
)
def test_crashes_and_hangs_are_found(action, kind, text):
    """The later calls are made in any case, and the example loses the oddities that do not matter."""
    extension = on_strange_boxes(action)
    chosen, k = judge.Backends(extension, extension), crashing_call()
    results = list(run(3, range(k - 1, k + 2), chosen, timeout=2.0))
    assert [result.number for result in results] == [k - 1, k, k + 1]
    assert results[1].verdict == ("finding", kind, text) and results[1].oddities
    smaller = minimized(3, results[1], chosen, timeout=2.0)
    assert smaller.verdict == results[1].verdict and not smaller.oddities and smaller.arguments


def test_judge_reports_accepted_faults_and_refused_valid_calls(monkeypatch):
    call = Call("box_iou", {"boxes1": torch.zeros(1, 4), "boxes2": torch.zeros(1, 4)}, must_refuse="boxes1: masked")
    clean = backends("cpu")
    assert judge.judge(call, 1, clean) == ("finding", "accepted an invalid call", "masked")
    call.must_refuse = ""
    assert judge.judge(call, 1, clean).outcome == "accepted"

    def refuse(**arguments):
        raise ValueError("box_iou: boxes1: expected something else, got this")

    monkeypatch.setattr("ssd_fast.box_iou", refuse)
    assert judge.judge(call, 1, clean).kind == "refused a valid call"
    call.oddities = ["boxes1: offset"]  # every op accepts it
    assert judge.judge(call, 1, clean).kind == "refused a valid call"
    call.oddities = ["boxes1: sparse"]
    assert judge.judge(call, 1, clean) == ("refused", "value", "")


@pytest.mark.parametrize(
    "result, outcome",
    [
        (lambda real, boxes: real, "accepted"),
        (lambda real, boxes: torch.zeros(2, 3), "a result with memory"),
        (lambda real, boxes: real.T, "wrong shapes"),
        (lambda real, boxes: real.double(), "wrong shapes"),
    ],
    ids=["right", "memory", "shape", "dtype"],
)
def test_judge_checks_result_of_call_without_memory(monkeypatch, result, outcome):
    op = ssd_fast.box_iou
    arguments = {"boxes1": torch.zeros(2, 4, device="meta"), "boxes2": torch.zeros(3, 4, device="meta")}

    def planted(boxes1, boxes2):
        real = op(boxes1, boxes2)
        return result(real, boxes1) if boxes1.is_meta else real

    monkeypatch.setattr("ssd_fast.box_iou", planted)
    verdict = judge.judge(Call("box_iou", arguments, shapes_only=True), 1, backends("cpu"))
    assert (verdict.kind or verdict.outcome) == outcome


def test_judge_reports_result_of_wrong_library(monkeypatch):
    op = ssd_fast.box_iou
    monkeypatch.setattr("ssd_fast.box_iou", lambda boxes1, boxes2: op(boxes1, boxes2).numpy())
    call = Call("box_iou", {"boxes1": torch.zeros(1, 4), "boxes2": torch.zeros(1, 4)})
    assert judge.judge(call, 1, backends("cpu")).kind == "result of the wrong library"


@pytest.mark.parametrize(
    "error, outcome",
    [
        (ValueError("nms: boxes: expected shape [any, 4], got [3]"), ("refused", "shape")),
        (TypeError("nms: boxes: expected float32 or float64, got int64"), ("refused", "dtype")),
        (TypeError("nms: boxes: expected a tensor, got list"), ("refused", "type")),
        (ValueError("nms: boxes: expected device cpu, got meta"), ("refused", "device")),
        (ValueError("nms: iou_threshold: expected a finite number >= 0, got nan"), ("refused", "value")),
        (MemoryError(), ("refused", "memory")),
        (RuntimeError("nms: boxes: expected shape [any, 4], got [3]"), ("finding", f"RuntimeError {FORM}")),
        (ValueError("batched_nms: boxes: expected this, got that"), ("finding", f"ValueError {FORM}")),
        (ValueError("expected an array of at most 6 dimensions, got 7"), ("finding", f"ValueError {FORM}")),
        (SystemError("error return without exception set"), ("finding", f"SystemError {FORM}")),
    ],
    ids=str,
)
def test_judge_distinguishes_refusals_from_other_errors(monkeypatch, error, outcome):
    def refuse(**arguments):
        raise error

    monkeypatch.setattr("ssd_fast.nms", refuse)
    arguments = {"boxes": torch.zeros(1, 4), "scores": torch.zeros(1), "iou_threshold": 0.5}
    assert judge.judge(Call("nms", arguments, oddities=["boxes: sparse"]), 1, backends("cpu"))[:2] == outcome


# ---- calls and report -----------------------------------------------------------------------------------------------


def test_call_depends_only_on_seed_and_number():
    def drawn(seed, k, *left_out):
        return [(x.op, x.oddities, repr(sorted(x.arguments))) for x, _ in [draw(seed, k, left_out)]]

    assert [drawn(5, k) for k in range(200)] == [drawn(5, k) for k in range(200)]
    assert [drawn(5, k) for k in range(200)] != [drawn(6, k) for k in range(200)]
    k = next(k for k in range(200) if draw(5, k)[1] > 2)
    call, smaller = draw(5, k)[0], draw(5, k, {0})[0]
    assert smaller.oddities == call.oddities[1:]


def test_report_groups_findings_of_same_kind():
    report = Report()
    for number, (op, text, oddities) in enumerate(
        [("nms", "nms() got 12 of 'x'", ["a", "b"]), ("box_iou", "box_iou() got 3 of 'y'", ["c"]), ("nms", "other", [])]
    ):
        report.add(Result(number, op, judge.Verdict("finding", "crash", text), oddities))
    report.add(Result(9, "match", judge.Verdict("refused", "shape")))
    groups = report.ranked()
    assert [(group.count, group.example.number) for group in groups] == [(2, 1), (1, 2)]
    assert report.findings == 3 and report.as_json()["refused"] == {"shape": 1}
    assert "2 x crash: <op>() got # of '_'" in report.table() and "--only 1: c" in report.table()
