"""Findings of the GPU report: each is a line that survives any end of its writer."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
from gpu.findings import Findings, lost_context, read


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    return Findings(tmp_path / "findings.jsonl", run="1")


def test_finding_is_one_write(findings, monkeypatch):
    written = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: written.append(data) or real(file, data))
    findings.labeled(stage="first").add("passed", "nms", "of 2 boxes\nand more", us=1.5)
    assert len(written) == 1
    (found,) = read(findings.path)
    assert {k: v for k, v in found.items() if k != "time"} == {
        "run": "1",
        "stage": "first",
        "case": "nms",
        "status": "passed",
        "text": "of 2 boxes\nand more",
        "us": 1.5,
    }


def _append(path: Path, writer: int) -> None:
    for i in range(300):
        Findings(path, writer=str(writer)).add("passed", str(i), "x" * (i * 37 % 9000))


def test_concurrent_writers_tear_no_line(findings):
    workers = [multiprocessing.Process(target=_append, args=(findings.path, writer)) for writer in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = read(findings.path)
    assert len(found) == len([*filter(None, findings.path.read_text().splitlines())]) == 4 * 300
    assert {(f["writer"], f["case"]) for f in found} == {(str(w), str(i)) for w in range(4) for i in range(300)}


def test_findings_that_cannot_be_written_are_printed(capfd):
    Findings(Path("/dev/full"), run="1").add("failed", "nms", "other bits")
    printed = capfd.readouterr().out
    assert "No space left on device: {" in printed and '"other bits"' in printed


def test_read_skips_lines_that_are_not_findings(findings):
    findings.add("passed", "first")
    with findings.path.open("ab") as file:
        file.write(b"\xff\x00garbage\n{}\n[1]\n" + b"[" * 100_000 + b"\n" + b'{"case": "no status"}\n')
    findings.add("passed", "second")
    assert [found["case"] for found in read(findings.path)] == ["first", "second"]


def test_torn_line_costs_only_itself(findings):
    findings.add("passed", "first")
    findings.add("passed", "second")
    data = findings.path.read_bytes()
    findings.path.write_bytes(data[:-20])
    assert [found["case"] for found in read(findings.path)] == ["first"]
    findings.add("passed", "third")
    assert [found["case"] for found in read(findings.path)] == ["first", "third"]


def test_findings_know_running_and_done_cases(findings):
    assert findings.running() is None and findings.done() == set()
    with findings.case("a") as result:
        result["us"] = 3
        assert findings.running()["case"] == "a"
    with findings.case("b"):
        raise ValueError("wrong bits")
    findings.labeled(part="other").add("began", "c")
    assert findings.done() == {"a", "b"}
    assert [(f["case"], f["status"]) for f in findings.mine()] == [
        *(("a", "began"), ("a", "passed"), ("b", "began"), ("b", "failed"), ("c", "began")),
    ]
    assert findings.mine()[1]["us"] == 3 and findings.mine()[3]["text"] == "ValueError: wrong bits"
    assert findings.labeled(part="mine").running() is None, "a case of another part runs"


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("RuntimeError: ssd_fast: match_kernel: misaligned address", True),
        ("torch.AcceleratorError: CUDA error: an illegal memory access was encountered", True),
        ("CUDA error: device-side assert triggered", True),
        ("CUDA error: operation not supported on global/shared address space", True),
        ("RuntimeError: CUDA out of memory", False),
        ("ValueError: nms: boxes: expected shape [n, 4], got [3]", False),
    ],
)
def test_lost_context_recognizes_errors(text, lost):
    assert lost_context(text) == lost
