"""The dialects whose originals were run once, and their results in tests/golden (made by the scripts there)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ssd_fast
from helpers import dialect_inputs, goldens


@dataclass(frozen=True)
class Dialect:
    """A preset, its golden file (of the same name) and the parameters of that file.

    boxes_ulp, decoded_ulp: the largest differences measured, of a default box and of a decoded box (which may be 300
    times as large), in ulp of the box's largest coordinate. iou_epsilon: what the original adds to a union.
    """

    name: str
    folder: str
    columns: int
    boxes_ulp: int
    decoded_ulp: int
    background: int = 0
    pixels: bool = False
    iou_epsilon: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)  # of head_outputs

    @property
    def preset(self) -> ssd_fast.Preset:
        return ssd_fast.preset(self.name)

    @property
    def side(self) -> int:
        return self.preset.default_boxes.image_size[0]

    @property
    def golden(self) -> dict[str, Any]:
        return goldens.load(self.folder, self.name)

    def head_outputs(self) -> tuple[Tensor, Tensor]:
        """Return cls_logits and bbox_regression of two images."""
        rows = self.preset.default_boxes.num_boxes
        outputs = dialect_inputs.head_outputs(rows, self.columns, background=self.background, **self.options)
        return torch.from_numpy(outputs[0]), torch.from_numpy(outputs[1])

    def ground_truth(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return boxes in the unit of the default boxes and labels as columns of cls_logits, of three images."""
        truths = dialect_inputs.ground_truth(self.side, self.columns - 1)
        unit = 1 if self.pixels else self.side
        first = 1 if self.background == 0 else 0
        return (
            [torch.from_numpy(boxes) / unit for boxes, _ in truths],
            [torch.from_numpy(labels) - 1 + first for _, labels in truths],
        )

    def digest(self) -> int:
        truths = dialect_inputs.ground_truth(self.side, self.columns - 1)
        outputs = (x.numpy() for x in self.head_outputs())
        return dialect_inputs.digest(*outputs, *(x for pair in truths for x in pair))


def detected(golden: dict[str, Any], prefix: str = "detected") -> list[dict[str, np.ndarray]]:
    """Return the original's detections of the two images, best first."""
    return [{key: golden[f"{prefix}_{key}_{n}"] for key in ("boxes", "scores", "labels")} for n in range(2)]


def ulp_difference(actual: Tensor, expected: Tensor) -> Tensor:
    """Return [...] for boxes [..., 4]: the largest corner difference, in ulp of the expected largest coordinate."""
    largest = expected.abs().amax(-1).numpy()
    ulp = torch.from_numpy(np.spacing(largest)).double()
    return (actual.double() - expected.double()).abs().amax(-1) / ulp


PORTS = (
    Dialect("amdegroot_ssd300_voc", "pytorch_ports", 21, 2, 8),
    Dialect("amdegroot_ssd300_coco", "pytorch_ports", 81, 1, 9),
    Dialect("lufficc_ssd300_voc", "pytorch_ports", 21, 2, 8, iou_epsilon=1e-5),
    Dialect("lufficc_ssd300_coco", "pytorch_ports", 81, 1, 9, iou_epsilon=1e-5),
    Dialect("lufficc_ssd512_voc", "pytorch_ports", 21, 0, 11, iou_epsilon=1e-5),
    Dialect("lufficc_ssd512_coco", "pytorch_ports", 81, 0, 17, iou_epsilon=1e-5),
    Dialect("qfgaohao_vgg16", "pytorch_ports", 21, 2, 8, iou_epsilon=1e-5),
    Dialect("qfgaohao_mobilenet", "pytorch_ports", 21, 2, 4, iou_epsilon=1e-5),
    Dialect("nvidia_ssd300_coco", "nvidia", 81, 1, 7),
)
_MMDET: dict[str, Any] = {"background": -1, "pixels": True, "options": {"floor": -11.5}}
MMDETECTION = (
    Dialect("mmdet_ssd300_voc", "mmdetection", 21, 1, 2, **_MMDET),
    Dialect("mmdet_ssd300_coco", "mmdetection", 81, 1, 2, **_MMDET),
    Dialect("mmdet_ssd512_voc", "mmdetection", 21, 1, 4, **_MMDET),
    Dialect("mmdet_ssd512_coco", "mmdetection", 81, 1, 7, **_MMDET),
)
TENSORFLOW = (Dialect("tf_ssdlite_mobilenet_v2", "tensorflow", 91, 2, 5),)
CAFFE = (
    Dialect("caffe_ssd300_voc", "caffe", 21, 1, 9),
    Dialect("caffe_ssd300_coco", "caffe", 81, 1, 16),
    Dialect("caffe_ssd512_voc", "caffe", 21, 0, 2),
    Dialect("caffe_ssd512_coco", "caffe", 81, 0, 2),
    Dialect("caffe_mobilenet_ssd_voc", "caffe", 21, 1, 7, options={"floor": -6.5}),
    Dialect("opencv_res10", "caffe", 2, 1, 9),
)
ALL = PORTS + MMDETECTION + TENSORFLOW + CAFFE
