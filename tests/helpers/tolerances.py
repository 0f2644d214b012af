"""Tolerances between the results of the box coder and the reference's."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Tolerance:
    """The largest accepted difference from the reference: |actual - expected| <= atol + rtol * |expected|."""

    rtol: float
    atol: float


# The kernels' exp and log differ from torch's by an ulp or two; float16 and bfloat16 inputs are widened before anything
# is computed, so a value's tolerance is float32's for any input. Gradients are rounded to the dtype of their input.
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
    """Check for equal shape, dtype and device, the tolerance of the op, and NaN and infinities in the same places."""
    tolerance = TOLERANCES[op, input_dtype]
    torch.testing.assert_close(actual, expected, rtol=tolerance.rtol, atol=tolerance.atol, equal_nan=True)
