"""Check tensors without values (meta tensors and tensors of a trace) the way csrc checks others, as far as possible.

Sizes that are only known when the traced program runs pass here; the kernels' own checks see them then. Counts of other
arrays are checked here too where csrc would see them only after inputs are copied and outputs allocated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_MAX_DIMS = 6  # kMaxDims
_MOST = 2**31 - 1 - 4096  # Checks::fits_int32
HEAD_DTYPES = (torch.float32, torch.float16, torch.bfloat16)  # of head outputs


def check_fake(
    op: str,
    argument: str,
    tensor: torch.Tensor,
    shape: Sequence[Any],
    dtypes: Sequence[torch.dtype],
    like: torch.Tensor,
) -> None:
    """Check a tensor without values as Checks::array (csrc/common/view.h) checks others, with the same messages.

    Args:
        op: the op, for messages.
        argument: the argument, for messages.
        tensor: the tensor.
        shape: the sizes that it has to have; None stands for any size.
        dtypes: the dtypes that it may have.
        like: a tensor on the device where it has to be.
    """

    def differ(expected: Any, given: Any) -> bool:
        return isinstance(expected, int) and isinstance(given, int) and expected != given

    if tensor.ndim > _MAX_DIMS:
        raise ValueError(f"{op}: {argument}: expected at most {_MAX_DIMS} dimensions, got {tensor.ndim}")
    if tensor.ndim != len(shape) or any(map(differ, shape, tensor.shape)):
        expected = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{op}: {argument}: expected shape [{expected}], got {list(tensor.shape)}")
    if tensor.dtype not in dtypes:
        expected = " or ".join(_name(dtype) for dtype in dtypes)
        given = f"{_name(tensor.dtype)} (convert it, e.g. with .to() or .astype())"
        raise TypeError(f"{op}: {argument}: expected {expected}, got {given}")
    if tensor.device != like.device:
        raise ValueError(f"{op}: {argument}: expected device {like.device}, got {tensor.device}")


def check_count(op: str, argument: str, count: Any, least: int) -> None:
    """Check a number, unless it is only known when the program runs, as Checks::at_least and fits_int32 do."""
    if isinstance(count, int) and count < least:
        raise ValueError(f"{op}: {argument}: expected at least {least}, got {count}")
    if isinstance(count, int) and count > _MOST:
        raise ValueError(f"{op}: {argument}: expected at most {_MOST} elements, got {count}")


def check_fake_levels(logits: Sequence[torch.Tensor], deltas: Sequence[torch.Tensor], columns: Any) -> Any:
    """Check levels without values as postprocess (csrc/postprocess/postprocess.h) checks others.

    Returns:
        P, the number of rows of all levels.
    """
    if len(logits) > 8:
        raise ValueError(f"postprocess: cls_logits: expected 1 to 8 levels, got {len(logits)}")
    if logits[0].ndim not in (3, 4):
        check_fake("postprocess", "cls_logits", logits[0], (None, None, None), HEAD_DTYPES, logits[0])
    images, rows = logits[0].shape[0], 0
    shapes: tuple[tuple[Any, ...], tuple[Any, ...]]
    for index, (level, regression) in enumerate(zip(logits, deltas, strict=True)):
        place = f"[{index}]" if len(logits) > 1 else ""
        if level.ndim == 4:
            _, channels, height, width = level.shape
            anchors = channels // columns
            shapes = (images, anchors * columns, None, None), (images, 4 * anchors, height, width)
            rows = rows + anchors * height * width
        else:
            count = level.shape[1] if level.ndim == 3 else None
            shapes = (images, None, columns), (images, count, 4)
        check_fake("postprocess", f"cls_logits{place}", level, shapes[0], _same(logits[0].dtype), logits[0])
        check_fake("postprocess", f"bbox_regression{place}", regression, shapes[1], _same(deltas[0].dtype), logits[0])
        if level.ndim == 3:
            rows = rows + level.shape[1]
    return rows


def _same(dtype: torch.dtype) -> tuple[torch.dtype, ...]:
    """Return the dtypes that the levels of a head may have if one level has this dtype."""
    return (dtype,) if dtype in HEAD_DTYPES else HEAD_DTYPES


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
