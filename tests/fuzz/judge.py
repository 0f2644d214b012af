"""Judges whether an op keeps its promises for a call: the plain result, or an error that says what is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_leaves, tree_map

import ssd_fast
from helpers.checks import assert_same_bits, canonical_bytes
from helpers.extensions import using_extension

from . import layouts, specified
from .calls import Call, is_array
from .odd_arrays import FAKE_MODE

PROMISED = re.compile(r"^(\w+)(?: backward)?: ([^:]+): expected (.+), got (.+)$", re.DOTALL)
_SPECS = ("BoxCoderSpec", "DefaultBoxSpec", "LossSpec", "MatcherSpec", "PostprocessSpec")
_DATA_DEPENDENT = ("nms", "batched_nms")  # the result's shape depends on values; torch has its own words for that
_MOST_BYTES = 2**24  # of an array to read
_NO_MEMORY = ("can't allocate memory", "not enough memory", "Unable to allocate", "std::bad_alloc", "array is too big")


class Verdict(NamedTuple):
    """outcome: "accepted", "refused" or "finding". kind: of the refusal or finding. text: describes a finding."""

    outcome: str
    kind: str = ""
    text: str = ""


class Backends(NamedTuple):
    """The extension under test, and the one that makes the plain results."""

    tried: Any
    plain: Any


def judge(call: Call, number: int, backends: Backends) -> Verdict:
    """Make the call, and the same call with plain copies of its arrays."""
    before = [_bytes(leaf) for leaf in _arrays(call.arguments)]
    try:
        with warnings.catch_warnings(), using_extension(backends.tried):
            warnings.simplefilter("ignore")
            arguments = call.built()
            outputs, grads = _run(call, arguments)
    except Exception as error:
        return _refusal(call, error)
    if call.must_refuse:
        return Verdict("finding", "accepted an invalid call", _oddity(call.must_refuse))
    if call.shapes_only:
        return _judge_shapes(call, arguments, outputs)
    if before != [_bytes(leaf) for leaf in _arrays(call.arguments)]:
        return Verdict("finding", "modified its input", call.op)
    if wrong := _wrong_library(call, outputs):
        return Verdict("finding", "result of the wrong library", wrong)
    try:
        _compare(call, number, backends, arguments, outputs, grads)
    except AssertionError as error:
        return Verdict("finding", "wrong result", str(error))
    except Exception as error:
        return Verdict("finding", "accepted a call that fails on plain arrays", f"{type(error).__name__}: {error}")
    return Verdict("accepted")


def _judge_shapes(call: Call, arguments: dict[str, Any], outputs: Any) -> Verdict:
    """Judge a call with arrays without memory: results have none either, in the shapes that zeros give."""
    outputs = tree_leaves(outputs)
    if not all(isinstance(x, FakeTensor) or x.is_meta for x in outputs):
        return Verdict("finding", "a result with memory", "of arrays without")
    zeros = {name: _plain(value) for name, value in arguments.items()}
    try:
        expected, _ = _run(dataclasses.replace(call, shapes_only=False, backward=""), zeros)
    except Exception as error:
        return Verdict("finding", "accepted without memory alone", str(error))
    forms = [[(tuple(x.shape), x.dtype) for x in leaves] for leaves in (outputs, tree_leaves(expected))]
    if forms[0] != forms[1]:
        return Verdict("finding", "wrong shapes", f"{forms[0]}, expected {forms[1]}")
    return Verdict("accepted")


def _compare(call: Call, number: int, backends: Backends, arguments: dict[str, Any], outputs: Any, grads: Any) -> None:
    outputs, grads = tree_map(_as_tensor, (outputs, grads))
    copies = {name: _plain(value) for name, value in arguments.items()}
    if call.oddities or backends.tried is not backends.plain or not isinstance(next(_arrays(arguments), 0), Tensor):
        with using_extension(backends.plain):
            plain_outputs, plain_grads = _run(call, copies)
        assert_same_bits(_tensors((outputs, grads)), _tensors((plain_outputs, plain_grads)))
    if specified.can_specify(call, copies, number):
        specified.compare(call, _requiring_grad(call, copies), outputs, grads)


# ---- calls ----------------------------------------------------------------------------------------------------------


def _run(call: Call, arguments: dict[str, Any]) -> tuple[Any, Any]:
    """Return the outputs and the gradients of arguments that require grad."""
    op = getattr(ssd_fast, call.op)
    if call.dual:
        with torch.autograd.forward_ad.dual_level():
            x = arguments[call.dual]
            dual = torch.autograd.forward_ad.make_dual(x.detach().clone(), torch.ones_like(x))
            return op(**{**arguments, call.dual: dual}), None
    arguments = _requiring_grad(call, arguments)
    fake = call.shapes_only and any(isinstance(x, FakeTensor) for x in _arrays(arguments))
    with FAKE_MODE if fake else contextlib.nullcontext():
        outputs = op(**arguments)
    return outputs, None if call.shapes_only else specified.gradients(call, outputs, arguments)


def _requiring_grad(call: Call, arguments: dict[str, Any]) -> dict[str, Any]:
    if not call.backward:
        return arguments
    arguments = dict(arguments)
    for name in specified.DIFFERENTIABLE[call.op]:
        x = arguments[name]
        if isinstance(x, Tensor) and x.dtype.is_floating_point:
            arguments[name] = x.detach().requires_grad_()
    return arguments


# ---- refusals -------------------------------------------------------------------------------------------------------


def _refusal(call: Call, error: Exception) -> Verdict:
    """Classify an error: a refusal in the promised form, an error of torch or the system, or a finding."""
    text, kind = str(error), type(error).__name__
    promised = PROMISED.match(text)
    derivative = bool(call.dual) or call.must_refuse.endswith("requires grad")
    promised_type = (ValueError, TypeError, RuntimeError) if derivative else (ValueError, TypeError)
    if promised and promised[1] in (call.op, *_SPECS) and isinstance(error, promised_type):
        if all(map(_harmless, call.oddities)):
            return Verdict("finding", "refused a valid call", text)
        return Verdict("refused", "derivative" if derivative else _kind_of(error, promised[3]))
    if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
        return Verdict("refused", "memory")
    if call.dual and isinstance(error, NotImplementedError) and "forward AD" in text:
        return Verdict("refused", "derivative")
    mixed = call.must_refuse.endswith("fake") and "FakeTensor" in text
    if mixed or (call.shapes_only and call.op in _DATA_DEPENDENT):
        return Verdict("refused", "no memory behind it")
    return Verdict("finding", f"{kind} not in the promised form", text)


def _harmless(oddity: str) -> bool:
    """Return whether the oddity is a layout, which every op accepts."""
    return _oddity(oddity) in (*layouts.TORCH, *layouts.NUMPY)


def _kind_of(error: Exception, expected: str) -> str:
    if "shape" in expected or "dimension" in expected:
        return "shape"
    if "device" in expected or "CPU" in expected or "memory" in expected:
        return "device"
    if re.search(r"\b(b?float|u?int)(8|16|32|64)\b|\bbool\b", expected):
        return "dtype"
    return "type" if isinstance(error, TypeError) else "value"


def _oddity(text: str) -> str:
    """Return the oddity without its argument, so that all arguments give one kind of finding."""
    return text.partition(": ")[2]


# ---- arrays ---------------------------------------------------------------------------------------------------------


def _arrays(arguments: dict[str, Any]) -> Iterator[Any]:
    for value in arguments.values():
        yield from filter(is_array, value if isinstance(value, (list, tuple)) else (value,))


def _bytes(x: Any) -> bytes | None:
    """Return the bits of the elements, or None if the array is too large or has none to read."""
    if isinstance(x, np.ndarray):
        return None if x.dtype.hasobject or x.nbytes > _MOST_BYTES else x.tobytes()
    if x.layout != torch.strided or x.is_nested or x.is_quantized or x.is_meta or isinstance(x, FakeTensor):
        return None
    if x.numel() * x.element_size() > _MOST_BYTES or x.dtype == torch.float8_e4m3fn:
        return None
    return canonical_bytes(x.detach().resolve_neg().resolve_conj())


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _as_tensor(x: Any) -> Any:
    return torch.from_numpy(x) if isinstance(x, np.ndarray) else x


def _plain(value: Any) -> Any:
    """Return arrays as torch tensors, contiguous in fresh memory, zeros if they had none; return all else unchanged."""
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value, order="C", subok=False))
    if isinstance(value, FakeTensor) or (isinstance(value, Tensor) and value.is_meta):
        return torch.zeros(value.shape, dtype=value.dtype)
    if isinstance(value, Tensor):
        copy = value.detach().as_subclass(Tensor).resolve_neg().clone(memory_format=torch.contiguous_format)
        return copy.requires_grad_(value.requires_grad)
    return value


def _wrong_library(call: Call, outputs: Any) -> str:
    """Return what is wrong with the type of the results, or ""."""
    expected = np.ndarray if isinstance(next(_arrays(call.arguments), None), np.ndarray) else Tensor
    for leaf in tree_leaves(outputs):
        if not isinstance(leaf, expected):
            return f"{type(leaf).__name__}, expected {expected.__name__}"
    return ""
