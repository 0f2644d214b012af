"""Convert any dataset to COCO's JSON format."""

from __future__ import annotations

from typing import Any

from .dataset import DetectionDataset

__all__ = ["to_coco"]


def to_coco(dataset: DetectionDataset) -> dict[str, Any]:
    """Convert the ground truths of a dataset to COCO's JSON format, for pycocotools or a file.

    Returns:
        A dict of "images", "annotations" and "categories". An image's id is 1 + its index in the dataset, a category's
            id is its label, and annotation ids count from 1. "bbox" is xywh in pixels. "area" is the area of the box,
            since segmentations are not read: COCO's own, the area of the mask, is smaller, and moves objects between
            small, medium and large. "iscrowd" and "ignore" are 1 for ignored ground truths (pycocotools reads only
            iscrowd).

    Examples:
        >>> import numpy as np
        >>> from ssd_fast.datasets import DetectionDataset, Sample, to_coco
        >>> box = np.array([[10, 20, 30, 60]], np.float32)
        >>> sample = Sample("a.jpg", "a.jpg", (100, 200), box, np.array([1]), np.array([False]))
        >>> to_coco(DetectionDataset([sample], classes=("cat",)))["annotations"][0]["bbox"]
        [10.0, 20.0, 20.0, 40.0]
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, sample in enumerate(dataset.samples):
        height, width = sample.size
        images.append({"id": index + 1, "file_name": sample.name, "width": width, "height": height})
        columns = (sample.boxes.tolist(), sample.labels.tolist(), sample.ignored.tolist())
        for (x1, y1, x2, y2), label, ignored in zip(*columns, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": label,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(ignored),
                    "ignore": int(ignored),
                }
            )
    categories = [{"id": label, "name": name} for label, name in enumerate(dataset.classes, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}
