"""torchvision's SSD and SSDlite with the fused postprocess: same call, same dicts, same order."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..ops.postprocess import postprocess
from ..specs import BoxCoderSpec, PostprocessSpec

__all__ = ["FusedPostprocess", "patch", "patched", "unpatch"]

Model = TypeVar("Model", bound=torch.nn.Module)

_METHOD = "postprocess_detections"
_ATTRIBUTES = ("score_thresh", "nms_thresh", "detections_per_img", "topk_candidates", "box_coder")


def patch(model: Model) -> Model:
    """Replaces what a torchvision SSD does after its heads by ssd_fast.postprocess; returns the same model.

    The model is called as before and returns the same dicts in the same order; training, parameters and state_dict are
    untouched. Its thresholds, its box coder's weights and its anchors are read at every call, so they may change. A
    patched model can be pickled, deep-copied and patched again; torch.jit.script still compiles torchvision's method.

    Args:    model: a torchvision.models.detection.ssd.SSD, which SSD300 and SSDlite are, or a subclass that keeps its
                 postprocess. Of a wrapper (DataParallel, torch.compile) patch the model inside.
    Returns: model.
    Precision: boxes and scores are computed in float32 and stay so. Float16 and bfloat16 heads are widened first, where
                 torchvision rounds their boxes, by up to an eighth of a pixel (float16 at 300 pixels).
    Ties:    equal scores: lower class, then lower default box; torchvision leaves them undefined.
    Grad:    none, where torchvision's boxes and scores have gradients if they are enabled in eval mode.
    Syncs:   once a batch, to trim the results.
    Raises:  TypeError: no SSD, a subclass or instance with its own postprocess, another box coder, a scripted model;
             AttributeError: an attribute is missing; ImportError: torchvision is not installed.
    Source:  torchvision.models.detection.ssd.SSD.postprocess_detections
    """
    _check_model(model, "patch")
    if not isinstance(model.__dict__.get(_METHOD), FusedPostprocess):
        setattr(model, _METHOD, FusedPostprocess(model))
    return model


def unpatch(model: Model) -> Model:
    """Gives a model that `patch` changed its own postprocess back; leaves any other SSD as it is. Returns the model.

    Raises: TypeError: no torchvision SSD; ImportError: torchvision is not installed.
    """
    if not isinstance(model, _torchvision_ssd("unpatch")):
        raise TypeError(f"unpatch: model: expected a torchvision SSD, got {type(model).__name__}")
    if isinstance(model.__dict__.get(_METHOD), FusedPostprocess):
        delattr(model, _METHOD)
    return model


@contextmanager
def patched(model: Model) -> Iterator[Model]:
    """`with patched(model): ...`: patched inside, afterwards as before. Raises: as patch."""
    was_patched = isinstance(getattr(model, "__dict__", {}).get(_METHOD), FusedPostprocess)
    patch(model)
    try:
        yield model
    finally:
        if not was_patched:
            unpatch(model)


class FusedPostprocess:
    """Stands in for the method postprocess_detections of the model that it holds; made by `patch`."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __repr__(self) -> str:
        return f"FusedPostprocess of {type(self.model).__name__}"

    def __call__(
        self, head_outputs: dict[str, Tensor], image_anchors: Sequence[Tensor], image_shapes: Sequence[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """torchvision's arguments and results: a dict an image: "boxes" [k, 4], "scores" [k], "labels" [k] int64."""
        cls_logits, bbox_regression = head_outputs["cls_logits"], head_outputs["bbox_regression"]
        shapes = [(int(height), int(width)) for height, width in image_shapes]
        if not shapes:
            return []
        spec, coder = self._specs(cls_logits.shape)
        with torch.no_grad():
            detections = postprocess(
                cls_logits,
                bbox_regression,
                image_anchors[0].float(),
                spec,
                coder=coder,
                image_sizes=shapes[0] if len(set(shapes)) == 1 else shapes,
            )
        # Images have equal anchors, unless the model's generator is an unusual one. To know costs no second sync.
        *counts, differ = torch.cat((detections.counts, _differ(image_anchors))).tolist()
        if differ:
            ones = [
                ({"cls_logits": cls_logits[n : n + 1], "bbox_regression": bbox_regression[n : n + 1]}, anchors, shape)
                for n, (anchors, shape) in enumerate(zip(image_anchors, shapes, strict=True))
            ]
            return [self(heads, [anchors], [shape])[0] for heads, anchors, shape in ones]
        return [
            {field: getattr(detections, field)[n, :count] for field in ("boxes", "scores", "labels")}
            for n, count in enumerate(counts)
        ]

    def _specs(self, shape: Sequence[int]) -> tuple[PostprocessSpec, BoxCoderSpec]:
        """The model's settings of this moment, for cls_logits of the shape [N, P, C]."""
        model, rows, columns = self.model, shape[-2], shape[-1]
        _check_coder(model.box_coder)
        top_k = min(int(model.topk_candidates), max(rows, 1))
        return _make_specs(
            float(model.score_thresh),
            float(model.nms_thresh),
            min(int(model.detections_per_img), max(top_k * (columns - 1), 1)),  # "all" may be any large number
            top_k,
            tuple(float(weight) for weight in model.box_coder.weights),
            float(model.box_coder.bbox_xform_clip),
        )


@functools.lru_cache(maxsize=64)
def _make_specs(
    score_threshold: float,
    iou_threshold: float,
    keep_top_k: int,
    top_k: int,
    weights: tuple[float, float, float, float],
    log_scale_high: float,
) -> tuple[PostprocessSpec, BoxCoderSpec]:
    x, y, w, h = weights
    coder = BoxCoderSpec((1 / x, 1 / y, 1 / w, 1 / h), log_scale_clamp=(-math.inf, log_scale_high))
    spec = PostprocessSpec(
        score_threshold=max(score_threshold, 0.0),
        score_inclusive=score_threshold < 0,  # every score exceeds it
        top_k=top_k,
        iou_threshold=iou_threshold,
        keep_top_k=keep_top_k,
        clip="before_nms",
    )
    return spec, coder


def _differ(image_anchors: Sequence[Tensor]) -> Tensor:
    """int64 [1]: whether any image has other anchors than the first."""
    first, others = image_anchors[0], [anchors for anchors in image_anchors[1:] if anchors is not image_anchors[0]]
    if not others or any(anchors.shape != first.shape for anchors in others):
        return torch.full((1,), len(others), dtype=torch.int64, device=first.device)
    if first.device.type == "cpu":
        return torch.tensor([not all(torch.equal(anchors, first) for anchors in others)], dtype=torch.int64)
    return (torch.stack(others) != first).any().long().view(1)


def _torchvision_ssd(op: str) -> Any:
    """torchvision's class SSD."""
    try:
        from torchvision.models.detection.ssd import SSD
    except ImportError as error:
        raise ImportError(
            f"{op}: torchvision is not installed or does not load ({error}); pip install ssd_fast[torchvision]"
        ) from error
    return SSD


def _check_model(model: Any, op: str) -> None:
    ssd, name = _torchvision_ssd(op), type(model).__name__
    if not isinstance(model, ssd):
        hint = ""
        for attribute in ("module", "_orig_mod"):  # DataParallel and its kind; torch.compile
            if isinstance(getattr(model, attribute, None), ssd):
                hint = f"; it wraps one: {op}(model.{attribute})"
        if isinstance(model, torch.jit.ScriptModule):
            hint = f", a scripted model; {op} cannot change compiled code"
        raise TypeError(f"{op}: model: expected a torchvision SSD (SSD300, SSDlite), got {name}{hint}")
    for attribute in _ATTRIBUTES:
        if not hasattr(model, attribute):
            raise AttributeError(f"{op}: model: {name} has no attribute {attribute!r}")
    own = model.__dict__.get(_METHOD)
    foreign = own is not None and not isinstance(own, FusedPostprocess)
    if foreign or getattr(type(model), _METHOD) is not getattr(ssd, _METHOD):
        raise TypeError(f"{op}: model: {name} has a {_METHOD} of its own, which {op} would bypass")
    _check_coder(model.box_coder, op)


def _check_coder(coder: Any, op: str = _METHOD) -> None:
    from torchvision.models.detection._utils import BoxCoder

    if not isinstance(coder, BoxCoder) or type(coder).decode_single is not BoxCoder.decode_single:
        raise TypeError(f"{op}: model.box_coder: expected torchvision's BoxCoder, got {type(coder).__name__}")
