"""The inputs of ssd_fast.compat's adapters in the tests, and of their originals, which ran once.

They fit a small SSD (790 default boxes, 5 columns), by integer arithmetic alone, as in `dialect_inputs`. Scores are all
different, so that no tie leaves an order open; boxes are multiples of 1 / 4096, so that both sides see the same boxes.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from helpers import dialect_inputs

COLUMNS = 5
IMAGES = 2
MAPS, STEPS, SIZES = [10, 5, 3, 1], [32, 64, 100, 300], [99, 153, 207, 261, 315]
RATIOS = [[2, 3], [2, 3], [2], [2]]
ROWS = 6 * (100 + 25) + 4 * (9 + 1)
SETTINGS = {"default": (200, 0.01, 0.45), "other": (50, 0.2, 0.3)}  # top_k, score and NMS thresholds


def scores() -> Tensor:
    """Return [N, P, C], all different within an image, from 1 / 8192 to 0.48: most pass thresholds and fill top_k."""
    ranks = dialect_inputs.hashed(21, IMAGES, ROWS * COLUMNS).argsort(1).argsort(1)
    return torch.from_numpy((ranks + 1).astype(np.float32) / np.float32(8192)).view(IMAGES, ROWS, COLUMNS)


def logits() -> Tensor:
    """Return [N, P, C], all different within an image; so are their softmax scores, by more than rounding."""
    return 16 * scores().flip(1)


def deltas() -> Tensor:
    return torch.from_numpy(np.float32(1.5) * dialect_inputs.noise(23, IMAGES, ROWS, 4))


def boxes() -> Tensor:
    """Return [N, P, 4] xyxy in shares of the image; some reach out of it."""
    numbers = torch.from_numpy(dialect_inputs.noise(24, IMAGES, ROWS, 4))
    corner, size = numbers[..., :2] * 0.5 + 0.375, numbers[..., 2:] * 0.125 + 0.1875
    return torch.cat((corner, corner + size), -1)


def ground_truth() -> list[tuple[Tensor, Tensor]]:
    """Return boxes [G, 4] xyxy in shares of the image and labels [G] from 1, of an ordinary image and a crowd."""
    truths = dialect_inputs.ground_truth(300, COLUMNS - 1)
    return [(torch.from_numpy(b) / 300, torch.from_numpy(c)) for b, c in (truths[0], truths[2])]


def digest() -> int:
    """Return the digest of all inputs."""
    truths = [x for pair in ground_truth() for x in pair]
    return dialect_inputs.digest(*(x.numpy() for x in (scores(), logits(), deltas(), boxes(), *truths)))


# ---- configurations, as each project writes them --------------------------------------------------------------------


def amdegroot_cfg(clip: bool = True) -> dict:
    return {
        "feature_maps": MAPS,
        "min_dim": 300,
        "steps": STEPS,
        "min_sizes": SIZES[:-1],
        "max_sizes": SIZES[1:],
        "aspect_ratios": RATIOS,
        "variance": [0.1, 0.2],
        "clip": clip,
        "name": "small",
    }


def lufficc_cfg(setting: str = "default", clip: bool = True) -> SimpleNamespace:
    _, score_threshold, nms_threshold = SETTINGS[setting]
    priors = SimpleNamespace(
        FEATURE_MAPS=MAPS, STRIDES=STEPS, MIN_SIZES=SIZES[:-1], MAX_SIZES=SIZES[1:], ASPECT_RATIOS=RATIOS, CLIP=clip
    )
    return SimpleNamespace(
        INPUT=SimpleNamespace(IMAGE_SIZE=300),
        MODEL=SimpleNamespace(PRIORS=priors),
        TEST=SimpleNamespace(
            CONFIDENCE_THRESHOLD=score_threshold,
            NMS_THRESHOLD=nms_threshold,
            MAX_PER_IMAGE=100 if setting == "default" else 400,
        ),
    )


def qfgaohao_specs() -> list[SimpleNamespace]:
    return [
        SimpleNamespace(
            feature_map_size=cells,
            shrinkage=step,
            box_sizes=SimpleNamespace(min=low, max=high),
            aspect_ratios=ratios,
        )
        for cells, step, low, high, ratios in zip(MAPS, STEPS, SIZES[:-1], SIZES[1:], RATIOS, strict=True)
    ]


class Heads(torch.nn.Module):
    """Stands for a network of qfgaohao in its test mode, which gives scores and boxes."""

    def __init__(self, scores: Tensor, boxes: Tensor) -> None:
        super().__init__()
        self.outputs = scores, boxes

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.outputs
