"""Open detection datasets on disk: PASCAL VOC's layout, COCO's JSON, and a folder with one hand-written JSON."""

from .coco_export import to_coco
from .dataset import DetectionDataset, Problem, Sample
from .formats import list_splits, open_dataset

__all__ = ["DetectionDataset", "Problem", "Sample", "list_splits", "open_dataset", "to_coco"]
