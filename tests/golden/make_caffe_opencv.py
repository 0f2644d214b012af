"""Runs OpenCV's DetectionOutput layer on `dialect_inputs`: tests/golden/caffe_opencv/*.npz.

python tests/golden/make_caffe_opencv.py [OUT]     (OpenCV: SOURCES.md)

The figures are those of the original prototxt files: weiliu89/caffe, examples/ssd, and chuanqi305/MobileNet-SSD.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from helpers import dialect_inputs  # noqa: E402

DETECTION = {  # confidence threshold, top_k, keep_top_k, and the floor of head_outputs
    "caffe_ssd300_voc": ("ssd300_vgg_voc", 0.01, 400, 200, -10.5),
    "caffe_mobilenet_ssd_voc": ("mobilenet_ssd_voc", 0.25, 100, 100, -6.5),
}
COLUMNS = 21


def main(out: str | None = None) -> None:
    cv2.setNumThreads(1)
    folder = Path(out) if out else HERE / "caffe_opencv"
    folder.mkdir(exist_ok=True)
    for name, (prior_box, threshold, top_k, keep_top_k, floor) in DETECTION.items():
        with np.load(HERE / "priorbox_opencv" / f"{prior_box}.npz") as arrays:
            boxes = arrays["prior_corners_norm"]  # by the PriorBox layer, too
        logits, deltas = dialect_inputs.head_outputs(len(boxes), COLUMNS, floor=floor)
        found = {"inputs": dialect_inputs.digest(logits, deltas)}
        for prefix, keep in (("detected", keep_top_k), ("all", 100_000)):
            for n in range(2):
                rows = detection_output(boxes, softmax(logits[n]), deltas[n], threshold, top_k, keep)
                rows = rows[rows[:, 2] > 0]  # the rest are rows of zeros
                rows = rows[np.argsort(-rows[:, 2], kind="stable")]
                found[f"{prefix}_boxes_{n}"], found[f"{prefix}_scores_{n}"] = rows[:, 3:7], rows[:, 2]
                found[f"{prefix}_labels_{n}"] = rows[:, 1].astype(np.int16)
        logits, boxes, _ = dialect_inputs.exact_scene()
        rows = detection_output(boxes, softmax(logits[0]), np.zeros_like(boxes), 0.5, 1000, 1000, threshold_nms=0.5)
        found["exact_scores"] = -np.sort(-rows[rows[:, 2] > 0, 2])
        np.savez_compressed(folder / f"{name}.npz", **found)


def detection_output(
    boxes: np.ndarray,
    scores: np.ndarray,
    deltas: np.ndarray,
    threshold: float,
    top_k: int,
    keep_top_k: int,
    *,
    threshold_nms: float = 0.45,
) -> np.ndarray:
    """Return rows of image, label, score, x1, y1, x2, y2."""
    variances = np.tile(np.float32([0.1, 0.1, 0.2, 0.2]), len(boxes))
    inputs = {
        "loc": deltas.reshape(1, -1),
        "conf": scores.reshape(1, -1),
        "prior": np.stack((boxes.reshape(-1), variances))[None],
    }
    text = "".join(network_input(name, value.shape) for name, value in inputs.items())
    text += (
        'layer { name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "out" '
        f"detection_output_param {{ num_classes: {scores.shape[1]} share_location: true "
        f"background_label_id: 0 nms_param {{ nms_threshold: {threshold_nms} top_k: {top_k} }} code_type: CENTER_SIZE "
        f"keep_top_k: {keep_top_k} confidence_threshold: {threshold} clip: false }} }}\n"
    )
    return run(text, inputs)[0, 0]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Compute a softmax by OpenCV's layer."""
    text = network_input("logits", logits.shape)
    text += 'layer { name: "p" type: "Softmax" bottom: "logits" top: "p" softmax_param { axis: 1 } }\n'
    return run(text, {"logits": logits})


def network_input(name: str, shape: tuple[int, ...]) -> str:
    dims = " ".join(f"dim: {side}" for side in shape)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'


def run(text: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
    net = cv2.dnn.readNetFromCaffe(bytearray(text.encode()))
    for name, value in inputs.items():
        net.setInput(np.ascontiguousarray(value), name)
    return net.forward().copy()


if __name__ == "__main__":
    main(*sys.argv[1:])
