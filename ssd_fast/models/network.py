"""SSDNetwork, the interface of every network here, and the checks of its preset."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from .._checks import integer
from ..presets import Preset
from ..presets import preset as named_preset
from ..presets._preset import require_preset
from ._dtypes import float32_by_default
from .preprocessing import Preprocessing

if TYPE_CHECKING:
    from ..datasets import DetectionDataset

_ORDERS = {"default_boxes.row_order": "HWA", "postprocess.row_order": "HWA", "postprocess.channel_order": "AC"}


def check_orders(preset: Preset, owner: str) -> None:
    """Raises ValueError, naming what differs, for a preset that reads heads in another order than `SSDNetwork` gives.

    The shapes are the same, so nothing else would tell that boxes and classes are then all mixed up. What is not a
    Preset raises TypeError.
    """
    require_preset(preset, owner)
    given = {field: attrgetter(field)(preset) for field in _ORDERS}
    if wrong := [field for field in _ORDERS if given[field] != _ORDERS[field]]:
        expected = ", ".join(f"{field} {_ORDERS[field]!r}" for field in wrong)
        got = ", ".join(repr(given[field]) for field in wrong)
        raise ValueError(f"{owner}: preset: expected {expected}, as networks here have it, got {got} in {preset.name}")


def require_rows(network: SSDNetwork) -> None:
    """Raises ValueError unless a network on the meta device has as many rows as its preset has default boxes."""
    boxes, size = network.preset.default_boxes.num_boxes, network.preprocessing.size
    try:
        maps, _ = network.head_maps(torch.empty((1, 3, *size), dtype=torch.float32, device="meta"))
    except RuntimeError as error:  # sizes too small for the network, or past all integers
        raise ValueError(f"Preprocessing: size: expected one that {network.name} can take, got {size}") from error
    rows = sum(level.shape[1:].numel() // 4 for level in maps)
    if rows != boxes:
        raise ValueError(
            f"Preset: default_boxes: expected {rows} boxes, as the heads of {network.name} have rows for images of "
            f"{size}, got {boxes}"
        )


class _Float32Meta(ABCMeta):
    """Makes networks of float32, as preprocessing gives it and the ops take it, whatever torch's default dtype is."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        with float32_by_default():
            return super().__call__(*args, **kwargs)


class SSDNetwork(nn.Module, metaclass=_Float32Meta):
    """A network that turns preprocessed images into raw SSD heads, and nothing else.

    Attributes:
        name: of the function that makes it (see `register_network`).
        preset_name: of the preset that it has when none is given.
        class_head_prefix: what the names of the class heads' parameters begin with, and of no others; training for
            other classes starts these at random.
        preset: how the heads are read and trained. It may be replaced by one with the order of rows and channels that
            all networks here have (`check_orders`); `save_weights` writes it into the file.
        preprocessing: what the images went through.
        num_classes: C, the columns of cls_logits, background included.
        min_training_batch: images that a batch in training mode needs; 2 where a map of one cell goes through a batch
            norm, which of a single image would learn nothing.
    """

    name: ClassVar[str]
    preset_name: ClassVar[str]
    class_head_prefix: ClassVar[str] = "class_heads."
    preprocessing: Preprocessing
    num_classes: int
    min_training_batch: int = 1

    def __init__(self, num_classes: int, preset: Preset | None = None) -> None:
        """preset: None: the one that the class names."""
        super().__init__()
        expected = "an int >= 2 (with background)"
        self.num_classes = integer(type(self).__name__, "num_classes", num_classes, expected, 2)
        self.preset = named_preset(self.preset_name) if preset is None else preset

    @property
    def preset(self) -> Preset:
        return self._preset

    @preset.setter
    def preset(self, preset: Preset) -> None:
        check_orders(preset, type(self).__name__)
        self._preset = preset

    @property
    def arguments(self) -> dict[str, Any]:
        """What the function `name` was given besides num_classes, as JSON can hold it."""
        return {}

    @classmethod
    def fitted_arguments(cls, dataset: DetectionDataset, size: tuple[int, int] | None) -> dict[str, Any]:
        """Return arguments for the function `name` that fit it to a dataset; none for a network of one fixed size.

        Args:
            size: (height, width) of the input that the user wants; None: the network chooses.
        """
        return {}

    @abstractmethod
    def head_maps(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The heads as their convolutions leave them, one map a level.

        Args:
            images: [N, 3, H, W], preprocessed.

        Returns:
            `(bbox_maps, cls_maps)`: lists of [N, A * 4, h, w] and [N, A * C, h, w]; channel a * C + c is column c of
                the a-th default box of the cell.
        """

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The heads as rows, one a default box, in the order level, row, column, box of the cell.

        Args:
            images: [N, 3, H, W], preprocessed.

        Returns:
            `(bbox_regression, cls_logits)`: [N, P, 4] and [N, P, C].
        """
        bbox_maps, cls_maps = self.head_maps(images)
        return flatten_maps(bbox_maps, 4), flatten_maps(cls_maps, self.num_classes)


def flatten_maps(maps: Sequence[Tensor], columns: int) -> Tensor:
    """Head maps [N, A * columns, h, w] -> rows [N, P, columns], P the sum of h * w * A over the maps."""
    return torch.cat([head_map.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, columns)) for head_map in maps], dim=1)
