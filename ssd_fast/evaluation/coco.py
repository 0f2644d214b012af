"""Compute COCO's metrics with pycocotools, and convert detections to COCO's results format."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._inputs import ImageDetections, read_detections

__all__ = ["COCO_METRICS", "MAX_DETECTIONS", "CocoResult", "coco_evaluate", "coco_results", "require_pycocotools"]

# In the order of pycocotools' stats.
COCO_METRICS = (
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar1",
    "ar10",
    "ar100",
    "ar_small",
    "ar_medium",
    "ar_large",
)
MAX_DETECTIONS = 100  # pycocotools counts this many detections per class and image, the best ones


@dataclass(frozen=True)
class CocoResult:
    """COCO's figures.

    Attributes:
        metrics: values by the names in COCO_METRICS, None where no ground truth has that size.
        per_class: AP and AP50 by label, without classes that have no ground truth.
        beyond_max: the number of detections past MAX_DETECTIONS, which do not count.
    """

    metrics: dict[str, float | None]
    per_class: dict[int, tuple[float, float]]
    beyond_max: int


def require_pycocotools() -> Any:
    """Import the modules coco and cocoeval of pycocotools.

    Raises:
        ImportError: it is not installed; the message says how to get it.
    """
    try:
        from pycocotools import coco, cocoeval
    except ImportError as error:
        raise ImportError(
            f"evaluation computes COCO's metrics with pycocotools: pip install ssd_fast[train] ({error})"
        ) from error
    return coco, cocoeval


def coco_results(detections: Any, dataset: Any) -> list[dict[str, Any]]:
    """Convert the detections of a whole dataset to COCO's results format, ready for json.dump.

    Args:
        detections: as for evaluate_detections.
        dataset: the dataset, whose COCO form is `to_coco(dataset)`.

    Returns:
        One dict per detection: image_id (the image's index + 1, as in to_coco, whatever its id in a COCO file from
            which the dataset was read), category_id (the label, likewise), bbox (x, y, width, height), score, and
            file_name and category, which name the image and the class.

    Raises:
        TypeError: as evaluate_detections.
        ValueError: as evaluate_detections.

    Examples:
        >>> import numpy as np
        >>> from ssd_fast.datasets import DetectionDataset, Sample
        >>> from ssd_fast.evaluation import coco_results
        >>> box = np.array([[10, 20, 30, 60]], np.float32)
        >>> sample = Sample("a.jpg", "a.jpg", (100, 200), box, np.array([1]), np.array([False]))
        >>> found = {"boxes": box, "scores": np.array([0.75]), "labels": np.array([1])}
        >>> coco_results([found], DetectionDataset([sample], classes=("cat",)))[0]["bbox"]
        [10.0, 20.0, 20.0, 40.0]
    """
    results = _as_results(read_detections(detections, dataset))
    for result in results:
        result["file_name"] = dataset.samples[result["image_id"] - 1].name
        result["category"] = dataset.classes[result["category_id"] - 1]
    return results


def coco_evaluate(ground_truth: dict[str, Any], detections: Sequence[ImageDetections], labels: list[int]) -> CocoResult:
    """Run pycocotools' bbox evaluation over all images and the given classes, without printing.

    Args:
        ground_truth: the result of `to_coco(dataset)`; pycocotools writes into it.
        detections: one entry per image.
        labels: the classes.
    """
    coco, cocoeval = require_pycocotools()
    # Classes without ground truths affect no figure, but pycocotools would visit every image for each.
    present = {annotation["category_id"] for annotation in ground_truth["annotations"]}
    results = [
        {**result, "id": number, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
        for number, result in enumerate(_as_results(detections), 1)  # 0 would mean "not matched" to pycocotools
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        # Not with loadRes, which fails on an empty list.
        truths, found = coco.COCO(), coco.COCO()
        truths.dataset = ground_truth
        found.dataset = {key: ground_truth[key] for key in ("images", "categories")} | {"annotations": results}
        truths.createIndex()
        found.createIndex()
        evaluation = cocoeval.COCOeval(truths, found, "bbox")
        evaluation.params.catIds = sorted(present.intersection(labels))
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    metrics = {name: float(v) if v >= 0 else None for name, v in zip(COCO_METRICS, evaluation.stats, strict=True)}
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # [IoU, recall, class], all sizes
    per_class = {
        int(label): (float(precision[:, :, k].mean()), float(precision[0, :, k].mean()))
        for k, label in enumerate(evaluation.params.catIds)
        if (precision[:, :, k] >= 0).all()
    }
    return CocoResult(metrics, per_class, _beyond_max(detections, labels))


def _as_results(detections: Sequence[ImageDetections]) -> list[dict[str, Any]]:
    return [
        {
            "image_id": image_id,
            "category_id": label,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for image_id, image in enumerate(detections, 1)
        for (x1, y1, x2, y2), label, score in zip(
            image.boxes.tolist(), image.labels.tolist(), image.scores.tolist(), strict=True
        )
    ]


def _beyond_max(detections: Sequence[ImageDetections], labels: list[int]) -> int:
    """Count the detections of these classes past the best MAX_DETECTIONS per class and image."""
    wanted = frozenset(labels)
    beyond = 0
    for image in detections:
        for label, count in zip(*np.unique(image.labels, return_counts=True), strict=True):
            beyond += max(int(count) - MAX_DETECTIONS, 0) if int(label) in wanted else 0
    return beyond
