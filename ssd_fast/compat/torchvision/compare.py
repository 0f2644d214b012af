"""Compare a torchvision SSD with the same model patched, on your own images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..._checks import integer
from ...images import Image, as_image_tensors
from . import patched
from .differences import Candidates, Comparison, Limits, compare_detections
from .model import check_model

__all__ = ["ParityReport", "compare"]

_SHOWN = 10  # differences listed in a printed report


@dataclass(frozen=True)
class ParityReport:
    """The result of `compare`.

    Attributes:
        images: the number of images compared.
        detections: the number of detections of the original.
        pairs: the number of detections that both have.
        largest_score_difference: the largest difference of scores within a pair.
        largest_box_difference: the largest difference of box corners within a pair, in pixels of the network's input.
        excused: differences explained by rounding, one line each, which ends with the reason: scores that tie or are at
            the threshold or at the cut of topk_candidates, and IoUs at the threshold (where the original itself, which
            separates classes by shifting boxes, is off by more than a rounding).
        unexplained: all other differences. There should be none.

    Examples:
        >>> from ssd_fast.compat import ParityReport
        >>> report = ParityReport(2, 9, 9, 0.0, 1.5e-05, excused=(), unexplained=())
        >>> report.agrees
        True
        >>> str(report).splitlines()[0]
        '2 images, 9 detections, 9 of them in both: they agree'
    """

    images: int
    detections: int
    pairs: int
    largest_score_difference: float
    largest_box_difference: float
    excused: tuple[str, ...]
    unexplained: tuple[str, ...]

    @property
    def is_conclusive(self) -> bool:
        """Whether there were detections and most could be compared; nearly all scores of an untrained model tie."""
        return 0 < self.detections <= 2 * self.pairs

    @property
    def agrees(self) -> bool:
        """Whether detections were found, every difference is explained, and most detections are in both."""
        return self.is_conclusive and not self.unexplained

    def to_dict(self) -> dict[str, Any]:
        """Convert the fields to values that JSON can hold, and add "agrees"."""
        return {"agrees": self.agrees, **asdict(self)}

    def __str__(self) -> str:
        verdict = "they agree" if self.agrees else "too many ties to tell"
        if not self.detections:
            verdict = "there are no detections to compare; lower the model's score_thresh or take other photos"
        if self.unexplained:
            verdict = f"{len(self.unexplained)} differences have no explanation"
        images = f"{self.images} image{'' if self.images == 1 else 's'}"
        lines = [
            f"{images}, {self.detections} detections, {self.pairs} of them in both: {verdict}",
            f"largest differences: score {self.largest_score_difference:.3g}, box {self.largest_box_difference:.3g} px",
        ]
        for title, found in (("unexplained", self.unexplained), ("explained by rounding", self.excused)):
            lines += [f"{title}: {line}" for line in found[:_SHOWN]]
            lines += [f"{title}: and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        return "\n".join(lines)


@torch.no_grad()
def compare(model: Any, images: Image | Sequence[Image], *, batch_size: int = 8) -> ParityReport:
    """Compare a torchvision SSD's own postprocess with `patch`'s on the same head outputs.

    The model is left unchanged. The network runs once per image, in eval mode, so only the postprocess differs.

    Args:
        model: as for `patch`; patched or not.
        images: one image or several, as for a Detector: paths, PIL images, uint8 arrays [H, W, 3] or tensors.
        batch_size: images per batch.

    Returns:
        A ParityReport; print it, or look at `.agrees`.

    Tolerances:
        1e-6 for scores, 1e-4 px for boxes (or 4 ulp, if that is more).

    Raises:
        TypeError: as patch; an image of another type.
        AttributeError: as patch.
        ImportError: as patch.
        ValueError: as patch; no images, or an image that cannot be used.

    Examples:
        >>> import numpy as np, torch
        >>> from ssd_fast.compat import compare
        >>> from torchvision.models.detection import ssdlite320_mobilenet_v3_large
        >>> _ = torch.manual_seed(0)
        >>> options = {"weights": None, "weights_backbone": None, "topk_candidates": 20}
        >>> model = ssdlite320_mobilenet_v3_large(**options, num_classes=2)
        >>> report = compare(model, np.zeros((320, 320, 3), np.uint8))
        >>> report.images, report.unexplained
        (1, ())
    """
    several = isinstance(images, (list, tuple)) or getattr(images, "ndim", 3) == 4
    items: list[Any] = list(images) if several else [images]  # type: ignore[arg-type]
    if not items:
        raise ValueError("compare: images: expected at least one image, got none")
    integer("compare", "batch_size", batch_size, "at least 1", 1)
    check_model(model, "compare")
    with patched(model):
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            found = [_compare_batch(model, items[n : n + batch_size], n) for n in range(0, len(items), batch_size)]
        finally:
            for module, training in modes:
                module.training = training
    comparisons = [comparison for comparison, _ in found]
    return ParityReport(
        images=len(items),
        detections=sum(detections for _, detections in found),
        pairs=sum(comparison.pairs for comparison in comparisons),
        largest_score_difference=max(comparison.largest_score_difference for comparison in comparisons),
        largest_box_difference=max(comparison.largest_box_difference for comparison in comparisons),
        excused=tuple(line for comparison in comparisons for line in comparison.excused),
        unexplained=tuple(line for comparison in comparisons for line in comparison.differences),
    )


def _compare_batch(model: Any, images: Any, first: int) -> tuple[Comparison, int]:
    """Compare one batch, whose first image has the number `first`; also count the original's detections."""
    tensors = [_in_unit_range(image) for image in as_image_tensors(images, next(model.parameters()).device)]
    batch, _ = model.transform(tensors)
    features = model.backbone(batch.tensors)
    maps = [features] if isinstance(features, Tensor) else list(features.values())
    heads = model.head(maps)
    anchors = model.anchor_generator(batch, maps)
    original = type(model).postprocess_detections(model, heads, anchors, batch.image_sizes)
    ours = model.postprocess_detections(heads, anchors, batch.image_sizes)
    scores = heads["cls_logits"].float().softmax(-1).cpu()
    columns = scores.shape[-1]
    limits = Limits(
        float(model.score_thresh),
        float(model.nms_thresh),
        int(model.detections_per_img),
        int(model.topk_candidates),
        largest_coordinate=columns
        * (max(max(size) for size in batch.image_sizes) + 1),  # torchvision shifts the classes apart
    )
    boxes = torch.stack(tuple(anchors)).cpu()  # only looked up by box index, which torchvision does not return
    comparison = compare_detections(ours, original, limits, Candidates(boxes, scores), first_image=first)
    return comparison, sum(len(image["scores"]) for image in original)


def _in_unit_range(image: Tensor) -> Tensor:
    return image.float() / 255 if image.dtype == torch.uint8 else image
