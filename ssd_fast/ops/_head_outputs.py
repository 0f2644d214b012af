"""Bring the arguments of postprocess into the form that the op takes: levels, columns, and one size or many."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from .. import arrays
from .._io.text import brief
from ..arrays import library_name, library_of
from ._arguments import real

_SIZES = "one (height, width), or one per image: a list of pairs or an integer array [N, 2]"


def as_levels(head: Any, argument: str) -> list[Any]:
    """Return a head output as a list of levels, after a check that each is an array with a batch axis."""
    levels = list(head) if isinstance(head, (list, tuple)) else [head]
    if not levels:
        raise ValueError(f"postprocess: {argument}: expected 1 to 8 levels, got none")
    for index, level in enumerate(levels):
        name = f"{argument}[{index}]" if len(levels) > 1 else argument
        library_of(level, "postprocess", name)
        if level.ndim not in (3, 4):
            last = "C" if argument == "cls_logits" else "4"
            expected = f"levels [N, A * {last}, h, w] or [N, P of the level, {last}]"
            if not isinstance(head, (list, tuple)):
                expected = f"[N, P, {last}], or a list of {expected}"
            raise ValueError(f"postprocess: {name}: expected {expected}, got shape {list(level.shape)}")
    return levels


def level_count_error(cls_logits: Any, bbox_regression: Any) -> ValueError:
    """Make the error for head outputs of different numbers of levels."""
    (levels, is_list), (given, given_list) = (
        (len(head), True) if isinstance(head, (list, tuple)) else (1, False) for head in (cls_logits, bbox_regression)
    )
    expected = f"{levels} level{'' if levels == 1 else 's'}, as cls_logits has"
    hint = "" if is_list == given_list else " (give both as lists of levels, or both as one array)"
    return ValueError(f"postprocess: bbox_regression: expected {expected}, got {given}{hint}")


def count_columns(logits: Any, deltas: Any) -> int:
    """Return C, for raw maps from the two channel counts.

    Raises:
        ValueError: the channels of raw maps leave no column.
    """
    if len(logits.shape) != 4:
        return arrays.dimension(logits, -1)
    channels, anchors = arrays.dimension(logits, 1), arrays.dimension(deltas, 1) // 4
    if anchors == 0 or channels < anchors:
        raise ValueError(
            "postprocess: cls_logits: expected A * C channels beside A * 4 of bbox_regression, got "
            f"{channels} beside {arrays.dimension(deltas, 1)}"
        )
    return channels // anchors


def as_sizes(sizes: Any, argument: str, like: Any) -> tuple[Any, list[float]]:
    """Return (an int64 [N, 2] array or None, one (height, width) or nothing)."""
    if sizes is None:
        return None, []
    if isinstance(sizes, (list, tuple)):
        if not sizes:  # for no images
            return arrays.empty((0, 2), "int64", like, "postprocess"), []
        if not any(isinstance(side, (list, tuple)) for side in sizes):
            try:
                return None, [real("postprocess", argument, side) for side in sizes]
            except TypeError as error:
                if any(getattr(side, "ndim", 0) for side in sizes):
                    raise TypeError(f"postprocess: {argument}: expected {_SIZES}, got a list of arrays") from error
                raise
        if isinstance(like, torch.Tensor) and like.is_cuda and _is_captured():
            raise ValueError(
                f"postprocess: {argument}: expected one (height, width) or a tensor on the device while a CUDA graph "
                "is captured, got a list, which would have to be copied"
            )
        if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in sizes):
            raise ValueError(f"postprocess: {argument}: expected {_SIZES}, got {brief(sizes)}")
        for side in itertools.chain(*sizes):
            is_number = isinstance(side, (int, float, np.integer, np.floating)) and not isinstance(side, bool)
            if not (is_number and 1 <= side <= 10**9 and float(side).is_integer()):
                raise ValueError(
                    f"postprocess: {argument}: expected whole numbers >= 1 in a list of pairs, got {side!r}"
                )
        pairs = [[int(side) for side in pair] for pair in sizes]
        return arrays.from_list(pairs, "int64", like, "postprocess"), []
    if library_name(sizes) is None:
        raise TypeError(f"postprocess: {argument}: expected {_SIZES}, got {brief(sizes)}")
    library, dtype = library_of(sizes, "postprocess", argument), arrays.dtype_name(sizes)
    if dtype not in ("int64", "int32", "int16", "uint8"):
        raise TypeError(f"postprocess: {argument}: expected integers, got {dtype}")
    if dtype == "int64":
        return sizes, []
    if library == "numba":
        raise TypeError(f"postprocess: {argument}: expected int64 (Numba converts nothing on the device), got {dtype}")
    return (sizes.long() if library == "torch" else sizes.astype("int64")), []


def _is_captured() -> bool:
    """Return whether a CUDA graph is being captured; False while torch.compile traces, since it cannot ask CUDA."""
    return not torch.compiler.is_compiling() and torch.cuda.is_current_stream_capturing()
