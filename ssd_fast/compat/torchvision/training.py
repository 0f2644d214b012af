"""Run the matching and the loss of a torchvision SSD with ssd_fast.match and multibox_loss."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._checks import is_not_negative, number
from ...ground_truth import faults as ground_truth
from ...ops.match import match
from ...ops.multibox_loss import multibox_loss
from ...specs import LossSpec, MatcherSpec
from .._inputs import share
from .box_coder import coder_spec
from .postprocess import is_double

__all__ = ["FusedForward", "FusedLoss", "TargetError"]

Targets = Sequence[dict[str, Tensor]]


class TargetError(ground_truth.GroundTruthError, AssertionError):
    """A ground truth on which no network can be trained; also an AssertionError, like torchvision's."""


class FusedForward:
    """Replaces the method forward of the model that it holds: in training, it matches without IoU matrices."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __repr__(self) -> str:
        return f"FusedForward of {type(self.model).__name__}"

    def __call__(self, images: Sequence[Tensor], targets: Targets | None = None) -> Any:
        """Take torchvision's arguments and return its results: in training, a dict of two losses."""
        from torchvision.models.detection._utils import SSDMatcher
        from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

        model = self.model
        fit = (
            model.training
            and targets is not None
            and all(map(_is_complete, targets))
            and not any(image.dtype == torch.float64 for image in images)
        )
        if not fit or type(model.proposal_matcher) is not SSDMatcher:
            return type(model).forward(model, images, targets)  # raises the error, or calls the other patched methods
        assert targets is not None
        if len(targets) != len(images):
            raise ValueError(f"forward: targets: expected {len(images)}, one per image, got {len(targets)}")
        head = getattr(model.head, "classification_head", None)
        num_columns = getattr(head, "num_columns", None)  # so that nothing is computed before a target is refused
        if num_columns is not None:
            _check_values(targets, num_columns)
        batch, scaled_targets = model.transform(images, targets)
        features = model.backbone(batch.tensors)
        maps = [features] if isinstance(features, Tensor) else list(features.values())
        heads = model.head(maps)
        if num_columns is None:
            _check_values(targets, heads["cls_logits"].shape[-1])
        anchors = model.anchor_generator(batch, maps)
        matcher = _matcher_spec(
            share("forward", "model.proposal_matcher.high_threshold", model.proposal_matcher.high_threshold)
        )
        boxes = [target["boxes"].float() for target in scaled_targets]
        same_anchors = type(model.anchor_generator) is DefaultBoxGenerator or _are_equal(anchors)
        if same_anchors:
            matched_idxs = match(boxes, anchors[0].float(), matcher)
        else:
            matched_idxs = torch.cat([match([b], a.float(), matcher) for b, a in zip(boxes, anchors, strict=True)])
        if isinstance(model.compute_loss, FusedLoss):
            return model.compute_loss(scaled_targets, heads, anchors, matched_idxs, same_anchors)
        return model.compute_loss(scaled_targets, heads, anchors, list(matched_idxs))


class FusedLoss:
    """Replaces the method compute_loss of the model that it holds."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __repr__(self) -> str:
        return f"FusedLoss of {type(self.model).__name__}"

    def __call__(
        self,
        targets: Targets,
        head_outputs: dict[str, Tensor],
        anchors: Sequence[Tensor],
        matched_idxs: Sequence[Tensor] | Tensor,
        same_anchors: bool | None = None,
    ) -> dict[str, Tensor]:
        """Take torchvision's arguments; return "bbox_regression" and "classification", float32 scalars.

        matched_idxs may be one tensor [N, P]; same_anchors tells whether all images have equal anchors, if known.
        """
        if is_double(head_outputs):
            return type(self.model).compute_loss(self.model, targets, head_outputs, anchors, matched_idxs)
        boxes, labels = [target["boxes"].float() for target in targets], [target["labels"] for target in targets]
        matched = matched_idxs if isinstance(matched_idxs, Tensor) else torch.stack(tuple(matched_idxs))
        matched = matched.clamp(min=-1)  # boxes between two thresholds are background to torchvision's SSD
        coder, spec = coder_spec(self.model.box_coder, "compute_loss"), _loss_spec(self.model)

        def loss(images: slice) -> dict[str, Tensor]:
            """Compute the losses of images that have the same anchors."""
            return multibox_loss(
                head_outputs["cls_logits"][images],
                head_outputs["bbox_regression"][images],
                boxes[images],
                labels[images],
                matched[images],
                anchors[images.start].float(),
                coder=coder,
                loss=spec,
            )

        if same_anchors or (same_anchors is None and _are_equal(anchors)):
            return loss(slice(0, len(boxes)))
        # With another generator than torchvision's, go image by image and turn each mean back into a share of the sum.
        positives = (matched >= 0).sum(1)
        shares = positives.clamp(min=1) / positives.sum().clamp(min=1)
        losses = [loss(slice(n, n + 1)) for n in range(len(boxes))]
        return {name: (torch.stack([loss[name] for loss in losses]) * shares).sum() for name in losses[0]}


def _are_equal(anchors: Sequence[Tensor]) -> bool:
    """Whether all images of a batch have the same anchors. Syncs once per image."""
    return all(other is anchors[0] or torch.equal(other, anchors[0]) for other in anchors[1:])


@functools.lru_cache(maxsize=64)
def _matcher_spec(threshold: float) -> MatcherSpec:
    return MatcherSpec(positive_threshold=threshold)


def _loss_spec(model: Any) -> LossSpec:
    ratio = number("compute_loss", "model.neg_to_pos_ratio", model.neg_to_pos_ratio, "a whole number", is_not_negative)
    whole = round(ratio)
    if abs(ratio - whole) > 1e-6:  # torchvision rounds the number of negatives up, LossSpec down
        raise ValueError(f"compute_loss: model.neg_to_pos_ratio: expected a whole number, got {ratio}")
    return LossSpec(negatives_per_positive=whole)


def _is_complete(target: dict[str, Any]) -> bool:
    boxes = target.get("boxes")
    return isinstance(boxes, Tensor) and boxes.ndim == 2 and boxes.shape[1] == 4 and "labels" in target


def _check_values(targets: Targets, num_columns: int) -> None:
    """Raise TargetError for a box or label that would make a loss NaN or that is not a class. Syncs once."""
    for index, target in enumerate(targets):
        expected, given = list(target["boxes"].shape[:1]), list(target["labels"].shape)
        if given != expected:
            raise ValueError(f"forward: targets[{index}]['labels']: expected shape {expected}, got {given}")
    boxes, labels = ([target[name] for target in targets] for name in ("boxes", "labels"))
    names = [f"targets[{index}]" for index in range(len(targets))]
    ground_truth.refuse_faults(boxes, labels, names, TargetError, num_columns=num_columns, background=0)
