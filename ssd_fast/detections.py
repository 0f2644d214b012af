"""Detections: the result of postprocess, padded to a fixed shape so that nothing waits for the GPU."""

from __future__ import annotations

from typing import Any, NamedTuple


class Detections(NamedTuple):
    """Detections of N images, best first, padded to K per image.

    A NamedTuple, and so a pytree: it passes through torch.compile, torch.export and CUDA graphs.

    Attributes:
        boxes: float32 [N, K, 4] xyxy; padding is 0.
        scores: float32 [N, K]; padding is 0.
        labels: int64 [N, K], columns of cls_logits; padding is -1.
        box_idxs: int64 [N, K], indices of default boxes; padding is -1.
        counts: int64 [N], how many of the K are detections.

    Examples:
        >>> import ssd_fast, torch
        >>> found = ssd_fast.Detections(
        ...     boxes=torch.tensor([[[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 0.0, 0.0]]]),
        ...     scores=torch.tensor([[0.9, 0.0]]),
        ...     labels=torch.tensor([[1, -1]]),
        ...     box_idxs=torch.tensor([[7, -1]]),
        ...     counts=torch.tensor([1]),
        ... )
        >>> found.to_list()
        [{'boxes': tensor([[0., 0., 4., 4.]]), 'scores': tensor([0.9000]), 'labels': tensor([1]),
          'box_idxs': tensor([7])}]
    """

    boxes: Any
    scores: Any
    labels: Any
    box_idxs: Any
    counts: Any

    def to_list(self) -> list[dict[str, Any]]:
        """Return one dict per image, without padding.

        Returns:
            Dicts with "boxes" [k, 4], "scores" [k] and "labels" [k], as torchvision's detectors return, and "box_idxs"
                [k].

        Syncs:
            Once, to read the counts.
        """
        counts = [int(count) for count in self.counts.tolist()]
        fields = ("boxes", "scores", "labels", "box_idxs")
        return [{field: getattr(self, field)[i, :k] for field in fields} for i, k in enumerate(counts)]
