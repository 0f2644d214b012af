"""postprocess: from head outputs to padded detections, fused and batched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .. import _backend, arrays
from ..arrays import Array
from ..detections import Detections
from ..specs import BoxCoderSpec, PostprocessSpec
from ._arguments import call, check_spec
from ._fakes import check_count, check_fake, check_fake_levels
from ._head_outputs import as_levels, as_sizes, count_columns, level_count_error
from ._library import register
from ._postprocess_options import STAGES, PostprocessOptions, pack_options

_OPTIONAL, _LISTS = ("image_sizes", "original_sizes"), ("cls_logits", "bbox_regression")


def postprocess(
    cls_logits: Array | Sequence[Array],
    bbox_regression: Array | Sequence[Array],
    default_boxes: Array,
    spec: PostprocessSpec,
    *,
    coder: BoxCoderSpec,
    image_sizes: Array | Sequence[float] | Sequence[Sequence[int]] | None = None,
    original_sizes: Array | Sequence[float] | Sequence[Sequence[int]] | None = None,
) -> Detections:
    """Turn a batch of head outputs into detections: activation, threshold, top-k, decode, clip, NMS, merge.

    Args:
        cls_logits: [N, P, C], or a list of at most 8 levels: raw head maps [N, A * C, h, w], NCHW or channels-last in
            memory, or rows [N, P of the level, C]; float32, float16 or bfloat16 (computed in float32).
        bbox_regression: [N, P, 4], or the list of [N, A * 4, h, w] or [N, P of the level, 4]; dtypes as above.
        default_boxes: [P, 4] float32 xyxy, in the order of the rows.
        spec: what to do; for raw maps also the channel and row order.
        coder: how bbox_regression encodes boxes.
        image_sizes: the window that spec.clip clips to, in the unit of default_boxes; required if spec.clip is not
            "none" or original_sizes are given. One (height, width), or whole numbers per image: an integer array [N, 2]
            on the device, or a list of pairs (which is copied to the device: not during CUDA graph capture).
        original_sizes: sizes, in the same forms, that boxes are scaled to from image_sizes, at the stage spec.rescale.
            Sizes in a tensor are not checked, since that would wait for the GPU: a 0 among them gives boxes of NaN or
            infinity.

    Returns:
        Detections of K = spec.keep_top_k per image, best first, padded. Inputs are not modified.

    Ties:
        Of equal scores, the lower class, then the lower default box; where NMS or top_k mixes classes, the lower
        default box, then the lower class.

    Grad:
        None.

    Syncs:
        Never; can be captured in a CUDA graph.

    NaN:
        NaN scores are not candidates; NaN boxes suppress nothing.

    Raises:
        ValueError: wrong shape, device or sizes; fewer than 2 columns; one array where spec.top_k_scope is "level".
        TypeError: wrong dtype, or not an array.
        RuntimeError: forward-mode differentiation.

    Source:
        Liu et al. 2016, section 2.2.

    Specification:
        ssd_fast.reference.postprocess

    Examples:
        Two default boxes, background and two classes. The first box is of class 1, the second of class 2:

        >>> import ssd_fast, torch
        >>> default = torch.tensor([[0.0, 0.0, 4.0, 4.0], [4.0, 4.0, 8.0, 8.0]])
        >>> logits = torch.tensor([[[0.0, 4.0, 0.0], [0.0, 0.0, 3.0]]])
        >>> spec = ssd_fast.PostprocessSpec(score_threshold=0.5, keep_top_k=3)
        >>> found = ssd_fast.postprocess(logits, torch.zeros(1, 2, 4), default, spec, coder=ssd_fast.BoxCoderSpec())
        >>> found.labels, found.counts
        (tensor([[ 1,  2, -1]]), tensor([2]))
        >>> found.to_list()[0]["boxes"]
        tensor([[0., 0., 4., 4.],
                [4., 4., 8., 8.]])
    """
    check_spec("postprocess", "spec", spec, PostprocessSpec)
    check_spec("postprocess", "coder", coder, BoxCoderSpec)
    if spec.top_k is not None and spec.top_k_scope == "level" and not isinstance(cls_logits, (list, tuple)):
        raise ValueError(
            'postprocess: cls_logits: expected a list of levels, since spec.top_k_scope is "level", got one array'
        )
    logits = as_levels(cls_logits, "cls_logits")
    deltas = as_levels(bbox_regression, "bbox_regression")
    if len(deltas) != len(logits):
        raise level_count_error(cls_logits, bbox_regression)
    size_tensor, size = as_sizes(image_sizes, "image_sizes", logits[0])
    original_tensor, original = as_sizes(original_sizes, "original_sizes", logits[0])
    columns = count_columns(logits[0], deltas[0])
    named = {
        "cls_logits": logits,
        "bbox_regression": deltas,
        "default_boxes": default_boxes,
        "image_sizes": size_tensor,
        "original_sizes": original_tensor,
    }
    numbers, specs = (size, original, columns), (spec, coder, columns)
    return Detections(*call(_op, named, *numbers, specs=specs, optional=_OPTIONAL, lists=_LISTS))


def _postprocess(
    cls_logits: Sequence[Any],
    bbox_regression: Sequence[Any],
    default_boxes: Any,
    image_sizes: Any,
    original_sizes: Any,
    image_size: Sequence[float],
    original_size: Sequence[float],
    num_columns: int,
    options: Any,
) -> tuple[Any, ...]:
    extension, op = _backend.C, "postprocess"
    cls_logits = [arrays.strided(level, op, "cls_logits") for level in cls_logits]
    bbox_regression = [arrays.strided(level, op, "bbox_regression") for level in bbox_regression]
    like = cls_logits[0]
    default_boxes = arrays.contiguous(default_boxes, op, "default_boxes", arrays.BOX_BYTES)
    if image_sizes is not None:
        image_sizes = arrays.contiguous(image_sizes, op, "image_sizes")
    if original_sizes is not None:
        original_sizes = arrays.contiguous(original_sizes, op, "original_sizes")
    images, num_rows = arrays.dimension(like, 0), arrays.dimension(default_boxes, 0)
    workspace_bytes = extension.postprocess_workspace(like, num_rows, num_columns, options)
    shapes = _outputs(images, options.keep_top_k)
    out = tuple([arrays.empty(shape, dtype, like, op) for shape, dtype in shapes])
    workspace = arrays.workspace(workspace_bytes, like, op)
    sizes = image_sizes, image_size, original_sizes, original_size
    extension.postprocess(cls_logits, bbox_regression, default_boxes, num_columns, options, *sizes, workspace, *out)
    return out


def _outputs(images: Any, keep_top_k: int) -> tuple[tuple[tuple[Any, ...], str], ...]:
    """Return shape and dtype of the fields of Detections."""
    row = (images, keep_top_k)
    return ((*row, 4), "float32"), (row, "float32"), (row, "int64"), (row, "int64"), ((images,), "int64")


def _fake(
    cls_logits: Sequence[torch.Tensor],
    bbox_regression: Sequence[torch.Tensor],
    default_boxes: torch.Tensor,
    image_sizes: torch.Tensor | None,
    original_sizes: torch.Tensor | None,
    image_size: Sequence[float],
    original_size: Sequence[float],
    num_columns: int,
    **keywords: Any,
) -> tuple[torch.Tensor, ...]:
    like, options = cls_logits[0], PostprocessOptions(**keywords)
    check_count("postprocess", "C", num_columns, 2 if options.background >= 0 else 1)
    rows = check_fake_levels(cls_logits, bbox_regression, num_columns)
    check_fake("postprocess", "default_boxes", default_boxes, (rows, 4), (torch.float32,), like)
    if isinstance(num_columns, int) and options.background >= num_columns:
        expected = f"a column below {num_columns}"
        raise ValueError(f"postprocess: spec.background: expected {expected}, got {options.background}")
    for name, sizes in (("image_sizes", image_sizes), ("original_sizes", original_sizes)):
        if sizes is not None:
            check_fake("postprocess", name, sizes, (like.shape[0], 2), (torch.int64,), like)
    rescales = original_sizes is not None or len(original_size) > 0
    if (options.clip != STAGES["none"] or rescales) and image_sizes is None and not image_size:
        why = "original_sizes are given" if rescales else "spec.clip clips"
        raise ValueError(f"postprocess: image_sizes: expected sizes, since {why}, got None")
    outputs = _outputs(like.shape[0], options.keep_top_k)
    return tuple(like.new_empty(shape, dtype=getattr(torch, dtype)) for shape, dtype in outputs)


_op = register(
    "postprocess(Tensor[] cls_logits, Tensor[] bbox_regression, Tensor default_boxes, Tensor? image_sizes, "
    "Tensor? original_sizes, float[] image_size, float[] original_size, int num_columns) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _postprocess,
    _fake,
    options=PostprocessOptions,
    pack=pack_options,
)
