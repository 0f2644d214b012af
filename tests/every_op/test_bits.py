"""Every backend gives the same bits, on any number of threads, with and without FMA hardware or flush-to-zero."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

import ssd_fast
from helpers import bits
from ssd_fast import _backend

EXPECTED = bits.read()
every_case = pytest.mark.parametrize("name", bits.CASES)


def test_every_case_has_a_hash():
    assert list(EXPECTED) == list(bits.CASES)
    assert len(set(EXPECTED.values())) == len(EXPECTED)


def test_digest_sees_every_bit():
    x = torch.tensor([0.0, 1.0, torch.nan])
    digests = [
        bits.digest(y)
        for y in (
            x,
            torch.tensor([-0.0, 1.0, torch.nan]),
            torch.tensor([0.0, 1.0 + 2**-23, torch.nan]),
            x.double(),
            x[None],
            x[:2],
            torch.tensor([0.0, torch.nan, 1.0]),
        )
    ]
    assert len(set(digests)) == len(digests)
    payload = x.view(torch.int32) | torch.tensor([0, 0, 3], dtype=torch.int32)
    assert bits.digest(payload.view(torch.float32)) == digests[0]


@every_case
def test_backend_gives_the_bits(backend, name):
    assert bits.digest(bits.CASES[name](backend.to)) == EXPECTED[name]


@every_case
def test_threads_do_not_change_bits(name):
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            assert bits.digest(bits.CASES[name](lambda x: x)) == EXPECTED[name]
    finally:
        torch.set_num_threads(threads)


@every_case
def test_flush_to_zero_does_not_change_bits(name):
    """The caller may have set it, for a faster network; the kernels restore it."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush to zero")
    try:
        actual = bits.digest(bits.CASES[name](lambda x: x))
        tiny = torch.tensor(1e-38) * 0.01
    finally:
        torch.set_flush_denormal(False)
    assert actual == EXPECTED[name]
    assert tiny == 0, "the op has cleared the caller's flush-to-zero"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flush_to_zero_does_not_tie_subnormal_scores(dtype, backend):
    """Where it is set, comparisons outside the op take two subnormal numbers for equal."""
    boxes = backend.to(torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]], dtype=dtype))
    scores = backend.to(torch.tensor([1, 2, 3]).to(dtype) * torch.finfo(dtype).tiny / 100)
    assert (scores > 0).all()
    idxs = backend.to(torch.zeros(3, dtype=torch.int64))
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush to zero")
    try:
        kept = [ssd_fast.nms(boxes, scores, 0.5), ssd_fast.batched_nms(boxes, scores, idxs, 0.5)]
        if dtype == torch.float32:
            kept.append(ssd_fast.nms_padded(boxes[None], scores[None], 0.5, 2)[0][0])
    finally:
        torch.set_flush_denormal(False)
    assert all(indices.tolist() == [2, 1] for indices in kept)


def test_cpu_without_fma_gives_the_bits():
    """On such a CPU, glibc computes fmaf in software."""
    tunables = "glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2,-AVX2_Usable"
    command = [sys.executable, str(bits.FILE.with_name("make_bits.py")), "--check"]
    result = subprocess.run(command, env=os.environ | {"GLIBC_TUNABLES": tunables}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_backend_runs_its_own_kernels(backend):
    """Only the CUDA kernels need workspace, on a GPU and under the emulator."""
    boxes = backend.to(torch.zeros(1000, 4))
    assert (_backend.C.nms_workspace(boxes) > 0) == (backend.name != "cpu")
