"""default_boxes: the boxes that each cell of each feature map carries."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .. import _backend, arrays
from .._io.text import brief
from ..arrays import allocation_error
from ..specs import DefaultBoxSpec
from ._arguments import check_spec
from ._direct import is_observed
from ._library import register
from ._options import as_keywords

_MOST_KEPT = 2**16  # boxes, a MiB per spec


def default_boxes(spec: DefaultBoxSpec, *, device: Any = None) -> torch.Tensor:
    """Make the default boxes of an SSD, in the order of its heads' outputs.

    Args:
        spec: feature maps, box sizes, steps, clipping, units and row order.
        device: of the result; None: the CPU.

    Returns:
        float32 [P, 4] xyxy, P = spec.num_boxes: map after map, each in the order spec.row_order. The tensor is the
            caller's own, though on the CPU boxes are computed once per spec and then copied.

    Ties:
        None.

    Grad:
        None.

    Syncs:
        Never.

    Raises:
        TypeError: spec is not a DefaultBoxSpec.
        ValueError: the device is unknown.

    Source:
        Liu et al. 2016, section 2.2; bit-equal to OpenCV's PriorBox.

    Specification:
        ssd_fast.reference.default_boxes

    Examples:
        A map of 5x5 cells with three boxes per cell:

        >>> import ssd_fast
        >>> sizes = ((60, 60), (85, 42), (42, 85))
        >>> spec = ssd_fast.DefaultBoxSpec(image_size=(300, 300), feature_maps=((5, 5),), box_sizes=(sizes,))
        >>> boxes = ssd_fast.default_boxes(spec)
        >>> boxes.shape
        torch.Size([75, 4])
        >>> boxes[:3]
        tensor([[  0.0000,   0.0000,  60.0000,  60.0000],
                [-12.5000,   9.0000,  72.5000,  51.0000],
                [  9.0000, -12.5000,  51.0000,  72.5000]])
    """
    check_spec("default_boxes", "spec", spec, DefaultBoxSpec)
    found = _device(device)
    if is_observed() or found.type == "meta":
        return _op.call_registered((found,), (spec,))
    if found.type == "cpu" and spec.num_boxes <= _MOST_KEPT:
        kept = _kept(spec, _backend.C)
        try:
            return kept.clone()
        except Exception as error:
            raise allocation_error("default_boxes", error, kept.nbytes) from error
    return _op.call_directly((found,), (spec,))


class DefaultBoxOptions(NamedTuple):
    """A DefaultBoxSpec as the op and C++'s default_boxes take it."""

    feature_maps: Sequence[int]
    boxes_per_cell: Sequence[int]
    box_sizes: Sequence[float]
    steps: Sequence[float]
    offset: float
    clip_centers: bool
    clip: bool
    normalized: bool
    ahw: bool
    image_height: int
    image_width: int


def pack_options(spec: DefaultBoxSpec) -> DefaultBoxOptions:
    """Return the options of the spec."""
    height, width = spec.image_size
    return DefaultBoxOptions(
        feature_maps=[side for size in spec.feature_maps for side in size],
        boxes_per_cell=list(spec.boxes_per_cell),
        box_sizes=[side for level in spec.box_sizes for size in level for side in size],
        steps=[step for steps in spec.level_steps for step in steps],
        offset=spec.offset,
        clip_centers=spec.clip_centers,
        clip=spec.clip,
        normalized=spec.normalized,
        ahw=spec.row_order == "AHW",
        image_height=height,
        image_width=width,
    )


@functools.lru_cache(maxsize=16)
def _kept(spec: DefaultBoxSpec, extension: Any) -> torch.Tensor:
    """Return the boxes on the CPU, computed once per spec and extension.

    A GPU's are not kept: launching a copy costs as much as the kernel, would have to wait for another stream, and must
    not outlive the pool of a captured graph.
    """
    return _op.call_directly((torch.device("cpu"),), (spec,))


def _device(device: Any) -> torch.device:
    try:
        found = torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"default_boxes: device: expected a torch device or its name, got {brief(device)}") from error
    if found.type not in ("cpu", "cuda", "meta"):
        raise ValueError(f"default_boxes: device: expected a CPU or a CUDA GPU, got {found}")
    if found.type == "cuda" and not torch.compiler.is_compiling():  # which cannot trace a call that asks CUDA
        gpus = torch.cuda.device_count()
        if (found.index or 0) >= gpus:
            raise ValueError(f"default_boxes: device: expected one of {gpus} CUDA GPUs, got {found}")
    return found


def _default_boxes(device: torch.device, options: dict[str, Any]) -> torch.Tensor:
    like = torch.empty(0, dtype=torch.float32, device=device)
    out = arrays.empty((_num_boxes(**options), 4), "float32", like, "default_boxes")
    if device.type != "meta":
        _backend.C.default_boxes(**options, out=out)
    return out


def _fake(device: torch.device, **options: Any) -> torch.Tensor:
    return torch.empty((_num_boxes(**options), 4), dtype=torch.float32, device=device)


def _num_boxes(feature_maps: Sequence[int], boxes_per_cell: Sequence[int], **_: Any) -> int:
    return sum(h * w * a for h, w, a in zip(feature_maps[::2], feature_maps[1::2], boxes_per_cell, strict=True))


_op = register(
    "default_boxes(Device device) -> Tensor",
    _default_boxes,
    _fake,
    options=DefaultBoxOptions,
    pack=pack_options,
    prepare=as_keywords,
    keys=("CompositeExplicitAutograd",),  # no tensor argument to choose a device by
)
