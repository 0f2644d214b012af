"""What others offer for the same: torchvision, plain and compiled torch, Numba, CuPy, OpenCV, if they are here."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from timing import QUICK, Implementation
from torch import Tensor

from ssd_fast import reference
from ssd_fast.specs import BoxCoderSpec, DefaultBoxSpec, PostprocessSpec


def module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):
        return None


torchvision, numba, cupy, cv2 = (module(name) for name in ("torchvision", "numba", "cupy", "cv2"))


def absent(name: str, why: str | None = None) -> Implementation:
    return Implementation(name, absent=why or "not installed")


def from_torchvision(run: Callable[[], Implementation]) -> Implementation:
    return run() if torchvision is not None else absent("torchvision")


def compiled(name: str, function: Callable[..., Any], device: torch.device, **options: Any) -> Implementation:
    """torch.compile of a plain torch function, for the shapes at hand."""
    if QUICK or os.environ.get("SSD_FAST_BENCH_COMPILE", "1") == "0":
        return absent(name, "left out: compiling takes long (quick run, or SSD_FAST_BENCH_COMPILE=0)")
    torch.compiler.reset()
    return Implementation(name, torch.compile(function, dynamic=False), capturable=device.type == "cuda", **options)


# ---- box_iou --------------------------------------------------------------------------------------------------------


def box_iou(device: torch.device) -> list[Implementation]:
    cuda = device.type == "cuda"
    rivals = [
        from_torchvision(lambda: Implementation("torchvision", torchvision.ops.box_iou, capturable=cuda)),
        Implementation("eager torch", reference.box_iou, capturable=cuda),
        compiled("torch.compile", reference.box_iou, device),
    ]
    if numba is None:
        rivals.append(absent("numba"))
    elif cuda:
        rivals.append(Implementation("numba", _numba_cuda_iou))
    else:
        rivals.append(Implementation("numba", _numba_iou(), _as_numpy))
    if not cuda:
        rivals.append(absent("cupy", "needs a GPU"))
    elif cupy is None:
        rivals.append(absent("cupy"))
    else:
        rivals.append(Implementation("cupy", _cupy_iou, lambda *boxes: tuple(map(cupy.asarray, boxes))))
    return rivals


def _as_numpy(*tensors: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.numpy() for tensor in tensors)


@functools.cache
def _numba_iou() -> Callable[..., Any]:
    import numpy as np

    @numba.njit(parallel=True)  # type: ignore[union-attr]
    def iou(a: Any, b: Any) -> Any:
        out = np.empty((a.shape[0], b.shape[0]), np.float32)
        for i in numba.prange(a.shape[0]):  # type: ignore[union-attr]
            area = (a[i, 2] - a[i, 0]) * (a[i, 3] - a[i, 1])
            for j in range(b.shape[0]):
                w = max(min(a[i, 2], b[j, 2]) - max(a[i, 0], b[j, 0]), np.float32(0))
                h = max(min(a[i, 3], b[j, 3]) - max(a[i, 1], b[j, 1]), np.float32(0))
                other = (b[j, 2] - b[j, 0]) * (b[j, 3] - b[j, 1])
                out[i, j] = w * h / (area + other - w * h)
        return out

    return iou


@functools.cache
def _numba_cuda_kernel() -> Any:
    from numba import cuda

    @cuda.jit
    def kernel(a: Any, b: Any, out: Any) -> None:
        j, i = cuda.grid(2)
        if i < out.shape[0] and j < out.shape[1]:
            w = max(min(a[i, 2], b[j, 2]) - max(a[i, 0], b[j, 0]), 0)
            h = max(min(a[i, 3], b[j, 3]) - max(a[i, 1], b[j, 1]), 0)
            area = (a[i, 2] - a[i, 0]) * (a[i, 3] - a[i, 1])
            other = (b[j, 2] - b[j, 0]) * (b[j, 3] - b[j, 1])
            out[i, j] = w * h / (area + other - w * h)

    return kernel


def _numba_cuda_iou(a: Tensor, b: Tensor) -> Tensor:
    from numba import cuda

    out = torch.empty(len(a), len(b), device=a.device)
    grid = (-(-len(b) // 32), -(-len(a) // 8))
    stream = cuda.external_stream(torch.cuda.current_stream().cuda_stream)
    _numba_cuda_kernel()[grid, (32, 8), stream](*map(cuda.as_cuda_array, (a, b, out)))
    return out


def _cupy_iou(a: Any, b: Any) -> Any:
    with cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):  # type: ignore[union-attr]
        corner = cupy.minimum(a[:, None, 2:], b[None, :, 2:]) - cupy.maximum(a[:, None, :2], b[None, :, :2])  # type: ignore[union-attr]
        intersection = cupy.maximum(corner, 0).prod(-1)  # type: ignore[union-attr]
        area_a, area_b = (x[:, 2:] - x[:, :2] for x in (a, b))
        return intersection / (area_a.prod(-1)[:, None] + area_b.prod(-1)[None] - intersection)


# ---- default_boxes --------------------------------------------------------------------------------------------------


def default_boxes(
    spec: DefaultBoxSpec, scales: Sequence[float], ratios: Sequence[Sequence[int]], device: torch.device
) -> list[Implementation]:
    """torchvision's generator, which runs anew in every forward pass of its SSD, and plain torch."""

    def from_generator() -> Implementation:
        from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
        from torchvision.models.detection.image_list import ImageList

        steps = [int(vertical) for vertical, _ in spec.level_steps]
        make = DefaultBoxGenerator([list(level) for level in ratios], scales=list(scales), steps=steps)
        height, width = spec.image_size
        images = ImageList(torch.empty(1, 3, height, width, device=device), [(height, width)])
        maps = [torch.empty(1, 1, h, w, device=device) for h, w in spec.feature_maps]
        return Implementation("torchvision", lambda _: make(images, maps)[0])

    return [
        from_torchvision(from_generator),
        Implementation("eager torch", lambda _: reference.default_boxes(spec, device=device)),
    ]


