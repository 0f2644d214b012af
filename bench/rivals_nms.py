"""Rivals of nms, batched_nms and nms_padded."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from rivals import absent, as_numpy, cv2, from_torchvision, numba, onnx, onnxruntime, torchvision
from timing import Implementation
from torch import Tensor

from ssd_fast import reference

BYTES_PER_PAIR = 32  # per pair of boxes, at the peak of `suppress`
ON_CPU = "raced on the CPU only"


def torchvision_nms(name: str, run: Callable[..., Any], n: int, device: torch.device) -> Implementation:
    """A function that calls torchvision's nms on at most n boxes at a time.

    On a GPU, torchvision computes a mask of n * ceil(n / 64) 64-bit words with an int32 index. Beyond its range it
    writes out of bounds, after which no CUDA call of the process succeeds.
    """
    words = n * -(-n // 64)
    if device.type == "cuda" and words >= 2**31:
        return absent(name, f"the int32 index into its mask overflows at {n:,} boxes: it would write out of bounds")
    return Implementation(name, run, memory=8 * words if device.type == "cuda" else 0)


def nms(iou_threshold: float, n: int, device: torch.device) -> list[Implementation]:
    cuda = device.type == "cuda"

    def run(boxes: Tensor, scores: Tensor) -> Tensor:
        return torchvision.ops.nms(boxes, scores, iou_threshold)

    rivals = [from_torchvision(lambda: torchvision_nms("torchvision", run, n, device))]
    if n <= 1_000:
        rivals.append(Implementation("eager torch", lambda boxes, scores: reference.nms(boxes, scores, iou_threshold)))
    else:
        rivals.append(absent("eager torch", "one Python step per kept box: minutes at larger sizes"))
    if cuda:
        rivals += [absent("OpenCV", ON_CPU), absent("ONNX Runtime", ON_CPU)]
        return [*rivals, absent("numba", "has no NMS; one block is not a rival")]
    if cv2 is None:
        rivals.append(absent("OpenCV"))
    else:
        rivals.append(
            Implementation("OpenCV", lambda boxes, scores: cv2.dnn.NMSBoxes(boxes, scores, 0.0, iou_threshold), _xywh)
        )
    rivals.append(_onnx_nms(iou_threshold, n))
    if numba is None:
        rivals.append(absent("numba"))
    else:
        function = _numba_nms()
        rivals.append(Implementation("numba", lambda boxes, scores: function(boxes, scores, iou_threshold), as_numpy))
    return rivals


def _xywh(boxes: Tensor, scores: Tensor) -> tuple[Any, ...]:
    return torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), -1).double().numpy(), scores.numpy()


def _onnx_nms(iou_threshold: float, max_output: int) -> Implementation:
    """ONNX Runtime's NonMaxSuppression on the CPU, whose result has rows of image, class and box."""
    if onnx is None or onnxruntime is None:
        return absent("ONNX Runtime")
    helper, proto = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [helper.make_node("NonMaxSuppression", ["boxes", "scores", "max_output", "iou_threshold"], ["kept"])],
        "nms",
        [helper.make_tensor_value_info(name, proto.FLOAT, [None] * 3) for name in ("boxes", "scores")],
        [helper.make_tensor_value_info("kept", proto.INT64, [None, 3])],
        [
            helper.make_tensor("max_output", proto.INT64, [1], [max_output]),
            helper.make_tensor("iou_threshold", proto.FLOAT, [1], [iou_threshold]),
        ],
    )
    # Versions that an ONNX Runtime older than the installed onnx reads too.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

    def prepare(boxes: Tensor, scores: Tensor) -> tuple[Any, ...]:
        yxyx = boxes[..., [1, 0, 3, 2]].reshape(-1, *boxes.shape[-2:])
        return ({"boxes": yxyx.numpy(), "scores": scores.reshape(len(yxyx), -1, scores.shape[-1]).numpy()},)

    return Implementation("ONNX Runtime", lambda inputs: session.run(None, inputs)[0], prepare)


