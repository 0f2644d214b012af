"""Make the network with which a training begins: new for the dataset, or from weights for other classes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from .._checks import as_path, require
from ..datasets import DetectionDataset
from ..models import SSDNetwork, load_weights, make_network, network_class
from ..models.weights.loading import read_network

__all__ = ["start_network"]

_DEFAULT = "ssd_tiny"
_BACKGROUND_BIAS = 3.0


def start_network(
    dataset: DetectionDataset,
    *,
    name: str | None = None,
    size: tuple[int, int] | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
) -> SSDNetwork:
    """Make a network with one column for the background and one for each class of the dataset.

    Args:
        dataset: the training data.
        name: one of list_networks(); None: the network of the weights, or ssd_tiny, whose default boxes are then fitted
            to the dataset (`fit_sides`).
        size: (height, width) of ssd_tiny's input; None: `default_size(dataset)`.
        weights: a weight file, whose parameters are taken except for the class heads, which are initialized at random.
        seed: seed of the random initialization.

    Raises:
        ValueError: an unknown name, a size that the network cannot have, or weights of another network or size.
        FileNotFoundError: no such file.

    Examples:
        >>> import numpy as np
        >>> from ssd_fast.datasets import DetectionDataset, Sample
        >>> from ssd_fast.training import start_network
        >>> box = np.array([[10, 20, 30, 60]], np.float32)
        >>> sample = Sample("a.jpg", "a.jpg", (120, 240), box, np.array([1]), np.array([False]))
        >>> network = start_network(DetectionDataset([sample], classes=("cat",)))
        >>> network.name, network.num_classes, network.preprocessing.size
        ('ssd_tiny', 2, (192, 384))
    """
    source = (
        None
        if weights is None
        else read_network(as_path("start_network", "weights", weights), None, "start_network")[0]
    )
    if source is not None and name not in (None, source.name):
        raise ValueError(f"start_network: name: expected {source.name}, the network of {weights}, got {name!r}")
    name = source.name if source is not None else name or _DEFAULT
    arguments = network_class(name).fitted_arguments(dataset, size) if source is None else source.arguments
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        network = make_network(name, len(dataset.classes) + 1, **arguments)
        if source is not None:
            _begin_class_heads(network)
    if size is not None and tuple(size) != network.preprocessing.size:
        owner = name if source is None else weights
        held, given = (" x ".join(map(str, sides)) for sides in (network.preprocessing.size, size))
        raise ValueError(f"start_network: size: expected {held}, the size of {owner}, got {given}")
    if source is not None and weights is not None:
        network.preset, network.preprocessing = source.preset, source.preprocessing
        prefix = network.class_head_prefix
        require(
            any(parameter.startswith(prefix) for parameter in network.state_dict()),
            type(network).__name__,
            "class_head_prefix",
            "the prefix of some parameters",
            prefix,
        )
        load_weights(network, weights, exclude=network.class_head_prefix)
    return network


def _begin_class_heads(network: SSDNetwork) -> None:
    """Initialize class heads with small weights and a high background bias, since almost all boxes are background.

    Otherwise the class loss of new heads on trained features starts ten times as large and spoils the features.
    """
    for name, module in network.named_modules():
        predicts = (
            isinstance(module, nn.Conv2d) and module.groups == 1 and module.out_channels % network.num_classes == 0
        )
        if predicts and name.startswith(network.class_head_prefix) and module.bias is not None:
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
            module.bias.data[:: network.num_classes] = _BACKGROUND_BIAS