# ---- box_coder ------------------------------------------------------------------------------------------------------


def decode_boxes(coder: BoxCoderSpec, device: torch.device) -> list[Implementation]:
    function = functools.partial(_decode, coder=coder)

    def from_box_coder() -> Implementation:
        decoder = _torchvision_coder(coder)

        def run(deltas: Tensor, default_boxes: Tensor) -> Tensor:
            return torch.stack([decoder.decode_single(image, default_boxes) for image in deltas])

        return Implementation("torchvision", run, capturable=device.type == "cuda")

    return [
        from_torchvision(from_box_coder),
        Implementation("eager torch", function, capturable=device.type == "cuda"),
        compiled("torch.compile", function, device),
    ]


def encode_boxes(coder: BoxCoderSpec, device: torch.device) -> list[Implementation]:
    function = functools.partial(_encode, coder=coder)

    def from_box_coder() -> Implementation:
        encoder = _torchvision_coder(coder)

        def run(boxes: Tensor, default_boxes: Tensor) -> Tensor:
            return torch.stack([encoder.encode_single(image, default_boxes) for image in boxes])

        return Implementation("torchvision", run)  # copies its weights from the host: no graph can capture it

    return [
        from_torchvision(from_box_coder),
        Implementation("eager torch", function, capturable=device.type == "cuda"),
        compiled("torch.compile", function, device),
    ]


def _torchvision_coder(coder: BoxCoderSpec) -> Any:
    from torchvision.models.detection._utils import BoxCoder

    return BoxCoder(weights=tuple(1 / v for v in coder.variances))  # type: ignore[arg-type]


# Unlike ssd_fast.reference, these copy nothing from the host, and so are what a GPU user would write.


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * size, size


def _decode(deltas: Tensor, default_boxes: Tensor, coder: BoxCoderSpec) -> Tensor:
    centre, size = _centre_size(default_boxes)
    vx, _, vw, _ = coder.variances  # those of y and h are the same in the presets that are benchmarked
    target = centre + deltas[..., :2] * vx * size
    half = 0.5 * size * torch.exp((deltas[..., 2:] * vw).clamp(*coder.clamp_limits))
    return torch.cat((target - half, target + half), -1)


