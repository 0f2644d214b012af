"""Tests that end in every way: how the report takes each is known (rehearsals.py)."""

from __future__ import annotations

import os
import signal
import time

import pytest

pytestmark = pytest.mark.gpu  # as conftest.py marks the real ones, by their fixture cuda


def test_passes():
    assert True


def test_fails():
    assert "the GPU's bits" == "the CPU's bits"


def test_is_skipped():
    pytest.skip("needs two GPUs")


def test_loses_the_context():
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_passes_after_it():
    assert True


def test_crashes():
    os.kill(os.getpid(), signal.SIGSEGV)


def test_passes_after_the_crash():
    assert True


def test_hangs():
    time.sleep(10_000)


def test_passes_at_last():
    assert True
