"""Evaluate a detector, or detections made elsewhere, on a dataset."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from ..datasets.coco_export import to_coco
from ._inputs import ImageDetections, ImageGroundTruths, labels_of, read_detections, read_ground_truths
from .coco import coco_evaluate, require_pycocotools
from .inference import Progress, detect_dataset, missing_classes
from .result import ClassResult, Evaluation
from .voc import precision_recall, voc07_ap, voc12_ap

if TYPE_CHECKING:
    from ..datasets import DetectionDataset
    from ..detector import Detector

__all__ = ["evaluate", "evaluate_detections"]


def evaluate(
    detector: Detector,
    dataset: DetectionDataset,
    *,
    batch_size: int = 8,
    score_threshold: float | None = None,
    ignore_missing: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Run a detector over a dataset and compare its detections with the ground truths.

    Args:
        detector: the detector. Its classes are mapped to the dataset's by name, whatever their numbers; detections of
            classes that the dataset lacks are dropped.
        dataset: the dataset.
        batch_size: images per batch; the next batch is decoded meanwhile.
        score_threshold: only detections with higher scores count; None for the preset's threshold, which a fair AP
            needs.
        ignore_missing: leave out classes of the dataset that the detector does not have. Otherwise such a class is an
            error if it has ground truths, since it usually just has another name.
        progress: called after each batch with the number of images done and the number of all images.

    Raises:
        ImportError: pycocotools is not installed.
        ValueError: a dataset without images or ground truths, a class that the detector does not know, a box that is
            not finite, or an image that cannot be read.
    """
    require_pycocotools()
    missing = missing_classes(detector, dataset, ignore=ignore_missing)  # before the long work, not after it
    detections, rate = detect_dataset(
        detector, dataset, batch_size=batch_size, score_threshold=score_threshold, progress=progress
    )
    return evaluate_detections(detections, dataset, missing=missing, images_per_second=rate)


def evaluate_detections(
    detections: Any,
    dataset: DetectionDataset,
    *,
    missing: tuple[str, ...] = (),
    images_per_second: float | None = None,
) -> Evaluation:
    """Compare detections from any source with the ground truths of a dataset.

    Args:
        detections: Detections, or a list of dicts with boxes [k, 4] (xyxy, pixels of the upright image),
            scores [k] and labels [k] (1 is dataset.classes[0]): tensors, arrays or lists, one dict per image of the
            dataset, in any order of scores.
        dataset: a DetectionDataset; only its classes and samples are read. Its ignored ground truths (VOC's difficult
            ones, COCO's crowds) count as crowds in COCO's metrics and as difficult in VOC's.
        missing: names of classes to leave out of every figure.
        images_per_second: a rate to report.

    Ties:
        Equal scores: the earlier image, then the earlier detection.

    Raises:
        ImportError: pycocotools is not installed.
        TypeError: a value of another type; the message names the image.
        ValueError: wrong shapes, NaN or infinite values, inverted boxes or labels outside the classes (the message
            names the image and the detection); or no images or ground truths.

    Source:
        COCO's metrics: pycocotools. VOC's: `precision_recall`, `voc07_ap`, `voc12_ap`.

    Examples:
        >>> import numpy as np
        >>> from ssd_fast.datasets import DetectionDataset, Sample
        >>> from ssd_fast.evaluation import evaluate_detections
        >>> box = np.array([[10, 20, 50, 80]], np.float32)
        >>> sample = Sample("a.jpg", "a.jpg", (100, 200), box, np.array([1]), np.array([False]))
        >>> dataset = DetectionDataset([sample], classes=("cat",))
        >>> found = [{"boxes": box + 1, "scores": np.array([0.75]), "labels": np.array([1])}]
        >>> result = evaluate_detections(found, dataset)
        >>> round(result.ap50, 3), round(result.voc12, 3), result.per_class[0].best_f1.score_threshold
        (1.0, 1.0, 0.75)
    """
    require_pycocotools()
    left_out = labels_of(dataset, missing)
    truths = read_ground_truths(dataset, left_out)
    found = read_detections(detections, dataset)
    labels = [label for label in range(1, len(dataset.classes) + 1) if label not in left_out]
    coco = coco_evaluate(to_coco(dataset), found, labels)
    curves = precision_recall(found, truths, labels)
    counts = _counts(truths, found, len(dataset.classes))
    per_class = []
    for label, name in enumerate(dataset.classes, 1):
        counted, ignored, detected = counts[label]
        result = ClassResult(name, label, counted, ignored, detected)
        if (curve := curves.get(label)) is not None:
            ap, ap50 = coco.per_class[label]
            result = dataclasses.replace(
                result,
                ap=ap,
                ap50=ap50,
                voc07=voc07_ap(curve),
                voc12=voc12_ap(curve),
                best_f1=curve.best_f1(),
                curve=curve,
            )
        per_class.append(result)
    return Evaluation(
        **coco.metrics,
        voc07=sum(map(voc07_ap, curves.values())) / len(curves),
        voc12=sum(map(voc12_ap, curves.values())) / len(curves),
        images=len(truths),
        ground_truths=sum(result.ground_truths for result in per_class),
        ignored=sum(result.ignored for result in per_class),
        detections=sum(result.detections for result in per_class),
        beyond_100=coco.beyond_max,
        per_class=tuple(per_class),
        missing_classes=tuple(missing),
        images_per_second=images_per_second,
    )


def _counts(truths: list[ImageGroundTruths], found: list[ImageDetections], classes: int) -> list[list[int]]:
    """Count ground truths that count, ignored ones and detections, by label."""
    labels = np.concatenate([image.labels for image in truths])
    ignored = np.concatenate([image.ignored for image in truths])
    of_found = np.concatenate([image.labels for image in found])
    counts = [np.bincount(values, minlength=1 + classes) for values in (labels[~ignored], labels[ignored], of_found)]
    return np.stack(counts, axis=1).tolist()
