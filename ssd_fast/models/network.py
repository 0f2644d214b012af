"""SSDNetwork, the interface of every network, and the checks of its preset."""

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
    """Raise ValueError, naming the difference, for a preset that reads heads in another order than `SSDNetwork` has.

    The shapes are the same in every order, so nothing else would show that boxes and classes are mixed up. A value that
    is not a Preset raises TypeError.
    """
    require_preset(preset, owner)
    given = {field: attrgetter(field)(preset) for field in _ORDERS}
    if wrong := [field for field in _ORDERS if given[field] != _ORDERS[field]]:
        expected = ", ".join(f"{field} {_ORDERS[field]!r}" for field in wrong)
        got = ", ".join(repr(given[field]) for field in wrong)
        raise ValueError(
            f"{owner}: preset: expected {expected}, the order of networks here, got {got} in {preset.name}"
        )


def require_rows(network: SSDNetwork) -> None:
    """Raise ValueError unless a network in eval mode has one row per default box of its preset."""
    boxes, size = network.preset.default_boxes.num_boxes, network.preprocessing.size
    try:
        maps, _ = network.head_maps(torch.empty((0, 3, *size), dtype=torch.float32))  # no images take no time
    except RuntimeError as error:  # sizes too small for the network, or beyond all integers
        raise ValueError(f"Preprocessing: size: expected a size that {network.name} can take, got {size}") from error
    rows = sum(level.shape[1:].numel() // 4 for level in maps)
    if rows != boxes:
        raise ValueError(
            f"Preset: default_boxes: expected {rows} boxes, one per row of {network.name}'s heads for images of "
            f"{size}, got {boxes}"
        )


class _Float32Meta(ABCMeta):
    """Makes networks in float32, the dtype of preprocessing and of the ops, whatever torch's default dtype is."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        with float32_by_default():
            return super().__call__(*args, **kwargs)


class SSDNetwork(nn.Module, metaclass=_Float32Meta):
    """A network that turns preprocessed images into raw SSD heads, and nothing else.

    A subclass sets `name` and `preprocessing`, has a preset, and implements `head_maps`; `register_network` makes its
    name known to `make_network`, `load_network` and training.

    Attributes:
        name: the name of the function that makes it (see `register_network`).
        preset_name: the name of its preset when none is given.
        class_head_prefix: the beginning of the names of the class heads' parameters, and of no others; training for
            other classes initializes these at random.
        preset: how the heads are read and trained. It may be replaced by a preset with the order of rows and channels
            that all networks here have (`check_orders`); `save_weights` writes it to the file.
        preprocessing: how images are prepared for the network.
        num_classes: C, the columns of cls_logits, background included.
        min_training_batch: the fewest images per batch in training mode; 2 where a map of one cell goes through a batch
            norm, which would learn nothing from a single image.

    Examples:
        A network of one feature map of 4 x 4 cells that sees 32 x 32 images:

        >>> import torch
        >>> import ssd_fast
        >>> from ssd_fast import models
        >>> boxes = ssd_fast.DefaultBoxSpec((32, 32), feature_maps=((4, 4),), box_sizes=(((12, 12), (20, 20)),))
        >>> specs = ssd_fast.BoxCoderSpec(), ssd_fast.MatcherSpec(), ssd_fast.LossSpec(), ssd_fast.PostprocessSpec()
        >>> class OneMap(models.SSDNetwork):
        ...     name = "one_map"
        ...     class_head_prefix = "classes."
        ...     preprocessing = models.Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3, 1.0, "half_pixel")
        ...
        ...     def __init__(self, num_classes):
        ...         super().__init__(num_classes, ssd_fast.Preset("one_map", boxes, *specs))
        ...         self.backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 8, stride=8), torch.nn.ReLU())
        ...         self.boxes = torch.nn.Conv2d(16, 2 * 4, 3, padding=1)
        ...         self.classes = torch.nn.Conv2d(16, 2 * num_classes, 3, padding=1)
        ...
        ...     def head_maps(self, images):
        ...         features = self.backbone(images)
        ...         return [self.boxes(features)], [self.classes(features)]

        One step of training it:

        >>> _ = torch.manual_seed(0)
        >>> network = OneMap(num_classes=3)
        >>> criterion = ssd_fast.SSDCriterion.from_preset(network.preset)
        >>> optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        >>> bbox_regression, cls_logits = network(torch.randn(2, 3, 32, 32))
        >>> gt_boxes = [torch.tensor([[4.0, 4, 16, 16]]), torch.tensor([[8.0, 8, 28, 28]])]  # one tensor per image
        >>> losses = criterion(cls_logits, bbox_regression, gt_boxes, [torch.tensor([1]), torch.tensor([2])])
        >>> sum(losses.values()).backward()
        >>> optimizer.step()
        >>> sorted(losses)
        ['bbox_regression', 'classification']
    """

    name: ClassVar[str]
    preset_name: ClassVar[str]
    class_head_prefix: ClassVar[str] = "class_heads."
    preprocessing: Preprocessing
    num_classes: int
    min_training_batch: int = 1

    def __init__(self, num_classes: int, preset: Preset | None = None) -> None:
        """Set num_classes and the preset; a preset of None is the one that `preset_name` names."""
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
        """The arguments of the function `name` besides num_classes, as values that JSON can hold."""
        return {}

    @classmethod
    def fitted_arguments(cls, dataset: DetectionDataset, size: tuple[int, int] | None) -> dict[str, Any]:
        """Return arguments for the function `name` that fit it to a dataset; none for a network of one fixed size.

        Args:
            dataset: the training data.
            size: (height, width) of the input that the user wants; None lets the network choose.
        """
        return {}

    @abstractmethod
    def head_maps(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Compute the heads as their convolutions leave them, one map per level.

        Args:
            images: [N, 3, H, W], preprocessed.

        Returns:
            `(bbox_maps, cls_maps)`: lists of [N, A * 4, h, w] and [N, A * C, h, w]; channel a * C + c is column c of
                the a-th default box of the cell.
        """

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the heads as rows, one per default box, in the order level, row, column, box of the cell.

        Args:
            images: [N, 3, H, W], preprocessed.

        Returns:
            `(bbox_regression, cls_logits)`: [N, P, 4] and [N, P, C].
        """
        bbox_maps, cls_maps = self.head_maps(images)
        return flatten_maps(bbox_maps, 4), flatten_maps(cls_maps, self.num_classes)


def flatten_maps(maps: Sequence[Tensor], columns: int) -> Tensor:
    """Head maps [N, A * columns, h, w] -> rows [N, P, columns], where P is the sum of h * w * A over the maps."""
    return torch.cat([head_map.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, columns)) for head_map in maps], dim=1)
