"""What every op asks of its arguments, so that whatever is wrong is named in one form, here and not deep inside torch.

Shapes, dtypes and values are checked where the kernels are called (csrc/common/view.h), or, of tensors that have no
values, in `_fakes`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad

from .. import arrays

_NUMBERS = (int, float, np.integer, np.floating, torch.SymInt, torch.SymFloat)
_INTEGERS = (int, np.integer, torch.SymInt)
_KINDS = {
    "torch": "a torch tensor",
    "numpy": "a NumPy array",
    "cupy": "a CuPy array",
    "numba": "a Numba device array",
}


def check_arrays(op: str, **named: Any) -> str:
    """Require arrays of one library, and torch tensors of one device.

    Args: named: the arguments by name; of a list of arrays, `**each(name, arrays)`.
    Returns: the library, as arrays.library_of names it.
    Raises: TypeError: not an array that kernels can read, or one of another library than the first; ValueError: a
        tensor on another device than the first, or on neither a CPU nor a CUDA GPU.
    """
    pairs = iter(named.items())
    first_name, first = next(pairs)
    library = arrays.library_of(first, op, first_name)
    if library == "torch" and first.device.type not in ("cpu", "cuda", "meta"):
        raise ValueError(f"{op}: {first_name}: expected a tensor on the CPU or a CUDA GPU, got {first.device}")
    for name, array in pairs:
        if (given := arrays.library_of(array, op, name)) != library:
            raise TypeError(f"{op}: {name}: expected {_KINDS[library]}, as {first_name} is, got {_KINDS[given]}")
        if library == "torch" and array.device != first.device:
            raise ValueError(f"{op}: {name}: expected device {first.device}, as of {first_name}, got {array.device}")
    return library


def each(name: str, values: Any) -> dict[str, Any]:
    """The items of a list or tuple under names such as "gt_boxes[0]"; anything else under the name itself."""
    if isinstance(values, (list, tuple)):
        return {f"{name}[{index}]": item for index, item in enumerate(values)}
    return {name: values}


def refuse_gradient(op: str, **tensors: Any) -> None:
    """Raise for tensors by which the op is not differentiated, though a gradient is asked for.

    Raises: ValueError naming the argument.
    """
    if torch.is_grad_enabled():
        for name, tensor in tensors.items():
            if isinstance(tensor, torch.Tensor) and tensor.requires_grad:
                expected = "a tensor that requires no gradient (there is none with respect to it: .detach() it)"
                raise ValueError(f"{op}: {name}: expected {expected}, got requires_grad=True")


def refuse_forward_mode(op: str, **named: Any) -> None:
    """Raise for tangents of forward-mode differentiation, which the ops would drop.

    Raises: RuntimeError naming the argument.
    """
    if getattr(forward_ad, "_current_level", -1) >= 0:  # within forward_ad.dual_level, torch.func.jvp or jacfwd
        for name, tensor in named.items():
            if isinstance(tensor, torch.Tensor) and forward_ad.unpack_dual(tensor).tangent is not None:
                raise RuntimeError(
                    f"{op}: {name}: expected a tensor without a tangent, since forward-mode derivatives are not "
                    "computed (use reverse mode), got one with a tangent"
                )


def real(op: str, argument: str, value: Any) -> Any:
    """A number as a float: Python's, NumPy's, a traced one, or an array without dimensions.

    Raises: TypeError: something else, a bool too; ValueError: an int beyond the floats.
    """
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
    """A whole number as an int: Python's, NumPy's, a traced one, or an array without dimensions.

    Raises: TypeError: something else, a bool or a float too; ValueError: one of more than 64 bits.
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


def _item(value: Any) -> Any:
    """The element of an array without dimensions, such as `for threshold in torch.linspace(...)` gives."""
    is_scalar = isinstance(value, (torch.Tensor, np.ndarray)) and value.ndim == 0
    return value.item() if is_scalar else value


def _described(value: Any) -> str:
    return f"{value!r:.60}" if isinstance(value, (str, float, bool, type(None))) else type(value).__name__