def _encode(boxes: Tensor, default_boxes: Tensor, coder: BoxCoderSpec) -> Tensor:
    centre, size = _centre_size(default_boxes)
    target, target_size = _centre_size(boxes)
    vx, _, vw, _ = coder.variances
    return torch.cat(((target - centre) / size / vx, torch.log(target_size / size) / vw), -1)


# ---- nms ------------------------------------------------------------------------------------------------------------


def nms(iou_threshold: float, n: int, device: torch.device) -> list[Implementation]:
    cuda = device.type == "cuda"
    rivals = [
        from_torchvision(
            lambda: Implementation(
                "torchvision", lambda boxes, scores: torchvision.ops.nms(boxes, scores, iou_threshold)
            )
        )
    ]
    if n <= 1_000:
        rivals.append(Implementation("eager torch", lambda boxes, scores: reference.nms(boxes, scores, iou_threshold)))
    else:
        rivals.append(absent("eager torch", "a Python step a kept box: minutes at larger sizes"))
    if cuda:
        rivals += [absent("OpenCV", "runs on the CPU only"), absent("numba", "has no NMS, and one block is no rival")]
        return rivals
    if cv2 is None:
        rivals.append(absent("OpenCV"))
    else:
        rivals.append(
            Implementation("OpenCV", lambda boxes, scores: cv2.dnn.NMSBoxes(boxes, scores, 0.0, iou_threshold), _xywh)
        )
    if numba is None:
        rivals.append(absent("numba"))
    else:
        function = _numba_nms()
        rivals.append(Implementation("numba", lambda boxes, scores: function(boxes, scores, iou_threshold), _as_numpy))
    return rivals


def _xywh(boxes: Tensor, scores: Tensor) -> tuple[Any, ...]:
    return torch.cat((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), -1).double().numpy(), scores.numpy()


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


def batched_nms(iou_threshold: float, device: torch.device) -> list[Implementation]:
    def whole() -> Implementation:
        return Implementation(
            "torchvision", lambda boxes, scores, idxs: torchvision.ops.batched_nms(boxes, scores, idxs, iou_threshold)
        )

    def by_class() -> Implementation:
        from torchvision.ops.boxes import _batched_nms_vanilla

        return Implementation(
            "torchvision, a class at a time",
            lambda boxes, scores, idxs: _batched_nms_vanilla(boxes, scores, idxs, iou_threshold),
        )

    rivals = [from_torchvision(whole), from_torchvision(by_class)]
    if device.type == "cuda":
        return [*rivals, absent("OpenCV", "runs on the CPU only")]
    if cv2 is None:
        return [*rivals, absent("OpenCV")]

    def opencv(boxes: Any, scores: Any, idxs: Any) -> Any:
        return cv2.dnn.NMSBoxesBatched(boxes, scores, idxs, 0.0, iou_threshold)

    def prepare(boxes: Tensor, scores: Tensor, idxs: Tensor) -> tuple[Any, ...]:
        return (*_xywh(boxes, scores), idxs.int().numpy())

    return [*rivals, Implementation("OpenCV", opencv, prepare)]


def nms_padded(iou_threshold: float, max_output: int, device: torch.device) -> list[Implementation]:
    def in_a_loop() -> Implementation:
        def run(boxes: Tensor, scores: Tensor) -> list[Tensor]:
            return [
                torchvision.ops.nms(image, row, iou_threshold)[:max_output]
                for image, rows in zip(boxes, scores, strict=True)
                for row in rows
            ]

        return Implementation("torchvision in a loop", run)

    return [
        from_torchvision(in_a_loop),
        Implementation(
            "vectorised torch",
            functools.partial(_vectorised_nms, iou_threshold=iou_threshold, max_output=max_output),
            capturable=device.type == "cuda",
        ),
    ]


def _suppress(boxes: Tensor, valid: Tensor, iou_threshold: float) -> Tensor:
    """Which of the boxes [..., k, 4], best first, NMS keeps, for all problems at once and without a sync."""
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


