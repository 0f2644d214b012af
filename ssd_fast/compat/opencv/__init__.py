"""OpenCV's DNN module: its DetectionOutput layer and NMSBoxes for NumPy arrays, by the kernels of this package."""

from .detection_output import detection_out
from .nms import nms_boxes

__all__ = ["detection_out", "nms_boxes"]
