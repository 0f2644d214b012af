"""Builds layers of weiliu89/caffe (branch ssd) and runs them on `dialect_inputs`: tests/golden/caffe/*.npz.

GLOG_minloglevel=1 OPENBLAS_NUM_THREADS=1 python tests/golden/make_caffe.py CLONE [OUT]

CLONE is a checkout of the project (commit: SOURCES.md). Needs g++, protoc, protobuf, boost, glog, gflags, OpenBLAS and
their headers. Caffe's files are compiled unchanged, for the CPU and without OpenCV; caffe_layers.cpp calls them.
"""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recording import HERE, record, save

LAYERS = ("detection_output", "loss", "multibox_loss", "prior_box", "smooth_L1_loss", "softmax", "softmax_loss")
SOURCES = (
    *("blob", "common", "data_transformer", "layer", "syncedmem"),
    *(f"layers/{name}_layer" for name in LAYERS),
    *("util/bbox_util", "util/im_transforms", "util/io", "util/math_functions"),
)
FLAGS = (
    *("-std=c++14", "-O2", "-w", "-DBOOST_BIND_GLOBAL_PLACEHOLDERS", "-fPIC", "-DCPU_ONLY", "-DNDEBUG"),
    "-DSetTotalBytesLimit(limit,...)=SetTotalBytesLimit(limit)",  # protobuf takes one argument now
)
LIBRARIES = ("protobuf", "glog", "boost_system", "boost_thread", "boost_filesystem", "boost_regex", "openblas")

RATIOS300 = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
RATIOS512 = ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))
STEPS300, STEPS512 = (8, 16, 32, 64, 100, 300), (8, 16, 32, 64, 128, 256, 512)
MAPS300, MAPS512 = (38, 19, 10, 5, 3, 1), (64, 32, 16, 8, 4, 2, 1)
VOC300, COCO300 = (30, 60, 111, 162, 213, 264, 315), (21, 45, 99, 153, 207, 261, 315)
VOC512 = (35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6)
COCO512 = (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72)
EVERY = 8  # one in 8 rows of the gradient of the logits is kept


@dataclass(frozen=True)
class Network:
    """The figures of a prototxt, and the floor of logits at which its threshold leaves enough candidates."""

    side: int
    columns: int
    maps: tuple[int, ...]
    smallest: tuple[float, ...]
    largest: tuple[float | None, ...]
    ratios: tuple[tuple[int, ...], ...]
    steps: tuple[int, ...] | None
    threshold: float = 0.01
    top_k: int = 400
    keep_top_k: int = 200
    floor: float = -10.5  # of head_outputs


NETWORKS = {
    "caffe_ssd300_voc": Network(300, 21, MAPS300, VOC300[:-1], VOC300[1:], RATIOS300, STEPS300),
    "caffe_ssd300_coco": Network(300, 81, MAPS300, COCO300[:-1], COCO300[1:], RATIOS300, STEPS300),
    "caffe_ssd512_voc": Network(512, 21, MAPS512, VOC512[:-1], VOC512[1:], RATIOS512, STEPS512),
    "caffe_ssd512_coco": Network(512, 81, MAPS512, COCO512[:-1], COCO512[1:], RATIOS512, STEPS512),
    "caffe_mobilenet_ssd_voc": Network(
        side=300,
        columns=21,
        maps=(19, 10, 5, 3, 2, 1),
        smallest=(60, 105, 150, 195, 240, 285),
        largest=(None, 150, 195, 240, 285, 300),
        ratios=((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2, 3)),
        steps=None,
        threshold=0.25,
        top_k=100,
        keep_top_k=100,
        floor=-6.5,
    ),
    "opencv_res10": Network(300, 2, (38, 19, 10, 5, 5, 5), VOC300[:-1], VOC300[1:], RATIOS300, STEPS300),
}
DETECTED = ("caffe_ssd300_voc", "caffe_mobilenet_ssd_voc")  # the others run the same code


