"""The outputs of other runtimes in tests/golden (their origins: SOURCES.md), as tensors and specs."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from helpers.paths import GOLDEN
from ssd_fast.detections import Detections
from ssd_fast.presets import preset
from ssd_fast.specs import BoxCoderSpec, DefaultBoxSpec, PostprocessSpec

FOLDER = GOLDEN

PRIORBOX = ("mobilenet_ssd_voc", "ssd300_vgg_coco", "ssd300_vgg_voc", "ssd300_vgg_voc_clip", "ssd512_vgg_voc")
OPENCV = tuple((photo, setting) for photo in ("astronaut", "coffee") for setting in ("default", "loose", "tight"))
TENSORFLOW = ("astronaut", "china")
NMS = tuple(
    (workload, f"keep_tf_{key}")
    for workload, keys in (
        ("coco_astronaut_t0.001", ("iou0.3", "iou0.45", "iou0.5", "iou0.6", "agnostic_iou0.5")),
        ("face_faceapi_6_640x512_t0.0", ("iou0.3", "iou0.45", "iou0.5", "iou0.6")),
    )
    for key in keys
)


def load(folder: str, name: str) -> dict[str, Any]:
    """Load the arrays of a file, with params and config parsed from JSON."""
    with np.load(FOLDER / folder / f"{name}.npz") as arrays:
        return {
            key: json.loads(str(value)) if value.dtype.kind == "U" else value
            for key, value in ((key, arrays[key]) for key in arrays.files)
        }


def priorbox(name: str) -> tuple[DefaultBoxSpec, Tensor]:
    """Load a published configuration and OpenCV's default boxes for it."""
    arrays = load("priorbox_opencv", name)
    config = arrays["config"]
    width, height = config["wh"]
    levels = config["L"]
    steps = [level["step"] for level in levels]
    spec = DefaultBoxSpec.from_min_max(
        (height, width),
        config["fm"],
        min_sizes=[level["min"][0] for level in levels],
        max_sizes=[level["max"][0] if level["max"] else None for level in levels],
        aspect_ratios=[level["ar"] for level in levels],
        steps=None if None in steps else steps,
        clip=config.get("clip", False),
    )
    return spec, torch.from_numpy(arrays["prior_corners_norm"])


class Case(NamedTuple):
    """Arguments of postprocess, and another runtime's detections for them."""

    cls_logits: Tensor
    bbox_regression: Tensor
    default_boxes: Tensor
    spec: PostprocessSpec
    coder: BoxCoderSpec
    image_sizes: tuple[int, int] | None
    expected: Detections


def opencv(photo: str, setting: str) -> Case:
    """Load OpenCV's face detector: normalized boxes, the rows of its detection_out."""
    arrays = load("res10_face_ssd", photo)
    params, rows = arrays[f"params__{setting}"], torch.from_numpy(arrays[f"detection_out__{setting}"])
    spec = PostprocessSpec(
        score_threshold=params["conf"], iou_threshold=params["nms"], top_k=params["topk"], keep_top_k=params["keep"]
    )
    return Case(
        torch.from_numpy(arrays["mbox_conf_logits"])[None],
        torch.from_numpy(arrays["mbox_loc"])[None],
        torch.from_numpy(arrays["mbox_priorbox"]),
        spec,
        BoxCoderSpec(),
        None,
        detections(rows[:, 3:], rows[:, 2], rows[:, 1], arrays[f"kept_prior_idx__{setting}"], spec.keep_top_k),
    )


def tensorflow(photo: str) -> Case:
    """Load TensorFlow's pedestrian SSDLite: normalized boxes, offsets and anchors with y first."""
    arrays = load("pedestrian_ssdlite_mnv2_tf", photo)
    ssdlite = preset("tf_ssdlite_mobilenet_v2")
    xyxy = [1, 0, 3, 2]
    return Case(
        torch.from_numpy(arrays["class_logits"])[None],
        torch.from_numpy(arrays["box_encodings_tytxthtw"])[None],
        torch.from_numpy(arrays["anchors_yxyx"])[:, xyxy].contiguous(),
        ssdlite.postprocess,
        ssdlite.coder,
        (1, 1),
        detections(
            torch.from_numpy(arrays["det_boxes_yxyx"])[:, xyxy],
            torch.from_numpy(arrays["det_scores"]),
            torch.from_numpy(arrays["det_classes"]),
            arrays["kept_anchor_idx"],
            100,
        ),
    )


def nms(workload: str, key: str) -> tuple[Tensor, Tensor, Tensor | None, float, Tensor]:
    """Load boxes, scores, classes (None: agnostic), threshold, and kept indices: classes ascending, then best first."""
    arrays = load("nms_workloads", workload)
    classes = None if "agnostic" in key else torch.from_numpy(arrays["classes"]).long()
    kept = torch.from_numpy(arrays[key]).long()
    boxes, scores = torch.from_numpy(arrays["boxes_xyxy_px"]), torch.from_numpy(arrays["scores"])
    return boxes, scores, classes, float(key.split("iou")[1]), kept


def by_class(kept: Tensor, classes: Tensor | None) -> Tensor:
    """Return kept indices, given best first, in the order of `nms`."""
    return kept if classes is None else kept[torch.sort(classes[kept], stable=True).indices]


def detections(boxes: Tensor, scores: Tensor, labels: Tensor, indices: np.ndarray, keep_top_k: int) -> Detections:
    """Return one image's detections, padded."""
    k = len(scores)
    padded = Detections(
        torch.zeros(1, keep_top_k, 4),
        torch.zeros(1, keep_top_k),
        torch.full((1, keep_top_k), -1),
        torch.full((1, keep_top_k), -1),
        torch.tensor([k]),
    )
    padded.boxes[0, :k], padded.scores[0, :k] = boxes, scores
    padded.labels[0, :k], padded.box_idxs[0, :k] = labels.long(), torch.from_numpy(indices).long()
    return padded


MATCHES = tuple(
    (network, photo)
    for network, photos in (
        ("ssd300_vgg16", ("BloodImage_00000", "BloodImage_00038", "BloodImage_00077", "OSBS_029")),
        ("ssdlite320", ("BloodImage_00000", "BloodImage_00038", "BloodImage_00077")),
    )
    for photo in photos
)


def match(network: str, photo: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Load ground truths, default boxes, and torchvision's match and largest IoU of each default box."""
    arrays = load("matching_torchvision", f"tv_{network}__{photo}")
    default_boxes = load("matching_torchvision", f"tv_{network}__priors")["default_boxes_xyxy_px"]
    return (
        torch.from_numpy(arrays["gt_boxes_xyxy_px"]),
        torch.from_numpy(default_boxes),
        torch.from_numpy(arrays["matched_gt_idx"]).long(),
        torch.from_numpy(arrays["max_iou_per_prior"]),
    )
