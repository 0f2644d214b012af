"""Augment images with torchvision's SSD transforms, with a separate seed for each sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..models._dtypes import float32_by_default
from .config import TrainingConfig

__all__ = ["LEAST_SIDE", "Augmentation", "require_torchvision", "sample_seed"]

LEAST_SIDE = 2.0  # pixels of the network's input; a box (or the rest of one after a crop) below it is dropped


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """The seed of one sample's augmentation, in [0, 2**32), mixed so that neighbors are unrelated."""
    return int(np.random.SeedSequence((seed, epoch, index)).generate_state(1)[0])


def require_torchvision() -> Any:
    """Import torchvision, or raise ImportError that says how to get it."""
    try:
        import torchvision
        from torchvision.transforms import v2  # noqa: F401
    except ImportError as error:
        raise ImportError("training needs torchvision for augmentation: pip install 'ssd_fast[train]'") from error
    return torchvision


class Augmentation:
    """Changes one image and its ground truths at random, to the size of the network.

    Args:
        config: which changes are made, and how often.
        size: (height, width) of the result.
        fill: RGB of the canvas around zoomed-out images, 0..255.
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
            # Two of SSD's samplers: any overlap, and the unchanged image. Small objects never reach the other samplers'
            # overlaps with a crop, and searching in vain takes longer than the training step. Without the second
            # sampler, the search in an image without objects would never end.
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
        """Augment an image. Only the seed decides the changes; torch's own random state is left unchanged.

        Args:
            image: uint8 [3, h, w].
            boxes: float32 [G, 4] xyxy in the image's pixels.
            labels: int64 [G].
            ignored: bool [G].
            seed: the seed of all random changes.

        Returns:
            The same four for the augmented image, uint8 [3, *size]; G may be smaller.
        """
        target = {
            "image": self._tensors.Image(image),
            "boxes": self._tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=tuple(image.shape[1:])),  # type: ignore[call-overload]
            "labels": labels,
            "ignored": ignored,
        }
        with torch.random.fork_rng(devices=()), float32_by_default():
            # Only the CPU's generator: torch.manual_seed would also seed those of the GPUs, which are not restored.
            torch.default_generator.manual_seed(seed)
            result = self._transform(target)
        plain = (result[name].as_subclass(Tensor) for name in ("image", "boxes", "labels", "ignored"))
        return tuple(plain)  # type: ignore[return-value]


def _ground_truth_columns(target: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The columns that are dropped along with a box."""
    return target["labels"], target["ignored"]
