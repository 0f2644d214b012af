"""SSDCriterion: from head outputs and ground truth to the two losses, matching included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ._checks import instance, require
from .ground_truth import Policy, Rules
from .ground_truth.packing import packed_batch
from .ground_truth.policy import apply_policy_packed, check_policy
from .ops import default_boxes as make_default_boxes
from .ops import match, multibox_loss
from .ops.multibox_loss import selected_rows
from .presets import Preset
from .presets._preset import require_preset
from .specs import BoxCoderSpec, DefaultBoxSpec, LossSpec, MatcherSpec

__all__ = ["SSDCriterion", "Selection"]

_OP = "SSDCriterion"

Ragged = Sequence[Tensor]  # one tensor per image


class Selection(NamedTuple):
    """Which default boxes of a batch stand for a ground truth, and which for background; see SSDCriterion.select."""

    matched_idxs: Tensor
    hard_negatives: Tensor


class SSDCriterion(nn.Module):
    """The loss of an SSD as a module: checks the ground truth, matches it, and sums the MultiBox loss.

    Args:
        default_boxes: a DefaultBoxSpec, or [P, 4] float32 xyxy; they become a buffer, so `.to(device)` moves them.
        coder, matcher, loss: how offsets describe boxes, which default boxes stand for which, what is summed.
        policy: what to do about a ground truth that is degenerate, not finite, out of the image (by more than a pixel;
            known if default_boxes is a spec) or whose label is no class: "raise" a GroundTruthError that names image,
            index, values and reason; "drop" it with a GroundTruthWarning; "clip": as drop, but a box that reaches out
            of the image is cut off at its edge. None: no check, and no sync: such labels are then ignored, but a
            degenerate box can make the loss infinite.
        reduce_positives: under torch.distributed, what losses are divided by is summed over the processes, so that
            gradients averaged by DistributedDataParallel are those of one process with all images. It is a collective
            call: all processes must compute the loss as often. A process's value then is its share times their number.
        process_group: whose processes; None: all.

    Raises:
        TypeError: as match and multibox_loss; an unknown policy.
        ValueError: as match and multibox_loss; an unknown policy.
    """

    default_boxes: Tensor

    def __init__(
        self,
        default_boxes: DefaultBoxSpec | Tensor,
        coder: BoxCoderSpec,
        matcher: MatcherSpec,
        loss: LossSpec,
        *,
        policy: Policy | None = "raise",
        reduce_positives: bool = False,
        process_group: Any = None,
    ) -> None:
        super().__init__()
        instance(_OP, "coder", coder, BoxCoderSpec)
        instance(_OP, "matcher", matcher, MatcherSpec)
        instance(_OP, "loss", loss, LossSpec)
        if policy is not None:
            check_policy(policy, _OP)
        self.extent: tuple[float, float] | None = None
        self.pixel = 1.0  # the length of one in the unit of the boxes
        if isinstance(default_boxes, DefaultBoxSpec):
            self.extent = default_boxes.extent
            self.pixel = max(default_boxes.extent) / max(default_boxes.image_size)
            default_boxes = make_default_boxes(default_boxes)
        instance(_OP, "default_boxes", default_boxes, Tensor, "a DefaultBoxSpec or a float32 tensor [P, 4]")
        given, rows = (default_boxes.dtype, list(default_boxes.shape)), default_boxes.numel() // 4
        require(given == (torch.float32, [rows, 4]), _OP, "default_boxes", "a float32 tensor [P, 4]", given)
        self.register_buffer("default_boxes", default_boxes, persistent=False)
        self.coder, self.matcher, self.loss = coder, matcher, loss
        self.policy = policy
        self.reduce_positives = reduce_positives
        self.process_group = process_group

    def _apply(self, function: Any, recurse: bool = True) -> SSDCriterion:
        """Moved to another device, but of float32 still after `.half()` of a network that holds the criterion."""
        exact = self.default_boxes
        super()._apply(function, recurse)
        if self.default_boxes.dtype != exact.dtype:
            self.default_boxes = exact.to(self.default_boxes.device)
        return self

    @classmethod
    def from_preset(cls, preset: Preset, **options: Any) -> SSDCriterion:
        """With the specs of a preset; options: as the keywords above.

        Raises:
            ValueError: the preset has no loss.
            TypeError: it is not a Preset, but a name for example.
        """
        require_preset(preset, f"{_OP}.from_preset")
        if preset.loss is None:
            raise ValueError(f"{_OP}: {preset.name} has no loss that a LossSpec can express; choose one yourself")
        return cls(preset.default_boxes, preset.coder, preset.matcher, preset.loss, **options)

    def extra_repr(self) -> str:
        return f"{len(self.default_boxes)} default boxes, {self.matcher}, {self.loss}, policy={self.policy!r}"

    def forward(
        self,
        cls_logits: Tensor,
        bbox_regression: Tensor,
        gt_boxes: Ragged | tuple[Tensor, Tensor],
        gt_labels: Ragged | Tensor,
        gt_ignored: Ragged | Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The two losses of a batch, to be added and differentiated.

        Args:
            cls_logits, bbox_regression: [N, P, C] and [N, P, 4], float32, float16 or bfloat16.
            gt_boxes: a list of an image's boxes [G, 4] float32 xyxy, in the unit of the default boxes; or packed, a
                pair (boxes [sum G, 4], offsets int64 [N + 1]).
            gt_labels: a list of an image's labels [G] int64, columns of cls_logits; or packed [sum G].
            gt_ignored: a list of bool [G], or packed [sum G]: ground truths that are neither to be found nor
                background, as VOC's difficult and COCO's crowds.

        Returns:
            {"bbox_regression": scalar, "classification": scalar}, float32.

        Syncs:
            Once, for the check of the ground truth, if it lies on a GPU and policy is not None.

        Raises:
            GroundTruthError (a ValueError)
            TypeError: as match and multibox_loss.
            ValueError: as match and multibox_loss.
        """
        _require_heads(cls_logits, bbox_regression, len(self.default_boxes))
        truth = self._matched(cls_logits, gt_boxes, gt_labels, gt_ignored)
        losses = multibox_loss(
            cls_logits, bbox_regression, *truth, self.default_boxes, coder=self.coder, loss=self.loss
        )
        if not self.reduce_positives:
            return losses
        factor = self._reduction(truth[2])
        return {name: value * factor for name, value in losses.items()}

    @torch.no_grad()
    def select(
        self,
        cls_logits: Tensor,
        bbox_regression: Tensor,
        gt_boxes: Ragged | tuple[Tensor, Tensor],
        gt_labels: Ragged | Tensor,
        gt_ignored: Ragged | Tensor | None = None,
    ) -> Selection:
        """What the losses of a batch are made of, to be looked at, by draw_matches for example. Arguments: as forward.

        Returns:
            Selection(matched_idxs int64 [N, P], hard_negatives bool [N, P]); the indices are those of the ground truths
                that the policy leaves.

        Grad:
            None.

        Syncs:
            As forward.

        Raises:
            as forward.
        """
        _require_heads(cls_logits, bbox_regression, len(self.default_boxes))
        truth = self._matched(cls_logits, gt_boxes, gt_labels, gt_ignored)
        inputs = cls_logits, bbox_regression, *truth, self.default_boxes
        rows = selected_rows(*inputs, coder=self.coder, loss=self.loss)
        return Selection(truth[2], rows == 1)

    def _matched(
        self, cls_logits: Tensor, gt_boxes: Any, gt_labels: Any, gt_ignored: Any
    ) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        """Packed ground truth after the policy, its labels, and matched_idxs."""
        boxes, offsets, labels, ignored = packed_batch(gt_boxes, gt_labels, gt_ignored, cls_logits, _OP)
        if self.policy is not None:
            rules = self._rules(cls_logits.shape[-1])
            boxes, rows, offsets = apply_policy_packed(boxes, labels, offsets, self.policy, _OP, **rules)
            if rows is not None:
                labels, ignored = labels[rows], None if ignored is None else ignored[rows]
        matched_idxs = match((boxes, offsets), self.default_boxes, self.matcher, gt_ignored=ignored)
        return (boxes, offsets), labels, matched_idxs

    def _rules(self, num_columns: int) -> Rules:
        background = self.loss.background
        background = num_columns - 1 if background == -1 else background
        return {"num_columns": num_columns, "background": background, "size": self.extent, "slack": self.pixel}

    def _reduction(self, matched_idxs: Tensor) -> Tensor:
        """What this process's losses are multiplied by, so that their mean over processes has one normalizer."""
        positives = (matched_idxs >= 0).sum(1)
        if self.loss.normalizer == "positives_per_image":
            own = positives.new_tensor(len(positives))
        elif self.loss.normalizer == "sum_max_one":
            own = positives.clamp(min=1).sum()
        else:
            own = positives.sum()
        total, processes = own.clone(), 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(total, group=self.process_group)
            processes = torch.distributed.get_world_size(self.process_group)
        return processes * own.clamp(min=1).float() / total.clamp(min=1).float()


def _require_heads(cls_logits: Tensor, bbox_regression: Tensor, rows: int) -> None:
    """Raise TypeError or ValueError unless these are [N, rows, C] and [N, rows, 4]."""
    instance(_OP, "cls_logits", cls_logits, Tensor, "a tensor")
    instance(_OP, "bbox_regression", bbox_regression, Tensor, "a tensor")
    logits, deltas = list(cls_logits.shape), list(bbox_regression.shape)
    if len(logits) != 3 or logits[1] != rows:
        raise ValueError(f"{_OP}: cls_logits: expected shape [any, {rows}, any], got {logits}")
    expected = [logits[0], rows, 4]
    if deltas != expected:
        swapped = " (are cls_logits and bbox_regression swapped?)" if logits == expected else ""
        raise ValueError(f"{_OP}: bbox_regression: expected shape {expected}, got {deltas}{swapped}")
