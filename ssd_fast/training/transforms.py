"""Augmentation: torchvision's SSD transforms, each sample's drawn from a seed of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..models._dtypes import float32_by_default
from .config import TrainingConfig

__all__ = ["LEAST_SIDE", "Augmentation", "require_torchvision", "sample_seed"]

LEAST_SIDE = 2.0  # pixels of the network's input; a box below that, or what a crop leaves of one, is dropped


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """The seed of one sample's augmentation, in [0, 2**32), mixed so that neighbors have nothing in common."""
    return int(np.random.SeedSequence((seed, epoch, index)).generate_state(1)[0])


def require_torchvision() -> Any:
    """torchvision, or ImportError that says how to get it."""
    try:
        import torchvision
        from torchvision.transforms import v2  # noqa: F401
    except ImportError as error:
        raise ImportError("training needs torchvision for augmentation: pip install 'ssd_fast[train]'") from error
    return torchvision


class Augmentation:
    """One image and its ground truths as the network shall see them this time.

    Args:
        config: which changes are made, and how often.
        size: (height, width) of the result.
        fill: RGB of the canvas around zoomed out images, 0..255.
    """

    def __init__(self, config: TrainingConfig, size: tuple[int, int], fill: tuple[int, int, int]) -> None:
        require_torchvision()
        from torchvision import tv_tensors
        from torchvision.transforms import v2

        self._tensors = tv_tensors
        steps: list[Any] = []
        if config.photometric:
            steps.append(v2.RandomApply([v2.RandomPhotometricDistort()], p=config.photometric))
        if config.zoom_out_share and config.zoom_out > 1:
            colors = {tv_tensors.Image: fill, "others": 0}
            steps.append(v2.RandomZoomOut(colors, (1.0, config.zoom_out), p=config.zoom_out_share))
        if config.crop_share and config.crop < 1:
            # Of SSD's samplers two: no least overlap, and the image as it is. Small objects never have the others'
            # overlaps with a crop, and looking for one in vain takes longer than the training step. Without the second
            # an image without objects would be looked at for ever.
            crop = v2.RandomIoUCrop(min_scale=config.crop, sampler_options=[0.0, 1.0])
            steps.append(v2.RandomApply([crop], p=config.crop_share))
        if config.flip != "none":
            steps.append(v2.RandomHorizontalFlip())
        if config.flip == "both":
            steps.append(v2.RandomVerticalFlip())
        steps.append(v2.Resize(list(size), antialias=True))
        steps.append(v2.SanitizeBoundingBoxes(min_size=LEAST_SIDE, labels_getter=_ground_truth_columns))
        self._transform = v2.Compose(steps)

    def __call__(
        self, image: Tensor, boxes: Tensor, labels: Tensor, ignored: Tensor, seed: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Nothing but the seed decides what happens; torch's own random state is left as it was.

        Args:
            image: uint8 [3, h, w].
            boxes: float32 [G, 4] xyxy in its pixels.
            labels: int64 [G].
            ignored: bool [G].

        Returns:
            the same of the augmented image, uint8 [3, *size]; G may have become smaller.
        """
        target = {
            "image": self._tensors.Image(image),
            "boxes": self._tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=tuple(image.shape[1:])),  # type: ignore[call-overload]
            "labels": labels,
            "ignored": ignored,
        }
        with torch.random.fork_rng(devices=()), float32_by_default():
            # The CPU's generator alone: torch.manual_seed would seed those of the GPUs too, which are not restored.
            torch.default_generator.manual_seed(seed)
            result = self._transform(target)
        plain = (result[name].as_subclass(Tensor) for name in ("image", "boxes", "labels", "ignored"))
        return tuple(plain)  # type: ignore[return-value]


def _ground_truth_columns(target: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """What is dropped along with a box."""
    return target["labels"], target["ignored"]
