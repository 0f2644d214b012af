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
    """Mark the tests that use a CUDA device, for `pytest -m gpu`: by the fixture `cuda`, or by a parameter "cuda"."""
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if "cuda" in getattr(item, "fixturenames", ()) or any(isinstance(x, str) and x == "cuda" for x in parameters):
            item.add_marker("gpu")


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
