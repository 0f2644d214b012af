"""Detection datasets on disk: PASCAL VOC's layout, COCO's JSON, and a folder with one JSON written by hand."""

from .coco import to_coco
from .dataset import DetectionDataset, Problem, Sample
from .opening import open_dataset

__all__ = ["DetectionDataset", "Problem", "Sample", "open_dataset", "to_coco"]
