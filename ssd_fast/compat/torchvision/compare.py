"""compare: a torchvision SSD and the same model patched, side by side on one's own images."""

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

__all__ = ["ParityReport", "compare"]

_SHOWN = 10  # differences that a printed report lists


@dataclass(frozen=True)
class ParityReport:
    """What `compare` found.

    Attributes:
        images, detections: how many were compared; detections of the original.
        pairs: detections that both have.
        largest_score_difference, largest_box_difference: of the pairs; boxes in pixels of the network's input.
        excused: differences that rounding explains, a line each that ends with why: scores that tie or sit at the
            threshold or at the cut of topk_candidates, IoUs at the threshold (where the original itself, which tells
            classes apart by shifting boxes, is off by more than a rounding).
        unexplained: all others. There should be none.
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
        """Whether there were detections and most could be compared; of an untrained model nearly all scores tie."""
        return 0 < self.detections <= 2 * self.pairs

    @property
    def agrees(self) -> bool:
        """Whether detections were found, every difference is explained, and most detections are in both."""
        return self.is_conclusive and not self.unexplained

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them, and "agrees"."""
        return {"agrees": self.agrees, **asdict(self)}

    def __str__(self) -> str:
        verdict = "they agree" if self.agrees else "too many ties to tell"
        if not self.detections:
            verdict = "nothing was found to compare; lower the model's score_thresh or take other photos"
        if self.unexplained:
            verdict = f"{len(self.unexplained)} differences have no explanation"
        lines = [
            f"{self.images} images, {self.detections} detections, {self.pairs} of them in both: {verdict}",
            f"largest differences: score {self.largest_score_difference:.3g}, box {self.largest_box_difference:.3g} px",
        ]
        for title, found in (("unexplained", self.unexplained), ("explained by rounding", self.excused)):
            lines += [f"{title}: {line}" for line in found[:_SHOWN]]
            lines += [f"{title}: and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        return "\n".join(lines)


@torch.no_grad()
def compare(model: Any, images: Image | Sequence[Image], *, batch_size: int = 8) -> ParityReport:
    """Runs a torchvision SSD with its own postprocess and with ours on the same head outputs, and compares.

    The model is left as it was. The network runs once an image, in eval mode, so what differs is the postprocess.

    Args:
        model: as for `patch`; patched or not.
        images: one or several, as a Detector takes them: paths, PIL images, uint8 arrays [H, W, 3], tensors.
        batch_size: images at a time.

    Returns:
        ParityReport; print it, or look at `.agrees`.

    Tolerances:
        Scores 1e-6, boxes 1e-4 px (or 4 ulp, if that is more).

    Raises:
        as patch
        TypeError: an image of another kind.
        ValueError: an image of another kind.
        ValueError: no images.
    """
    several = isinstance(images, (list, tuple)) or getattr(images, "ndim", 3) == 4
    items: list[Any] = list(images) if several else [images]  # type: ignore[arg-type]
    if not items:
        raise ValueError("compare: images: expected at least one, got none")
    integer("compare", "batch_size", batch_size, "at least 1", 1)
    with patched(model):  # which checks the model
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
    """What differs on one batch, whose first image has that number, and how many detections the original has."""
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
        largest_coordinate=columns * (max(max(size) for size in batch.image_sizes) + 1),  # classes are shifted apart
    )
    boxes = torch.stack(tuple(anchors)).cpu()  # looked up by box index only, which torchvision does not give
    comparison = compare_detections(ours, original, limits, Candidates(boxes, scores), first_image=first)
    return comparison, sum(len(image["scores"]) for image in original)


def _in_unit_range(image: Tensor) -> Tensor:
    return image.float() / 255 if image.dtype == torch.uint8 else image
