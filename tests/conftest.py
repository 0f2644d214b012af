"""Fixtures of all tests: the backend an op test runs on, the tolerances, and a deterministic hypothesis."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn

import checks
import pytest
import torch
from extensions import find_emulated, load_extension
from filling import filled
from hypothesis import HealthCheck, settings

settings.register_profile(
    "deterministic",
    derandomize=True,
    database=None,
    deadline=None,  # no test may depend on time
    max_examples=25,
    # The backend fixture holds no state that one example could leave to the next.
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
    """Before the fixtures: what a test draws depends on no test that ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _fresh_memory() -> Iterator[None]:
    """SSD_FAST_TEST_FILL=0xFF: the memory that the ops allocate starts as such bytes, whatever they are."""
    if byte := os.environ.get("SSD_FAST_TEST_FILL"):
        with filled(int(byte, 0)):
            yield
    else:
        yield


@pytest.fixture(name="one_thread")
def _one_thread() -> Iterator[None]:
    """For modules of many small tensors: `pytestmark = pytest.mark.usefixtures("one_thread")`."""
    with checks.one_thread():
        yield


@dataclass(frozen=True)
class Tolerance:
    """How far a result may be from the reference's: |actual - expected| <= atol + rtol * |expected|."""

    rtol: float
    atol: float


# The kernels' exp and log differ from torch's by an ulp or two; float16 and bfloat16 inputs are widened before anything
# is computed, so a value's tolerance is float32's whatever came in. Gradients are rounded to the dtype of their input.
_ULP = 2.0**-23
TOLERANCES = {
    ("encode_boxes", torch.float32): Tolerance(rtol=4 * _ULP, atol=1e-5),
    ("decode_boxes", torch.float32): Tolerance(rtol=4 * _ULP, atol=1e-4),
    ("decode_boxes", torch.float16): Tolerance(rtol=4 * _ULP, atol=1e-4),
    ("decode_boxes", torch.bfloat16): Tolerance(rtol=4 * _ULP, atol=1e-4),
    ("encode_boxes gradient", torch.float32): Tolerance(rtol=16 * _ULP, atol=1e-6),
    ("decode_boxes gradient", torch.float32): Tolerance(rtol=16 * _ULP, atol=1e-5),
    ("decode_boxes gradient", torch.float16): Tolerance(rtol=2.0**-10, atol=1e-5),
    ("decode_boxes gradient", torch.bfloat16): Tolerance(rtol=2.0**-7, atol=1e-5),
}


def assert_near(
    op: str, actual: torch.Tensor, expected: torch.Tensor, input_dtype: torch.dtype = torch.float32
) -> None:
    """Same shape, dtype and device, and within the tolerance of the op; NaN and infinities in the same places."""
    tolerance = TOLERANCES[op, input_dtype]
    torch.testing.assert_close(actual, expected, rtol=tolerance.rtol, atol=tolerance.atol, equal_nan=True)


@dataclass(frozen=True)
class Backend:
    """Where an op runs: the CPU kernels, the CUDA kernels under the emulator (on CPU tensors), or a GPU."""

    name: str
    device: torch.device

    def to(self, x: Any) -> Any:
        """x, a tensor or a list or tuple of them, where the backend wants it."""
        return type(x)(self.to(item) for item in x) if isinstance(x, (list, tuple)) else x.to(self.device)


@pytest.fixture(params=["cpu", "emulated", "cuda"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Backend:
    if request.param == "emulated":
        monkeypatch.setattr("ssd_fast._backend.C", emulated_extension())
    device = request.getfixturevalue("cuda") if request.param == "cuda" else torch.device("cpu")
    return Backend(request.param, device)


@pytest.fixture
def emulated() -> ModuleType:
    """The emulated extension itself, for tests that start a process of their own."""
    return emulated_extension()


@pytest.fixture
def cuda() -> torch.device:
    """For tests of what only a GPU has."""
    if not torch.cuda.is_available():
        _missing("SSD_FAST_REQUIRE_CUDA", "no CUDA device")
    return torch.device("cuda")


def emulated_extension() -> ModuleType:
    """The test-only build of the extension, which runs the source of the CUDA kernels on CPU arrays."""
    found = find_emulated()
    if found is None:
        _missing("SSD_FAST_REQUIRE_EMULATED", "the emulated extension is not built (make test builds it)")
    return load_extension(found)


def _missing(variable: str, reason: str) -> NoReturn:
    if os.environ.get(variable) == "1":
        pytest.fail(f"{reason}, and {variable}=1 requires it")
    pytest.skip(reason)
