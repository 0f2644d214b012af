"""default_boxes: the boxes that every cell of every feature map carries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .. import _backend, arrays
from ..specs import DefaultBoxSpec
from ..specs._checks import shown
from ._arguments import check_spec
from ._library import register


def default_boxes(spec: DefaultBoxSpec, *, device: Any = None) -> torch.Tensor:
    """The default boxes of an SSD, in the order of its heads' outputs.

    Args:
        spec: feature maps, box sizes, steps, clipping, units and row order.
        device: of the result; None is the CPU.
    Returns: float32 [P, 4] xyxy, P = spec.num_boxes, maps in order, in the order spec.row_order within a map.
    Ties: none.   Grad: none.   Syncs: never.
    Raises: TypeError: spec is not a DefaultBoxSpec; ValueError: an unknown device.
    Source: Liu et al. 2016, section 2.2; bit-equal to OpenCV's PriorBox.
    Specification: ssd_fast.reference.default_boxes
    """
    check_spec("default_boxes", "spec", spec, DefaultBoxSpec)
    return _op(
        [side for size in spec.feature_maps for side in size],
        list(spec.boxes_per_cell),
        [side for level in spec.box_sizes for size in level for side in size],
        [step for steps in spec.level_steps for step in steps],
        spec.offset,
        spec.clip_centers,
        spec.clip,
        spec.normalized,
        spec.row_order == "AHW",
        list(spec.image_size),
        _device(device),
    )


def _device(device: Any) -> torch.device:
    try:
        found = torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"default_boxes: device: expected a torch device or its name, got {shown(device)}") from error
    if found.type not in ("cpu", "cuda", "meta"):
        raise ValueError(f"default_boxes: device: expected a CPU or a CUDA GPU, got {found}")
    if found.type == "cuda" and not torch.compiler.is_compiling():  # which cannot trace what asks CUDA
        gpus = torch.cuda.device_count()
        if (found.index or 0) >= gpus:
            raise ValueError(f"default_boxes: device: expected one of {gpus} CUDA GPUs, got {found}")
    return found


def _default_boxes(
    feature_maps: Sequence[int],
    boxes_per_cell: Sequence[int],
    box_sizes: Sequence[float],
    steps: Sequence[float],
    offset: float,
    clip_centers: bool,
    clip: bool,
    normalized: bool,
    ahw: bool,
    image_size: Sequence[int],
    device: torch.device,
) -> torch.Tensor:
    shape = _num_boxes(feature_maps, boxes_per_cell), 4
    out = arrays.empty(shape, "float32", like=torch.empty(0, dtype=torch.float32, device=device))
    if device.type == "meta":
        return out
    height, width = image_size
    _backend.C.default_boxes(
        feature_maps, boxes_per_cell, box_sizes, steps, offset, clip_centers, clip, normalized, ahw, height, width, out
    )
    return out


def _fake(
    feature_maps: Sequence[int], boxes_per_cell: Sequence[int], *options: Any, device: Any = None
) -> torch.Tensor:
    device = options[-1] if device is None else device
    return torch.empty((_num_boxes(feature_maps, boxes_per_cell), 4), dtype=torch.float32, device=device)


def _num_boxes(feature_maps: Sequence[int], boxes_per_cell: Sequence[int]) -> int:
    return sum(h * w * a for h, w, a in zip(feature_maps[::2], feature_maps[1::2], boxes_per_cell, strict=True))


_op = register(
    "default_boxes(int[] feature_maps, int[] boxes_per_cell, float[] box_sizes, float[] steps, float offset, "
    "bool clip_centers, bool clip, bool normalized, bool ahw, int[] image_size, Device device) -> Tensor",
    _default_boxes,
    _fake,
    keys=("CompositeExplicitAutograd",),  # no tensor argument to choose a device by
)
