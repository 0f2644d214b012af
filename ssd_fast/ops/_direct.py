"""Decide which calls may skip torch's dispatcher: calls on plain tensors that nothing observes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.autograd import forward_ad, profiler

try:
    from torch._C import _is_tracing, _len_torch_dispatch_stack, _len_torch_function_stack
    from torch._C._functorch import peek_interpreter_stack

    _PROBES_EXIST = True
except ImportError:  # another version of torch: then every call counts as observed
    _PROBES_EXIST = False

_PLAIN_TYPES = (torch.Tensor, torch.nn.Parameter)


def is_observed() -> bool:
    """Return whether anything has to see the registered op.

    That is torch.compile, export, jit.trace, a TorchDispatchMode (such as FakeTensorMode), a TorchFunctionMode, a
    transform of torch.func, forward-mode differentiation, or a profiler.
    """
    return (
        is_traced()  # first, since torch.compile traces no further
        or _len_torch_function_stack() > 0
        or getattr(forward_ad, "_current_level", 0) >= 0
        or getattr(profiler, "_is_profiler_enabled", True)
    )


def is_traced() -> bool:
    """Return whether tensors may stand for others, so that no decision may depend on their values.

    That is torch.compile, export, jit.trace, a TorchDispatchMode or a transform of torch.func.
    """
    return (
        torch.compiler.is_compiling()  # first, since torch.compile traces no further
        or not _PROBES_EXIST
        or _is_tracing()
        or _len_torch_dispatch_stack() > 0
        or peek_interpreter_stack() is not None
    )


def are_plain(values: Iterable[Any], device: torch.device, differentiable: bool) -> bool:
    """Return whether all tensors are strided memory on this device, of no subclass, and none of them awaits a gradient.

    Args:
        values: tensors, None, or lists of tensors.
        device: where they have to be.
        differentiable: whether the op has a gradient.
    """
    awaits_gradient = differentiable and torch.is_grad_enabled()
    for value in values:
        for tensor in value if type(value) is list else (value,):
            if tensor is None:
                continue
            if (
                type(tensor) not in _PLAIN_TYPES
                or tensor.layout is not torch.strided
                or tensor.is_quantized
                or tensor.is_nested
                or tensor.device != device
                or (awaits_gradient and tensor.requires_grad)
            ):
                return False
    return device.type in ("cpu", "cuda")
