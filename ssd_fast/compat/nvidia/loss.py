"""NVIDIA's Loss, for targets made by its Encoder or DALI."""

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
    """The loss `loss(ploc, plabel, gloc, glabel)`: both losses over the image's positives, averaged over the images.

    Args:
        dboxes: as for Encoder.

    Differs:
        Labels that are not a column are ignored (the original crashes).

    Ties:
        Among equally hard negatives, the lower row is taken (the original: any).

    Source:
        ssd/model.py.
    """

    def __init__(self, dboxes: Callable[..., Tensor]) -> None:
        super().__init__()
        self._coder = box_coder(dboxes)
        self.scale_xy, _, self.scale_wh, _ = (1.0 / variance for variance in self._coder.variances)
        self.dboxes = nn.Parameter(dboxes(order="xywh").transpose(0, 1).unsqueeze(0), requires_grad=False)

    def forward(self, ploc: Tensor, plabel: Tensor, gloc: Tensor, glabel: Tensor) -> Tensor:
        """Compute the loss, a float32 scalar with gradient.

        Args:
            ploc: [N, 4, P] offsets.
            plabel: [N, C, P] logits.
            gloc: [N, 4, P] (cx, cy, w, h) from Encoder.encode.
            glabel: [N, P] from Encoder.encode.

        Syncs:
            Never.

        Raises:
            TypeError: not a tensor.
            ValueError: a wrong shape.
        """
        rows = self.dboxes.shape[2]
        images = len(tensor(ploc, "Loss", "ploc", ("N", 4, rows)))
        tensor(plabel, "Loss", "plabel", (images, "C", rows))
        tensor(gloc, "Loss", "gloc", (images, 4, rows))
        tensor(glabel, "Loss", "glabel", (images, rows))
        own = corner_form(float32(gloc).transpose(1, 2)).reshape(-1, 4)  # every row has its own ground truth
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
