"""One small valid call per op and dtype, whose arrays tests move, replace and damage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import ssd_fast
from ssd_fast import BoxCoderSpec, LossSpec, MatcherSpec, PostprocessSpec

N, P, C = 2, 37, 5
CODER = BoxCoderSpec()
HEADS = "cls_logits", "bbox_regression"

Case = tuple[Callable[..., Any], dict[str, torch.Tensor]]


def make_boxes(*leading: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    corners = torch.rand(*leading, 2) * 50
    return torch.cat((corners, corners + 1 + torch.rand(*leading, 2) * 30), -1).to(dtype)


def make_cases() -> dict[str, Case]:
    """Return, for each op and dtype, the call, and its arrays in order, by the names that errors give them."""
    cases: dict[str, Case] = {}
    for dtype in (torch.float32, torch.float64):
        boxes, scores, name = make_boxes(P, dtype=dtype), torch.rand(P).to(dtype), str(dtype)[6:]
        cases[f"box_iou {name}"] = ssd_fast.box_iou, {"boxes1": boxes, "boxes2": make_boxes(P, dtype=dtype)}
        cases[f"nms {name}"] = (lambda b, s: ssd_fast.nms(b, s, 0.5)), {"boxes": boxes, "scores": scores}
        idxs = torch.randint(3, (P,))
        cases[f"batched_nms {name}"] = (
            (lambda b, s, i: ssd_fast.batched_nms(b, s, i, 0.5)),
            {"boxes": boxes, "scores": scores, "idxs": idxs},
        )
    cases["nms_padded"] = (
        lambda b, s: ssd_fast.nms_padded(b, s, 0.5, 9),
        {"boxes": make_boxes(N, P), "scores": torch.rand(N, C, P)},
    )
    cases["encode_boxes"] = (
        (lambda b, d: ssd_fast.encode_boxes(b, d, CODER)),
        {"boxes": make_boxes(N, P), "default_boxes": make_boxes(P)},
    )
    offsets, labels = torch.tensor([0, 2, 5]), torch.tensor([1, 2, 3, 4, 1])
    ignored = torch.tensor([0, 1, 0, 0, 0], dtype=torch.bool)
    cases["match"] = (
        lambda g, o, d, i: ssd_fast.match((g, o), d, MatcherSpec(), gt_ignored=i),
        {"gt_boxes": make_boxes(5), "gt_boxes.offsets": offsets, "default_boxes": make_boxes(P), "gt_ignored": ignored},
    )
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        name, logits, deltas = str(dtype)[6:], torch.randn(N, P, C).to(dtype), torch.randn(N, P, 4).to(dtype)
        maps = torch.randn(N, 3 * C, 3, 4).to(dtype), torch.randn(N, 3 * 4, 3, 4).to(dtype)
        cases[f"decode_boxes {name}"] = (
            lambda d, b: ssd_fast.decode_boxes(d, b, CODER),
            {"deltas": deltas, "default_boxes": make_boxes(P)},
        )
        sizes = torch.tensor([[60, 70], [50, 40]])
        cases[f"postprocess {name}"] = (
            postprocess,
            dict(zip(HEADS, (logits, deltas), strict=True)) | {"default_boxes": make_boxes(P), "image_sizes": sizes},
        )
        cases[f"postprocess maps {name}"] = (
            postprocess_maps,
            dict(zip(HEADS, maps, strict=True)) | {"default_boxes": make_boxes(36), "image_sizes": sizes},
        )
        matched = torch.randint(-2, 2, (N, P))
        cases[f"multibox_loss {name}"] = (
            loss,
            dict(zip(HEADS, (logits, deltas), strict=True))
            | {
                "gt_boxes": make_boxes(5),
                "gt_boxes.offsets": offsets,
                "gt_labels": labels,
                "matched_idxs": matched,
                "default_boxes": make_boxes(P),
            },
        )
    return cases


def postprocess(logits: Any, deltas: Any, default_boxes: Any, sizes: Any) -> Any:
    spec = PostprocessSpec(clip="before_nms")
    return ssd_fast.postprocess(logits, deltas, default_boxes, spec, coder=CODER, image_sizes=sizes)


def postprocess_maps(logits: Any, deltas: Any, default_boxes: Any, sizes: Any) -> Any:
    return postprocess([logits], [deltas], default_boxes, sizes)


def loss(logits: Any, deltas: Any, boxes: Any, offsets: Any, labels: Any, matched: Any, default_boxes: Any) -> Any:
    """Return the two losses, and for torch tensors their gradients."""
    is_torch = all(isinstance(x, torch.Tensor) and x.is_floating_point() for x in (logits, deltas))
    if is_torch:
        logits, deltas = logits.detach().requires_grad_(), deltas.detach().requires_grad_()
    truths = (boxes, offsets), labels, matched, default_boxes
    losses = ssd_fast.multibox_loss(logits, deltas, *truths, coder=CODER, loss=LossSpec())
    values = list(losses.values())
    if is_torch:
        values += torch.autograd.grad(sum(values), (logits, deltas))
    return values
