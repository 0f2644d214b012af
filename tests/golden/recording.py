"""Records the original's results for `dialect_inputs` in a dialect's golden file. Used by the make_*.py here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from helpers import dialect_inputs  # noqa: E402

Detections = list[dict[str, Tensor]]
Truths = list[tuple[Tensor, Tensor]]


def record(
    side: int,
    columns: int,
    default_boxes: Tensor,  # xyxy, as in the matching
    match: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],  # boxes, labels from 1 -> offsets, labels of the rows
    decode: Callable[[Tensor], Tensor],  # [P, 4] -> xyxy
    loss: Callable[[Tensor, Tensor, Truths], tuple[Tensor, ...]] | None,  # logits, deltas, ground truth -> losses
    detect: Callable[[Tensor, Tensor], Detections] | None,  # logits, deltas -> boxes, scores and labels of each image
    *,
    exact: Callable[[Tensor, Tensor, Tensor], tuple[Tensor | None, Tensor | None]] | None = None,
    apart: Callable[[Tensor, Tensor], dict[str, Tensor]] | None = None,
    pairs: Callable[[Tensor, Tensor], Tensor] | None = None,
    one_empty: bool = False,
    more: dict[str, Callable[[Tensor, Tensor], Detections]] | None = None,  # other settings of detect, by prefix
    unit: int | None = None,  # divides the ground truth; None: the side of the image
    background: int = 0,
    **options: Any,  # for head_outputs
) -> dict[str, Any]:
    """Return the original's results as arrays. Labels of ground truths count from 1, whichever column is background.

    exact: the original's results for an exact scene with thresholds of 0.5: (logits [1, P, 2], boxes xyxy, ground
    truths) -> the match of each box (-1: background) and the scores kept by NMS, each if available.
    apart: its detections of boxes that do not touch: (logits [1, P, C], boxes xyxy) -> scores and labels. The file has
    the number of each class, and the lowest score.
    pairs: (boxes xyxy, ground truths) -> the match of each box, where exact gives none.
    one_empty: loss takes a batch whose first image has no ground truth.
    """
    num_rows = len(default_boxes)
    outputs = dialect_inputs.head_outputs(num_rows, columns, background=background, **options)
    truths = dialect_inputs.ground_truth(side, columns - 1)
    logits, deltas = (torch.from_numpy(x) for x in outputs)
    arrays: dict[str, Any] = {
        "inputs": dialect_inputs.digest(*outputs, *(x for pair in truths for x in pair)),
        "boxes_xyxy": default_boxes.T.numpy(),  # transposed: compresses better
    }
    scaled = [(torch.from_numpy(boxes) / (unit or side), torch.from_numpy(labels)) for boxes, labels in truths]
    matched = []
    for n, (boxes, _) in enumerate(scaled):
        offsets, labels = match(boxes, 1 + torch.arange(len(boxes)))  # each ground truth has its own class
        matched.append(labels.numpy().astype(np.int16) - 1)
        arrays[f"encoded_{n}"] = offsets[labels > 0].numpy()
    arrays["matched_idxs"] = np.stack(matched)
    arrays["decoded"] = decode(deltas[0].clone())[dialect_inputs.sampled_rows(num_rows)].numpy()
    if loss is not None:
        arrays["losses"] = np.array([float(value) for value in loss(logits, deltas, [scaled[0], scaled[2]])])
        if one_empty:
            first = scaled[0][0][:0], scaled[0][1][:0]
            arrays["losses_one_empty"] = np.array([float(value) for value in loss(logits, deltas, [first, scaled[2]])])
    for prefix, run in {"detected": detect, **(more or {})}.items():
        for n, found in enumerate(run(logits.clone(), deltas.clone()) if run else []):
            order = torch.sort(found["scores"], descending=True, stable=True).indices
            for key, value in found.items():
                arrays[f"{prefix}_{key}_{n}"] = value[order].numpy().astype(np.int16 if key == "labels" else np.float32)
    if exact is not None:
        matched_idxs, kept = exact(*(torch.from_numpy(x) for x in dialect_inputs.exact_scene()))
        if matched_idxs is not None:
            arrays["exact_matched_idxs"] = matched_idxs.numpy().astype(np.int16)
        if kept is not None:
            arrays["exact_scores"] = torch.sort(kept, descending=True).values.numpy()
    if exact is not None and pairs is None:
        pairs = lambda boxes, truths: exact(torch.zeros(1, len(boxes), 2), boxes, truths)[0]  # noqa: E731
    if pairs is not None:
        matched_idxs = pairs(*(torch.from_numpy(x) for x in dialect_inputs.bipartite_scene()))
        arrays["bipartite_matched_idxs"] = matched_idxs.numpy().astype(np.int16)
    if apart is not None:
        found = apart(*(torch.from_numpy(x) for x in dialect_inputs.apart(columns)))
        classes = [found["scores"][found["labels"] == label] for label in range(1, columns)]
        arrays["apart_counts"] = np.array([len(scores) for scores in classes], np.int16)
        arrays["apart_lowest"] = np.array([scores.min() for scores in classes], np.float32)
    return arrays


def targets(
    encode: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], truths: Truths, background: Tensor
) -> tuple[Tensor, Tensor]:
    """Return encode's boxes [N, P, 4] and labels [N, P] of a batch; background [P, 4]: boxes without objects.

    No encoder takes an image without objects.
    """
    nothing = background, torch.zeros(len(background), dtype=torch.int64)
    rows = [encode(*truth) if len(truth[0]) else nothing for truth in truths]
    return torch.stack([boxes for boxes, _ in rows]), torch.stack([labels for _, labels in rows])


def save(folder: str, out: str | None, name: str, arrays: dict[str, Any]) -> None:
    path = Path(out) if out else HERE / folder
    path.mkdir(exist_ok=True)
    np.savez_compressed(path / f"{name}.npz", **arrays)
