"""Detections: what postprocess returns, padded to a fixed shape so that nothing waits for the GPU."""

from __future__ import annotations

from typing import Any, NamedTuple


class Detections(NamedTuple):
    """Detections of N images, best first, padded to K an image.

    boxes: float32 [N, K, 4] xyxy, padding 0.          scores: float32 [N, K], padding 0.
    labels: int64 [N, K], columns of cls_logits, padding -1.  box_idxs: int64 [N, K], default boxes, padding -1.
    counts: int64 [N], how many of the K are detections.

    A NamedTuple, and so a pytree: it passes through torch.compile, torch.export and CUDA graphs.
    """

    boxes: Any
    scores: Any
    labels: Any
    box_idxs: Any
    counts: Any

    def to_list(self) -> list[dict[str, Any]]:
        """A dict an image with "boxes" [k, 4], "scores" [k], "labels" [k] as torchvision's detectors return, and
        "box_idxs" [k], without padding.

        Syncs:
            Once, to read the counts.
        """
        counts = [int(count) for count in self.counts.tolist()]
        fields = ("boxes", "scores", "labels", "box_idxs")
        return [{field: getattr(self, field)[i, :k] for field in fields} for i, k in enumerate(counts)]