def main(clone: str, out: str | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        caffe = Caffe(build(Path(clone), Path(folder)))
    for name, network in NETWORKS.items():
        save("caffe", out, name, answers(caffe, network, name in DETECTED))


def build(clone: Path, folder: Path) -> ctypes.CDLL:
    source, generated = clone / "src" / "caffe", folder / "caffe" / "proto"
    generated.mkdir(parents=True)
    run("protoc", "-I", source / "proto", f"--cpp_out={generated}", source / "proto" / "caffe.proto")
    files = [*(source / f"{name}.cpp" for name in SOURCES), generated / "caffe.pb.cc", HERE / "caffe_layers.cpp"]
    for file in files:
        run("g++", *FLAGS, "-I", clone / "include", "-I", folder, "-c", file, "-o", folder / f"{file.stem}.o")
    run("g++", "-shared", *folder.glob("*.o"), "-o", folder / "caffe.so", *(f"-l{name}" for name in LIBRARIES))
    return ctypes.CDLL(str(folder / "caffe.so"))


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


class Caffe:
    """The layers as functions of float32 arrays."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        library.multibox_loss.restype = ctypes.c_float

    def prior_boxes(self, network: Network) -> np.ndarray:
        """Return [P, 4] corners."""
        levels = []
        for i, side in enumerate(network.maps):
            text = f"min_size: {network.smallest[i]} flip: true clip: false offset: 0.5"
            text += "".join(f" aspect_ratio: {ratio}" for ratio in network.ratios[i])
            text += f" max_size: {network.largest[i]}" if network.largest[i] else ""
            text += f" step: {network.steps[i]}" if network.steps else ""
            level = np.empty((side * side * 6, 4), np.float32)
            count = self.library.prior_box(as_text("prior_box", text), side, network.side, pointer(level))
            levels.append(level[: count // 4])
        return np.concatenate(levels)

    def multibox_loss(self, priors, logits, deltas, truths, *, trained=(True, True)) -> dict[str, Any]:
        """trained: whether offsets and logits are trained, so that the loss can be that of one alone."""
        num_images, num_priors, num_columns = logits.shape
        rows = [
            [n, label, 0, *box, 0]
            for n, (boxes, labels) in enumerate(truths)
            for box, label in zip(boxes.tolist(), labels.tolist(), strict=True)
        ]
        # as in examples/ssd/ssd_pascal.py and ssd_coco.py
        text = as_text(
            "multibox_loss",
            f"loc_loss_type: SMOOTH_L1 conf_loss_type: SOFTMAX loc_weight: 1 num_classes: {num_columns} "
            "share_location: true match_type: PER_PREDICTION overlap_threshold: 0.5 use_prior_for_matching: true "
            "background_label_id: 0 use_difficult_gt: true mining_type: MAX_NEGATIVE neg_pos_ratio: 3 neg_overlap: 0.5 "
            "code_type: CENTER_SIZE ignore_cross_boundary_bbox: false",
            "loss_param { normalization: VALID }"
            + "".join(f" propagate_down: {str(value).lower()}" for value in (*trained, False, False)),
        )
        found = {
            "matched": np.empty((num_images, num_priors), np.int32),
            "mined": np.zeros((num_images, num_priors), np.int32),
            "encoded": np.empty((num_images, num_priors, 4), np.float32),
            "deltas_gradient": np.empty((num_images, num_priors, 4), np.float32),
            "logits_gradient": np.empty(logits.shape, np.float32),
        }
        inputs = [np.ascontiguousarray(x, np.float32) for x in (deltas, logits, priors, rows)]
        loss = self.library.multibox_loss(
            text, *logits.shape, *map(pointer, inputs), len(rows), *map(pointer, found.values())
        )
        encoded = found["encoded"].reshape(-1, 4)[: (found["matched"] >= 0).sum()]
        return found | {"encoded": encoded, "loss": loss}

    def softmax(self, logits: np.ndarray) -> np.ndarray:
        scores = np.empty_like(logits)
        rows, columns = logits.size // logits.shape[-1], logits.shape[-1]
        self.library.softmax(rows, columns, pointer(logits), pointer(scores))
        return scores

    def decode(self, priors: np.ndarray, deltas: np.ndarray) -> np.ndarray:
        boxes = np.empty_like(deltas)
        self.library.decode(len(deltas), pointer(deltas), pointer(priors), pointer(boxes))
        return boxes

    def detection_output(self, priors, scores, deltas, threshold, top_k, keep_top_k, iou_threshold=0.45) -> np.ndarray:
        """Return rows of image, label, score and corners."""
        text = as_text(
            "detection_output",
            f"num_classes: {scores.shape[2]} share_location: true background_label_id: 0 code_type: CENTER_SIZE "
            f"nms_param {{ nms_threshold: {iou_threshold} top_k: {top_k} }} keep_top_k: {keep_top_k} "
            f"confidence_threshold: {threshold}",
        )
        rows = np.empty((scores.size, 7), np.float32)
        inputs = (deltas, scores, priors)
        return rows[: self.library.detection_output(text, *scores.shape, *map(pointer, inputs), pointer(rows))]


def as_text(layer: str, parameters: str, more: str = "") -> bytes:
    return f"{layer}_param {{ {parameters} }} {more}".encode()


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    assert array.flags.c_contiguous and array.dtype in (np.float32, np.int32)
    return ctypes.c_void_p(array.ctypes.data)


def answers(caffe: Caffe, network: Network, detected: bool) -> dict[str, Any]:
    boxes = caffe.prior_boxes(network)
    priors = with_variances(boxes)
    more: dict[str, Any] = {}

    def match(truths, _):
        found = matching(caffe, priors, truths)
        matched = torch.from_numpy(found["matched"][0])
        offsets = torch.zeros(len(boxes), 4)
        offsets[matched >= 0] = torch.from_numpy(found["encoded"])
        return offsets, matched + 1

    def loss(logits, deltas, truths):
        arguments = priors, logits.numpy(), deltas.numpy(), truths
        found = caffe.multibox_loss(*arguments)
        for n, (matched, mined) in enumerate(zip(found["matched"], found["mined"], strict=True)):
            positives, negatives = np.flatnonzero(matched >= 0), np.flatnonzero(mined)
            more[f"mined_{n}"] = negatives.astype(np.int16)
            more[f"bbox_gradient_{n}"] = found["deltas_gradient"][n, positives]
            rows = np.concatenate((positives, negatives))[::EVERY]
            more[f"cls_gradient_{n}"] = found["logits_gradient"][n, rows]
        nothing = torch.zeros(0, 4), torch.zeros(0)
        more["losses_one_empty"] = np.array(each_loss(*arguments[:3], [nothing, truths[1]]))
        return each_loss(*arguments)

    def each_loss(*arguments):
        return [caffe.multibox_loss(*arguments, trained=one)["loss"] for one in ((True, False), (False, True))]

    def detect(logits, deltas, keep_top_k=network.keep_top_k):
        scores = caffe.softmax(logits.numpy())
        found = caffe.detection_output(priors, scores, deltas.numpy(), network.threshold, network.top_k, keep_top_k)
        rows = torch.from_numpy(found)
        images = [rows[rows[:, 0] == n] for n in range(len(logits))]
        return [{"boxes": x[:, 3:], "scores": x[:, 2], "labels": x[:, 1]} for x in images]

    def exact(logits, boxes, truths):
        exact_priors, no_offsets = with_variances(boxes.numpy()), np.zeros((1, len(boxes), 4), np.float32)
        scores = caffe.softmax(logits.numpy())
        rows = caffe.detection_output(exact_priors, scores, no_offsets, 0.5, 1000, 1000, iou_threshold=0.5)
        return torch.from_numpy(matching(caffe, exact_priors, truths)["matched"][0]), torch.from_numpy(rows[:, 2])

    recorded = record(
        network.side,
        network.columns,
        torch.from_numpy(boxes),
        match,
        lambda deltas: torch.from_numpy(caffe.decode(priors, deltas.numpy())),
        loss,
        detect if detected else None,
        exact=exact,
        more={"all": lambda logits, deltas: detect(logits, deltas, -1)} if detected else None,
        floor=network.floor,
    )
    return recorded | more


def matching(caffe: Caffe, priors: np.ndarray, truths: Any) -> dict[str, Any]:
    """Return multibox_loss's results for the ground truths of an image, all of one class."""
    num_priors = priors.shape[1]
    no_outputs = np.zeros((1, num_priors, 2)), np.zeros((1, num_priors, 4))
    return caffe.multibox_loss(priors, *no_outputs, [(truths, np.ones(len(truths)))])


def with_variances(boxes: np.ndarray) -> np.ndarray:
    """Return [2, P, 4], the blob of a PriorBox layer."""
    return np.stack((boxes, np.tile(np.float32([0.1, 0.1, 0.2, 0.2]), (len(boxes), 1))))


if __name__ == "__main__":
    main(*sys.argv[1:])
