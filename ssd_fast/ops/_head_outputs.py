"""The arguments of postprocess in the form that the op takes: levels, columns, and one size or many."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from .. import arrays
from ..arrays import library_of
from ._arguments import real


def as_levels(head: Any, argument: str) -> list[Any]:
    """A head output as a list of levels, each known to be an array."""
    levels = list(head) if isinstance(head, (list, tuple)) else [head]
    if not levels:
        raise ValueError(f"postprocess: {argument}: expected 1 to 8 levels, got none")
    for index, level in enumerate(levels):
        library_of(level, "postprocess", f"{argument}[{index}]" if len(levels) > 1 else argument)
    return levels


def count_columns(logits: Any, deltas: Any) -> int:
    """C, for raw maps from the two channel counts.

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
    """(an int64 [N, 2] array or None, one (height, width) or nothing)."""
    if sizes is None:
        return None, []
    if isinstance(sizes, (list, tuple)):
        if not sizes:  # of no images
            return arrays.empty((0, 2), "int64", like, "postprocess"), []
        if not any(isinstance(side, (list, tuple)) for side in sizes):
            return None, [real("postprocess", argument, side) for side in sizes]
        if isinstance(like, torch.Tensor) and like.is_cuda and _is_captured():
            raise ValueError(
                f"postprocess: {argument}: expected one (height, width) or a tensor on the device while a CUDA graph "
                "is captured, got a list, which would have to be copied"
            )
        if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in sizes):
            raise ValueError(
                f"postprocess: {argument}: expected (height, width) or a list of such pairs, got {sizes!r}"
            )
        for side in itertools.chain(*sizes):
            is_number = isinstance(side, (int, float, np.integer, np.floating)) and not isinstance(side, bool)
            if not (is_number and 1 <= side <= 10**9 and float(side).is_integer()):
                raise ValueError(
                    f"postprocess: {argument}: expected whole numbers >= 1 in a list of pairs, got {side!r}"
                )
        pairs = [[int(side) for side in pair] for pair in sizes]
        return arrays.from_list(pairs, "int64", like, "postprocess"), []
    library, dtype = library_of(sizes, "postprocess", argument), arrays.dtype_name(sizes)
    if dtype not in ("int64", "int32", "int16", "uint8"):
        raise TypeError(f"postprocess: {argument}: expected integers, got {dtype}")
    if dtype == "int64":
        return sizes, []
    if library == "numba":
        raise TypeError(f"postprocess: {argument}: expected int64 (Numba converts nothing on the device), got {dtype}")
    return (sizes.long() if library == "torch" else sizes.astype("int64")), []


def _is_captured() -> bool:
    """Whether a CUDA graph is being captured, False while torch.compile traces, which cannot ask CUDA."""
    return not torch.compiler.is_compiling() and torch.cuda.is_current_stream_capturing()
