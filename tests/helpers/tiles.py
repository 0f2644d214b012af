"""A small detector with tiles, and images for it."""

from __future__ import annotations

import dataclasses

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from ssd_fast.detector import Detector
from ssd_fast.images import as_image_tensor
from ssd_fast.models import ssd_tiny


def tiny(seed: int = 0, **changes) -> Detector:
    """A detector with random weights that cuts larger images into tiles of 64 x 48.

    Its network sees one image at a time, since the bits of a convolution depend on the batch.
    """
    torch.manual_seed(seed)
    network = ssd_tiny(num_classes=4, size=(64, 64)).eval()
    batched = network.head_maps

    def head_maps(images: Tensor) -> tuple[list[Tensor], ...]:
        alone = [batched(image[None]) for image in images] or [batched(images)]
        return tuple([torch.cat(maps) for maps in zip(*head, strict=True)] for head in zip(*alone, strict=True))

    with torch.no_grad():
        for head in (*network.class_heads, *network.box_heads):
            head.weight.mul_(20)  # so that scores and boxes differ
            head.bias.zero_()  # so that the background does not win
    network.head_maps = head_maps
    spec = dataclasses.replace(network.preset.postprocess, **{"score_threshold": 0.4, "top_k": None, **changes})
    return Detector(network, preset=dataclasses.replace(network.preset, postprocess=spec), tile=(64, 48), overlap=0.25)


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    random = np.random.default_rng(seed)
    coarse = PIL.Image.fromarray(random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8))
    return as_image_tensor(coarse.resize((width, height)))
