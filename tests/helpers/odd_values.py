"""Odd values, which each field of a spec and each argument must accept, or refuse by its own name."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import numpy as np
import torch


def deep_list() -> list[Any]:
    """Return a list nested deeper than Python's recursion reaches."""
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


ODD: dict[str, Any] = {
    "none": None,
    "true": True,
    "zero": 0,
    "one": 1,
    "minus one": -1,
    "whole float": 3.0,
    "half": 5.5,
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "0 in float32": 1e-60,
    "subnormal in float32": 1e-40,
    "inf in float32": 1e39,
    "1 in float32": 1 - 1e-12,
    "past int32": 2**31,
    "past int64": 2**63,
    "past float64": 10**400,
    "of too many digits": 10**5000,
    "fraction": Fraction(1, 3),
    "complex": 1j,
    "numpy int": np.int64(3),
    "numpy float": np.float32(0.25),
    "numpy bool": np.bool_(True),
    "numpy array": np.array([0.5, 0.25]),
    "numpy ints": np.array([[3, 3]]),
    "numpy scalar array": np.array(3),
    "tensor": torch.tensor([0.5, 0.25]),
    "scalar tensor": torch.tensor(0.5),
    "text": "softmx",
    "digits": "3",
    "bytes": b"xy",
    "empty tuple": (),
    "list": [0.1, 0.1, 0.2, 0.2],
    "pair": [0, 1],
    "texts": ["a", "b"],
    "nested": [[[3, 3]]],
    "deep": deep_list(),
    "range": range(10**12),
    "dict": {"a": 1},
    "set": {1, 2},
    "object": object(),
    "class": int,
}

_PROMISED = re.compile(r"[\w.]+: [\w., \[\]]+: expected .+, got .+", re.DOTALL)


def is_promised(error: BaseException, field: str) -> bool:
    """Return whether the error has the promised form and names the field, on one line of readable length."""
    text = str(error)
    return (
        bool(_PROMISED.match(text)) and field in text.split(": expected")[0] and "\n" not in text and len(text) < 1200
    )
