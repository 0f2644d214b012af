"""Load a detector with trained weights by its name or from a file."""

from __future__ import annotations

from pathlib import Path

import torch

from .._backend import cuda_status
from .._checks import as_path
from ..assets import SHIPPED_WEIGHTS, weights_path
from ..models._devices import known_device, move_to
from ..models.weights.loading import read_network
from .detector import Detector

__all__ = ["load_detector"]


def load_detector(
    name_or_path: str | Path = "ssdlite300_mobilenet_v2_coco",
    *,
    device: torch.device | str | None = None,
    tile: int | tuple[int, int] | None = None,
    overlap: float = 0.2,
) -> Detector:
    """Load a detector with trained weights, ready to call; nothing is downloaded.

    Args:
        name_or_path: "ssdlite300_mobilenet_v2_coco", or "coco" for short, which ships with the package; or a weight
            file of any network of `ssd_fast.models`, which is recognized by its tensors. Classes have the names that
            `load_network` returns, or else numbers.
        device: where the detector runs; None: the current CUDA device if `cuda_status()` finds one available, else the
            CPU.
        tile: as for Detector.
        overlap: as for Detector.

    Raises:
        ValueError: the name is unknown, `load_weights` refuses the file, torch does not know the device, or Detector
            refuses tile or overlap.
        FileNotFoundError: there is no such file.
        TypeError: neither a name nor a path.
        RuntimeError: the device cannot be used here.

    Examples:
        >>> import ssd_fast
        >>> detector = ssd_fast.load_detector(device="cpu")
        >>> detector
        Detector(SSDLite300MobileNetV2, 91 columns, cpu)
        >>> found = detector(ssd_fast.assets.asset_path("chelsea.jpg"), score_threshold=0.5)
        >>> [detector.classes[label] for label in found.to_list()[0]["labels"]]
        ['cat']
    """
    name = str(as_path("load_detector", "name_or_path", name_or_path))
    device = None if device is None else known_device("load_detector", device)
    if name not in SHIPPED_WEIGHTS and not Path(name).suffix:
        expected = f"one of {', '.join(SHIPPED_WEIGHTS)} or a weight file"
        raise ValueError(f"load_detector: name_or_path: expected {expected}, got {name!r}")
    network, classes = read_network(Path(weights_path(name)), None, "load_detector")
    if device is None:
        usable = torch.cuda.is_available() and cuda_status().startswith("available")
        device = torch.device("cuda" if usable else "cpu")
    move_to(network, device, "load_detector")
    return Detector(network, classes, tile=tile, overlap=overlap)
