"""The networks of this package by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._checks import choice
from .network import SSDNetwork
from .ssd300_resnet50 import ssd300_resnet50
from .ssd300_vgg16 import ssd300_vgg16
from .ssd512_vgg16 import ssd512_vgg16
from .ssd_tiny import ssd_tiny
from .ssdlite300_mobilenet_v2 import ssdlite300_mobilenet_v2
from .ssdlite320_mobilenet_v3_large import ssdlite320_mobilenet_v3_large

__all__ = ["list_networks", "make_network"]

_NETWORKS: dict[str, Callable[..., SSDNetwork]] = {
    make.__name__: make
    for make in (
        ssdlite300_mobilenet_v2,
        ssdlite320_mobilenet_v3_large,
        ssd300_vgg16,
        ssd512_vgg16,
        ssd300_resnet50,
        ssd_tiny,
    )
}


def list_networks() -> list[str]:
    """The names that `make_network` knows."""
    return list(_NETWORKS)


def make_network(name: str, num_classes: int, **arguments: Any) -> SSDNetwork:
    """`ssd_fast.models.<name>(num_classes, **arguments)`.

    Raises: ValueError: an unknown name, the message lists the known ones; or an argument that the network refuses.
    """
    make = _NETWORKS[choice("make_network", "name", name, list_networks())]
    try:
        return make(num_classes, **arguments)
    except TypeError as error:
        raise ValueError(f"make_network: {error}") from error
