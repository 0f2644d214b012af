"""Fixtures for all tests: the backend on which an op test runs, and a deterministic hypothesis."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from hypothesis import HealthCheck, settings

from helpers import checks
from helpers.backends import Backend, emulated_extension, skip_or_fail
from helpers.filling import filled
from helpers.paths import TESTS
from helpers.slow_tests import SECONDS

settings.register_profile(
    "deterministic",
    derandomize=True,
    database=None,
    deadline=None,  # tests must not depend on time
    max_examples=25,
    # The backend fixture holds no state that one example could pass to the next.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("deterministic")


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests for `pytest -m`, and put the files that take longest first, so that no process is left with one.

    gpu: uses a CUDA device, by the fixture `cuda` or by a parameter "cuda". slow: takes long, or has the emulator run
    what another of its parameters runs on the CPU.
    """
    seconds: dict[str, int] = {}
    for entry, cost in SECONDS.items():
        file = entry.partition("::")[0]
        seconds[file] = seconds.get(file, 0) + cost
    for item in items:
        callspec = getattr(item, "callspec", None)
        parameters = [x for x in callspec.params.values() if isinstance(x, str)] if callspec else []
        if "cuda" in getattr(item, "fixturenames", ()) or "cuda" in parameters:
            item.add_marker("gpu")
        file = _file(item)
        if file in SECONDS or f"{file}::{getattr(item, 'originalname', '')}" in SECONDS or "emulated" in parameters:
            item.add_marker("slow")
    items.sort(key=lambda item: -seconds.get(_file(item), 0))


def _file(item: pytest.Item) -> str:
    """Relative to the tests' folder; a whole path of what is not in it."""
    return str(item.path.relative_to(TESTS)) if item.path.is_relative_to(TESTS) else str(item.path)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed torch before the fixtures, so that a test's random numbers do not depend on earlier tests."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _fresh_memory() -> Iterator[None]:
    """With SSD_FAST_TEST_FILL=0xFF, or any other byte, fill the memory that the ops allocate with that byte."""
    if byte := os.environ.get("SSD_FAST_TEST_FILL"):
        with filled(int(byte, 0)):
            yield
    else:
        yield


@pytest.fixture(name="one_thread")
def _one_thread() -> Iterator[None]:
    """Run torch on one thread, for modules with many small tensors: `pytest.mark.usefixtures("one_thread")`."""
    with checks.one_thread():
        yield


@pytest.fixture(params=["cpu", "emulated", "cuda"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    if request.param == "emulated":
        monkeypatch.setattr("ssd_fast._backend.C", emulated_extension())
    device = request.getfixturevalue("cuda") if request.param == "cuda" else torch.device("cpu")
    return Backend(request.param, device)


@pytest.fixture
def emulated() -> ModuleType:
    """The emulated extension itself, for tests that start a process."""
    return emulated_extension()


@pytest.fixture
def cuda() -> torch.device:
    """The GPU, for tests that need one."""
    if not torch.cuda.is_available():
        skip_or_fail("SSD_FAST_REQUIRE_CUDA", "no CUDA device")
    return torch.device("cuda")
