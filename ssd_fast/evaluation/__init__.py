"""Evaluate detectors: COCO's metrics by pycocotools, VOC's average precision, tables and curves."""

from .coco import coco_results
from .evaluator import evaluate, evaluate_detections
from .inference import detect_dataset, missing_classes
from .result import ClassResult, Evaluation
from .voc import Curve, OperatingPoint, voc07_ap, voc12_ap

__all__ = [
    "ClassResult",
    "Curve",
    "Evaluation",
    "OperatingPoint",
    "coco_results",
    "detect_dataset",
    "evaluate",
    "evaluate_detections",
    "missing_classes",
    "voc07_ap",
    "voc12_ap",
]
