"""NVIDIA's Loss, of targets that its Encoder or DALI made."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...ops import multibox_loss
from ...specs import LossSpec
from .._inputs import float32, tensor
from .._priors import corner_form
from .default_boxes import box_coder

__all__ = ["Loss"]


class Loss(nn.Module):
    """loss(ploc, plabel, gloc, glabel) -> the mean over the images of both losses by an image's positives.

    Args:
        dboxes: as for Encoder.

    Differs:
        Labels that are no column are ignored (the original crashes).

    Ties:
        Of equally hard negatives the lower row (the original: any).

    Source:
        ssd/model.py.
    """

    def __init__(self, dboxes: Callable[..., Tensor]) -> None:
        super().__init__()
        self._coder = box_coder(dboxes)
        self.scale_xy, _, self.scale_wh, _ = (1.0 / variance for variance in self._coder.variances)
        self.dboxes = nn.Parameter(dboxes(order="xywh").transpose(0, 1).unsqueeze(0), requires_grad=False)

    def forward(self, ploc: Tensor, plabel: Tensor, gloc: Tensor, glabel: Tensor) -> Tensor:
        """A float32 scalar with gradient.

        Args:
            ploc [N, 4, P] offsets, plabel [N, C, P] logits; gloc [N, 4, P] (cx, cy, w, h), glabel [N, P]: what
                Encoder.encode gives.

        Syncs:
            Never.

        Raises:
            TypeError: a wrong shape.
            ValueError: a wrong shape.
        """
        rows = self.dboxes.shape[2]
        images = len(tensor(ploc, "Loss", "ploc", ("N", 4, rows)))
        tensor(plabel, "Loss", "plabel", (images, "C", rows))
        tensor(gloc, "Loss", "gloc", (images, 4, rows))
        tensor(glabel, "Loss", "glabel", (images, rows))
        own = corner_form(float32(gloc).transpose(1, 2)).reshape(-1, 4)  # every row has a ground truth of its own
        device = gloc.device
        losses = multibox_loss(
            plabel.transpose(1, 2),
            ploc.transpose(1, 2),
            (own, torch.arange(images + 1, device=device) * rows),
            glabel.reshape(-1).long(),
            torch.where(glabel > 0, torch.arange(rows, device=device), -1),
            corner_form(self.dboxes[0].T.contiguous()),
            coder=self._coder,
            loss=LossSpec(normalizer="positives_per_image"),
        )
        return losses["bbox_regression"] + losses["classification"]
