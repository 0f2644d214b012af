"""OpenCV's DNN module for NumPy arrays, by our kernels: its DetectionOutput layer, NMSBoxes and NMSBoxesBatched."""

from .detection_output import detection_out
from .nms import nms_boxes, nms_boxes_batched

__all__ = ["detection_out", "nms_boxes", "nms_boxes_batched"]
