"""Check arguments for every op, and word all errors about arguments in one place.

Shapes, dtypes and values are checked where the kernels are called (csrc/common/view.h) or, for tensors without values,
in `_fakes`. This module explains the errors that torch or the binding raises for arrays that do not even get there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad

from ..arrays import allocation_error, named_arrays, require_same_library
from ._direct import are_plain, is_observed
from ._library import Op

_NUMBERS = (int, float, np.integer, np.floating, torch.SymInt, torch.SymFloat)
_INTEGERS = (int, np.integer, torch.SymInt)
_ONLY_INDICES = ("nms", "batched_nms", "nms_padded", "match")  # ops whose results have no derivative


def call(
    op: Op,
    named: dict[str, Any],
    *numbers: Any,
    specs: Sequence[Any] = (),
    optional: Collection[str] = (),
    lists: Collection[str] = (),
) -> Any:
    """Run an op; if an array keeps it from running, name the array.

    Args:
        op: the op.
        named: the arrays in order, by the names of the op's arguments; the first decides which library is used.
        numbers: the arguments that follow the arrays.
        specs: the specs that the op's options are packed from.
        optional: the names that may be None.
        lists: the names that stand for lists of arrays.

    Raises:
        TypeError: not an array that kernels can read, or one of another library than the first.
        ValueError: a tensor on another device than the first, or on neither a CPU nor a CUDA GPU.
        RuntimeError: forward-mode differentiation, or derivatives by torch.func. If memory is lacking, the error of the
            arrays' library is raised.
    """
    name = op.name
    try:
        arguments = (*named.values(), *numbers)
        first = arguments[0]
        if lists:
            first = first[0]
        if not isinstance(first, torch.Tensor):
            # Before the call, which would read other libraries' arrays and ignore masks.
            require_same_library(name, named, optional, lists)
            return op.call_directly(arguments, specs)
        if not is_observed() and are_plain(named.values(), first.device, op.differentiable):
            return op.call_directly(arguments, specs)
        if getattr(forward_ad, "_current_level", -1) >= 0 and name not in _ONLY_INDICES:
            _refuse_tangents(op, named, lists)  # within torch.func.jvp, jacfwd or forward_ad.dual_level
        return op.call_registered(arguments, specs)
    except Exception as error:
        if not str(error).startswith(f"{name}:"):  # torch or the binding worded it
            if isinstance(error, MemoryError):
                raise allocation_error(name, error) from error
            try:
                require_same_library(name, named, optional, lists)
            except (TypeError, ValueError) as explained:
                raise explained from None
            if "functorch" in str(error):
                instead = "derivatives by torch.autograd" if op.differentiable else "a call outside torch.func"
                expected = f"{instead} (torch.func does not support this op)"
                raise RuntimeError(f"{name}: expected {expected}, got a transform of torch.func") from None
        raise


def refuse_gradient(op: str, needs_gradient: bool, argument: str) -> None:
    """Raise ValueError if a gradient is asked for that the op does not compute."""
    if needs_gradient:
        expected = "a tensor that requires no gradient (the op computes none for it: .detach() it)"
        raise ValueError(f"{op}: {argument}: expected {expected}, got requires_grad=True")


def real(op: str, argument: str, value: Any) -> Any:
    """Return a number as a float: Python's, NumPy's, a traced one, or an array without dimensions.

    Raises:
        TypeError: the value is something else, such as a bool.
        ValueError: the value is an int beyond the floats.
    """
    if type(value) is float:
        return value
    value = _item(value)
    if not isinstance(value, _NUMBERS) or isinstance(value, bool):
        raise TypeError(f"{op}: {argument}: expected a number, got {_described(value)}")
    if isinstance(value, (torch.SymInt, torch.SymFloat)):
        return value
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{op}: {argument}: expected a finite number, got an int beyond the floats") from error


def integer(op: str, argument: str, value: Any) -> Any:
    """Return a whole number as an int: Python's, NumPy's, a traced one, or an array without dimensions.

    Raises:
        TypeError: the value is something else, such as a bool or a float.
        ValueError: the value has more than 64 bits.
    """
    value = _item(value)
    if not isinstance(value, _INTEGERS) or isinstance(value, bool):
        raise TypeError(f"{op}: {argument}: expected an int, got {_described(value)}")
    if isinstance(value, torch.SymInt):
        return value
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{op}: {argument}: expected an int of 64 bits, got a larger one")
    return int(value)


def check_spec(op: str, argument: str, value: Any, kind: type) -> None:
    """Raise TypeError unless the value is a spec of this kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{op}: {argument}: expected a {kind.__name__}, got {type(value).__name__}")


def _refuse_tangents(op: Op, named: dict[str, Any], lists: Collection[str]) -> None:
    why = (
        "forward-mode derivatives are not computed (use reverse mode)"
        if op.differentiable
        else "this op has no gradient"
    )
    for name, tensor in named_arrays(named, named, lists):
        if isinstance(tensor, torch.Tensor) and forward_ad.unpack_dual(tensor).tangent is not None:
            raise RuntimeError(
                f"{op.name}: {name}: expected a tensor without a tangent, since {why}, got one with a tangent"
            )


def _item(value: Any) -> Any:
    """Return the element of an array without dimensions, such as `for threshold in torch.linspace(...)` gives."""
    is_scalar = isinstance(value, (torch.Tensor, np.ndarray)) and value.ndim == 0
    return value.item() if is_scalar and getattr(value, "is_meta", False) is False else value


def _described(value: Any) -> str:
    return f"{value!r:.60}" if isinstance(value, (str, float, bool, type(None))) else type(value).__name__
