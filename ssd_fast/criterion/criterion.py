"""SSDCriterion: the two losses from head outputs and ground truth, matching included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import instance, require
from ..ground_truth import Policy, Rules
from ..ground_truth.packing import packed_batch
from ..ground_truth.policy import apply_policy_packed, check_policy
from ..ops import default_boxes as make_default_boxes
from ..ops import match, multibox_loss
from ..ops.multibox_loss import selected_rows
from ..presets import Preset
from ..presets._preset import require_preset
from ..specs import BoxCoderSpec, DefaultBoxSpec, LossSpec, MatcherSpec
from .parts import Selection, reduction_factor, require_heads

__all__ = ["SSDCriterion"]

_OP = "SSDCriterion"

Ragged = Sequence[Tensor]  # one tensor per image


class SSDCriterion(nn.Module):
    """The loss of an SSD as a module: checks the ground truth, matches it, and sums the MultiBox loss.

    Args:
        default_boxes: a DefaultBoxSpec, or [P, 4] float32 xyxy; they become a buffer, so `.to(device)` moves them.
        coder: how offsets describe boxes.
        matcher: which default boxes stand for which ground truth.
        loss: what the losses sum.
        policy: what to do about a ground truth that is degenerate, not finite, outside the image by more than a pixel
            (the image is known if default_boxes is a spec), or whose label is not a class. "raise": raise a
            GroundTruthError that names image, index, values and reason. "drop": leave it out with a GroundTruthWarning.
            "clip": like "drop", but a box that reaches out of the image is cut off at its edge. None: no check, and no
            sync: such labels are then ignored, but a degenerate box can make the loss infinite.
        reduce_positives: under torch.distributed, whether the normalizer of the losses is summed over the processes, so
            that gradients averaged by DistributedDataParallel equal those of one process with all images. It is a
            collective call: all processes must compute the loss equally often. A process's value then is its share
            times the number of processes.
        process_group: the processes; None: all.

    Raises:
        TypeError: as for match and multibox_loss.
        ValueError: as for match and multibox_loss; the policy is unknown.

    Examples:
        A map of 5x5 cells with three boxes per cell, two classes, and one ground truth on the cell (1, 1):

        >>> import ssd_fast, torch
        >>> sizes = ((60, 60), (85, 42), (42, 85))
        >>> boxes = ssd_fast.DefaultBoxSpec(image_size=(300, 300), feature_maps=((5, 5),), box_sizes=(sizes,))
        >>> criterion = ssd_fast.SSDCriterion(
        ...     boxes, ssd_fast.BoxCoderSpec(), ssd_fast.MatcherSpec(), ssd_fast.LossSpec()
        ... )
        >>> heads = torch.zeros(1, 75, 3), torch.zeros(1, 75, 4)
        >>> truth = [torch.tensor([[60.0, 60.0, 120.0, 120.0]])], [torch.tensor([1])]
        >>> criterion(*heads, *truth)
        {'bbox_regression': tensor(1.6833), 'classification': tensor(4.3944)}
        >>> (criterion.select(*heads, *truth).matched_idxs[0] >= 0).nonzero().flatten()  # the three boxes of that cell
        tensor([18, 19, 20])
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
        self.pixel = 1.0  # the length of a pixel in the unit of the boxes
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
        """Move to another device, but stay float32 after `.half()` of a network that holds the criterion."""
        exact = self.default_boxes
        super()._apply(function, recurse)
        if self.default_boxes.dtype != exact.dtype:
            self.default_boxes = exact.to(self.default_boxes.device)
        return self

    @classmethod
    def from_preset(cls, preset: Preset, **options: Any) -> SSDCriterion:
        """Make the criterion from the specs of a preset.

        Args:
            preset: the preset.
            options: the keywords of the class: policy, reduce_positives, process_group.

        Raises:
            ValueError: the preset has no loss.
            TypeError: not a Preset, but for example its name.
        """
        require_preset(preset, f"{_OP}.from_preset")
        if preset.loss is None:
            raise ValueError(
                f"{_OP}: {preset.name} has no loss that a LossSpec can express: pass a LossSpec, or give "
                "ssd_fast.training.training_preset(preset, 'softmax')"
            )
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
        """Compute the two losses of a batch, to be added and differentiated.

        Args:
            cls_logits: [N, P, C] float32, float16 or bfloat16.
            bbox_regression: [N, P, 4], dtypes as above.
            gt_boxes: a list of boxes [G, 4] float32 xyxy per image, in the unit of the default boxes; or packed, a pair
                (boxes [sum G, 4], offsets int64 [N + 1]).
            gt_labels: a list of labels [G] int64 per image, columns of cls_logits; or packed [sum G].
            gt_ignored: a list of bool [G] per image, or packed [sum G]: ground truths that are neither to be found nor
                background, such as VOC's difficult and COCO's crowds.

        Returns:
            {"bbox_regression": scalar, "classification": scalar}, float32.

        Syncs:
            Once, for the check of the ground truth, if it is on a GPU and policy is not None.

        Raises:
            GroundTruthError: a ground truth is faulty (a ValueError).
            TypeError: as for match and multibox_loss.
            ValueError: as for match and multibox_loss.
        """
        require_heads(_OP, cls_logits, bbox_regression, len(self.default_boxes))
        truth = self._matched(cls_logits, gt_boxes, gt_labels, gt_ignored)
        losses = multibox_loss(
            cls_logits, bbox_regression, *truth, self.default_boxes, coder=self.coder, loss=self.loss
        )
        if not self.reduce_positives:
            return losses
        factor = reduction_factor(truth[2], self.loss.normalizer, self.process_group)
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
        """Show which rows the losses of a batch sum, for draw_matches for example; arguments as for forward.

        Returns:
            Selection(matched_idxs int64 [N, P], hard_negatives bool [N, P]); the indices are those of the ground truths
                that the policy leaves.

        Grad:
            None.

        Syncs:
            As for forward.
        """
        require_heads(_OP, cls_logits, bbox_regression, len(self.default_boxes))
        truth = self._matched(cls_logits, gt_boxes, gt_labels, gt_ignored)
        inputs = cls_logits, bbox_regression, *truth, self.default_boxes
        rows = selected_rows(*inputs, coder=self.coder, loss=self.loss)
        return Selection(truth[2], rows == 1)

    def _matched(
        self, cls_logits: Tensor, gt_boxes: Any, gt_labels: Any, gt_ignored: Any
    ) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
        """Return packed ground truth after the policy, its labels, and matched_idxs."""
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