@functools.cache
def _numba_nms() -> Callable[..., Any]:
    import numpy as np

    @numba.njit  # type: ignore[union-attr]
    def nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
        order = np.argsort(-scores)
        n = len(order)
        removed = np.zeros(n, np.bool_)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        kept = np.empty(n, np.int64)
        count = 0
        for i in range(n):
            a = order[i]
            if removed[a]:
                continue
            kept[count] = a
            count += 1
            for j in range(i + 1, n):
                b = order[j]
                w = min(boxes[a, 2], boxes[b, 2]) - max(boxes[a, 0], boxes[b, 0])
                h = min(boxes[a, 3], boxes[b, 3]) - max(boxes[a, 1], boxes[b, 1])
                if w > 0 and h > 0 and w * h > iou_threshold * (areas[a] + areas[b] - w * h):
                    removed[b] = True
        return kept[:count]

    return nms


def batched_nms(iou_threshold: float, n: int, device: torch.device) -> list[Implementation]:
    def whole(boxes: Tensor, scores: Tensor, idxs: Tensor) -> Tensor:
        return torchvision.ops.batched_nms(boxes, scores, idxs, iou_threshold)

    def by_class(boxes: Tensor, scores: Tensor, idxs: Tensor) -> Tensor:
        return torchvision.ops.boxes._batched_nms_vanilla(boxes, scores, idxs, iou_threshold)

    rivals = [
        from_torchvision(lambda: torchvision_nms("torchvision", whole, n, device)),
        from_torchvision(lambda: torchvision_nms("torchvision, one class at a time", by_class, n, device)),
    ]
    if device.type == "cuda":
        return [*rivals, absent("OpenCV", ON_CPU)]
    if cv2 is None:
        return [*rivals, absent("OpenCV")]

    def opencv(boxes: Any, scores: Any, idxs: Any) -> Any:
        return cv2.dnn.NMSBoxesBatched(boxes, scores, idxs, 0.0, iou_threshold)

    def prepare(boxes: Tensor, scores: Tensor, idxs: Tensor) -> tuple[Any, ...]:
        return (*_xywh(boxes, scores), idxs.int().numpy())

    return [*rivals, Implementation("OpenCV", opencv, prepare)]


def nms_padded(iou_threshold: float, max_output: int, pairs: int, device: torch.device) -> list[Implementation]:
    """pairs: the number of pairs of boxes in all problems."""

    def in_a_loop() -> Implementation:
        def run(boxes: Tensor, scores: Tensor) -> list[Tensor]:
            return [
                torchvision.ops.nms(image, row, iou_threshold)[:max_output]
                for image, rows in zip(boxes, scores, strict=True)
                for row in rows
            ]

        return Implementation("torchvision in a loop", run)

    cuda = device.type == "cuda"
    return [
        from_torchvision(in_a_loop),
        absent("ONNX Runtime", ON_CPU) if cuda else _onnx_nms(iou_threshold, max_output),
        Implementation(
            "vectorized torch",
            functools.partial(_vectorized_nms, iou_threshold=iou_threshold, max_output=max_output),
            capturable=cuda,
            memory=pairs * BYTES_PER_PAIR,
        ),
    ]


def suppress(boxes: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Which boxes of [..., k, 4], best first, NMS keeps: all problems at once, without a sync."""
    sides = torch.minimum(boxes[..., :, None, 2:], boxes[..., None, :, 2:]) - torch.maximum(
        boxes[..., :, None, :2], boxes[..., None, :, :2]
    )
    intersection = sides.clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    overlaps = intersection / (area[..., :, None] + area[..., None, :] - intersection) > iou_threshold
    kept = valid.clone()
    for i in range(boxes.shape[-2] - 1):
        kept[..., i + 1 :] &= ~(overlaps[..., i, i + 1 :] & kept[..., i, None])
    return kept


def _vectorized_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, max_output: int) -> tuple[Tensor, Tensor]:
    sorted_scores, order = scores.sort(dim=-1, descending=True, stable=True)
    images = torch.arange(len(boxes), device=boxes.device)[:, None, None]
    kept = suppress(boxes[images, order], sorted_scores > -torch.inf, iou_threshold)
    # Kept indices first, in order; the others become -1.
    place = torch.where(kept, kept.cumsum(-1) - 1, scores.shape[-1])
    out = torch.full((*scores.shape[:-1], scores.shape[-1] + 1), -1, device=boxes.device)
    out.scatter_(-1, place, order)
    return out[..., :max_output], kept.sum(-1).clamp(max=max_output)
