"""Mutations of an array of a call. Each returns the replacement, its description, and whether every op must refuse
it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from . import odd_arrays
from .calls import Call, Place, get, note, places, put

Change = tuple[Any, str, bool]

_FLOATS, _HEADS = ("float32", "float64"), ("float32", "float16", "bfloat16")
_DTYPES = {
    "boxes1": _FLOATS,
    "boxes2": _FLOATS,
    "boxes": _FLOATS,
    "scores": _FLOATS,
    "idxs": ("int64",),
    "deltas": _HEADS,
    "cls_logits": _HEADS,
    "bbox_regression": _HEADS,
    "default_boxes": ("float32",),
    "gt_boxes": ("float32",),
    "gt_labels": ("int64",),
    "gt_ignored": ("bool", "uint8"),
    "matched_idxs": ("int64",),
}
_WIDE_OPS = ("box_iou", "nms", "batched_nms")  # compute float64 in float64
_OF_INDICES = ("nms", "batched_nms", "nms_padded", "match")  # their results have no derivatives
_SIZES = ("image_sizes", "original_sizes")  # integers of any kind, and lists
_OPTIONAL = ("gt_ignored", *_SIZES)


def mutate_array(call: Call, rng: random.Random) -> None:
    """Change one array, or all of them; change nothing without arrays, or if the drawn change does not apply."""
    if not (found := _arrays_of(call)):
        return
    place = rng.choice(found)
    kind = rng.choices(list(_KINDS), list(_KINDS.values()))[0]
    if change := kind(call, place, get(call.arguments, place), rng):
        value, text, must_refuse = change
        put(call.arguments, place, value)
        name, index = place
        note(call, f"{name if index is None else f'{name}[{index}]'}: {text}", must_refuse)


def _arrays_of(call: Call) -> list[Place]:
    """Return the places where arrays belong and are; a number may have become an array, too."""
    return [place for place in places(call.arguments) if place[0] in _DTYPES or place[0] in _SIZES]


def _dtype(call: Call, place: Place, x: Any, rng: random.Random) -> Change:
    name, index = place
    value, text = odd_arrays.other_dtype(x, rng)
    if name in _SIZES:
        return value, text, "int" not in text
    allowed = _DTYPES[name]
    if name == "gt_boxes" and index == 1 and isinstance(call.arguments[name], tuple):
        allowed = ("int64",)  # offsets
    if allowed == _FLOATS and call.op not in _WIDE_OPS:
        allowed = ("float32",)
    return value, text, text not in allowed


def _shape(call: Call, place: Place, x: Any, rng: random.Random) -> Change:
    return *odd_arrays.other_shape(x, rng), False


def _huge(call: Call, place: Place, x: Any, rng: random.Random) -> Change:
    call.huge = True
    return *odd_arrays.huge(x, rng), False


def _foreign(call: Call, place: Place, x: Any, rng: random.Random) -> Change:
    table = odd_arrays.NUMPY_FOREIGN if isinstance(x, np.ndarray) else odd_arrays.TORCH_FOREIGN
    text = rng.choice(list(table))
    call.shapes_only = text in odd_arrays.SHAPES_ONLY and len(_arrays_of(call)) == 1
    return table[text](x), text, not call.shapes_only


def _kin(call: Call, place: Place, x: Any, rng: random.Random) -> Change:
    table = odd_arrays.NUMPY_KIN if isinstance(x, np.ndarray) else odd_arrays.TORCH_KIN
    text = rng.choice(list(table))
    return table[text](x), text, False


def _no_array(call: Call, place: Place, x: Any, rng: random.Random) -> Change:
    text = rng.choice(list(odd_arrays.NO_ARRAYS))
    value = odd_arrays.NO_ARRAYS[text](x)
    return value, text, not (value is None and place[0] in _OPTIONAL)


def _list(call: Call, place: Place, x: Any, rng: random.Random) -> Change:
    value = x.tolist() if np.prod(x.shape) < 100 else [1.0]
    no_images = value == [] and place[1] is None
    return value, "a list", place[0] not in _OPTIONAL and not no_images


def _library(call: Call, place: Place, x: Any, rng: random.Random) -> Change:
    if isinstance(x, np.ndarray):
        value: Any = torch.from_numpy(np.array(x))
    else:
        value = (x.float() if x.dtype == torch.bfloat16 else x).detach().resolve_neg().numpy()
    return value, "of the other library", len(_arrays_of(call)) > 1


def _grad(call: Call, place: Place, x: Any, rng: random.Random) -> Change | None:
    arrays = [get(call.arguments, each) for each in _arrays_of(call)]
    if not all(isinstance(each, torch.Tensor) and not each.is_inference() for each in arrays):
        return None  # torch differentiates none of these
    if not x.dtype.is_floating_point:
        return None
    dropped = place[0] in ("default_boxes", "gt_boxes") and call.op in ("encode_boxes", "decode_boxes", "multibox_loss")
    return x.detach().requires_grad_(), "requires grad", dropped


def _dual(call: Call, place: Place, x: Any, rng: random.Random) -> Change | None:
    if isinstance(x, np.ndarray) or not x.dtype.is_floating_point or place[1] is not None:
        return None
    call.dual = place[0]
    return x, "a dual tensor", call.op not in _OF_INDICES


def _all(call: Call, place: Place, x: Any, rng: random.Random) -> Change | None:
    arrays = {each: get(call.arguments, each) for each in _arrays_of(call)}
    if not all(isinstance(each, torch.Tensor) for each in arrays.values()):
        return None
    form = rng.choice(odd_arrays.SHAPES_ONLY)
    for each, array in arrays.items():
        put(call.arguments, each, odd_arrays.TORCH_FOREIGN[form](array))
    call.shapes_only = True
    return get(call.arguments, place), f"{form}, as all others", False


_KINDS: dict[Callable[[Call, Place, Any, random.Random], Change | None], int] = {
    _dtype: 4,
    _shape: 6,
    _huge: 2,
    _foreign: 4,
    _kin: 2,
    _no_array: 2,
    _list: 1,
    _library: 1,
    _grad: 1,
    _dual: 1,
    _all: 1,
}