def _vectorised_nms(boxes: Tensor, scores: Tensor, iou_threshold: float, max_output: int) -> tuple[Tensor, Tensor]:
    sorted_scores, order = scores.sort(dim=-1, descending=True, stable=True)
    images = torch.arange(len(boxes), device=boxes.device)[:, None, None]
    kept = _suppress(boxes[images, order], sorted_scores > -torch.inf, iou_threshold)
    # Kept indices first, in order; the others become -1.
    place = torch.where(kept, kept.cumsum(-1) - 1, scores.shape[-1])
    out = torch.full((*scores.shape[:-1], scores.shape[-1] + 1), -1, device=boxes.device)
    out.scatter_(-1, place, order)
    return out[..., :max_output], kept.sum(-1).clamp(max=max_output)


# ---- postprocess ----------------------------------------------------------------------------------------------------


def postprocess(
    spec: PostprocessSpec, coder: BoxCoderSpec, image_size: tuple[int, int], device: torch.device, vectorised: bool
) -> list[Implementation]:
    """vectorised: whether the [N * classes, top_k, top_k] overlaps of the vectorised torch version fit."""
    rivals = [from_torchvision(lambda: Implementation("torchvision", torchvision_postprocess(spec, coder, image_size)))]
    function = functools.partial(_vectorised_postprocess, spec=spec, coder=coder, image_size=image_size)
    if vectorised:
        cuda = device.type == "cuda"
        rivals.append(Implementation("vectorised torch", function, capturable=cuda))
    else:
        rivals.append(absent("vectorised torch", "its overlaps of all classes take too much memory or time here"))
    softmax = functools.partial(lambda logits, *_: logits.softmax(-1))
    rivals.append(Implementation("softmax alone (torch)", softmax, capturable=device.type == "cuda"))
    return rivals


def torchvision_postprocess(
    spec: PostprocessSpec, coder: BoxCoderSpec, image_size: tuple[int, int]
) -> Callable[..., Any]:
    """torchvision's own method, on an SSD without a network."""
    from torchvision.models.detection.ssd import SSD

    model = SimpleNamespace(
        box_coder=_torchvision_coder(coder),
        score_thresh=spec.score_threshold,
        topk_candidates=spec.top_k,
        nms_thresh=spec.iou_threshold,
        detections_per_img=spec.keep_top_k,
    )

    def run(logits: Tensor, deltas: Tensor, default_boxes: Tensor) -> Any:
        n = len(logits)
        outputs = {"cls_logits": logits, "bbox_regression": deltas}
        return SSD.postprocess_detections(model, outputs, [default_boxes] * n, [image_size] * n)  # type: ignore[arg-type]

    return run


def _vectorised_postprocess(
    logits: Tensor,
    deltas: Tensor,
    default_boxes: Tensor,
    *,
    spec: PostprocessSpec,
    coder: BoxCoderSpec,
    image_size: tuple[int, int],
) -> tuple[Tensor, ...]:
    """What an expert writes in torch: no loop over images or classes, fixed shapes, no sync."""
    assert spec.top_k is not None
    height, width = image_size
    corners = _decode(deltas, default_boxes, coder)
    x, y = corners[..., 0::2].clamp(0, width), corners[..., 1::2].clamp(0, height)
    boxes = torch.stack((x, y), -1).flatten(-2)
    scores, idxs = logits.softmax(-1)[..., 1:].transpose(1, 2).topk(spec.top_k, -1)  # [N, classes, k]
    images = torch.arange(len(boxes), device=boxes.device)[:, None, None]
    kept = _suppress(boxes[images, idxs], scores > spec.score_threshold, spec.iou_threshold)
    flat = torch.where(kept, scores, -1.0).flatten(1)
    best, place = flat.topk(spec.keep_top_k, -1)
    chosen = idxs.flatten(1).gather(1, place)
    return (
        boxes.gather(1, chosen[..., None].expand(-1, -1, 4)),
        best,
        place // spec.top_k + 1,
        chosen,
        (best > 0).sum(-1),
    )
