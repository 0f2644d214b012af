"""Detect objects in photos with one call: preprocessing, network, preset and postprocess put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from .._backend import cuda_status
from .._checks import as_int, as_path, as_row, instance, number, require
from ..assets import SHIPPED_WEIGHTS, weights_path
from ..detections import Detections
from ..images import Image, as_image_tensors
from ..models._devices import known_device, move_to
from ..models.network import SSDNetwork, check_orders
from ..models.weights.loading import read_network
from ..models.weights.metadata import class_names
from ..ops import default_boxes, postprocess
from ..presets import Preset
from ..specs import PostprocessSpec
from .captured import CapturedDetector

__all__ = ["CapturedDetector", "Detector", "load_detector"]


def load_detector(
    name_or_path: str | Path = "ssdlite300_mobilenet_v2_coco", *, device: torch.device | str | None = None
) -> Detector:
    """Load a detector with trained weights, ready to call; nothing is downloaded.

    Args:
        name_or_path: "ssdlite300_mobilenet_v2_coco", or "coco" for short, which ships with the package; or a weight
            file of any network of `ssd_fast.models`, which is recognized by its tensors. Classes have the names that
            `load_network` returns, or else numbers.
        device: where the detector runs; None: the current CUDA device if `cuda_status()` finds one available, else the
            CPU.

    Raises:
        ValueError: the name is unknown, `load_weights` refuses the file, or torch does not know the device.
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
    return Detector(network, classes)


class Detector:
    """A network with everything around it: `detector(images) -> Detections`.

    Attributes:
        network: in eval mode. The detector runs where it is; `detector.network.half()` makes it compute in float16.
        classes: the name of each column of cls_logits; `classes[label]` names a detection.
        preset: how the heads are read.

    Examples:
        >>> import ssd_fast
        >>> network = ssd_fast.models.ssd_tiny(num_classes=3, size=(64, 64))
        >>> detector = ssd_fast.Detector(network, classes=("background", "cup", "spoon"))
        >>> detector.classes[2], detector.preset.default_boxes.image_size
        ('spoon', (64, 64))
    """

    def __init__(
        self, network: SSDNetwork, classes: Sequence[str] | None = None, *, preset: Preset | None = None
    ) -> None:
        """Put a detector together.

        Args:
            network: a network of `ssd_fast.models`, on its device.
            classes: names of its columns, background included; None: "background", "class 1" and so on.
            preset: how the heads are read; None: the network's.

        Raises:
            ValueError: more or fewer names than columns; a preset that reads heads in another order of rows or channels
                than the networks here use, such as nvidia_ssd300_coco.
            TypeError: not a network or a preset.
        """
        instance("Detector", "network", network, SSDNetwork, "a network of ssd_fast.models")
        self.network = network.eval()
        self.preset = network.preset if preset is None else preset
        check_orders(self.preset, "Detector")
        columns = network.num_classes
        self.classes = self._numbered_classes() if classes is None else class_names(classes, columns, "Detector")
        self._default_boxes = default_boxes(self.preset.default_boxes, device=self.device)

    def _numbered_classes(self) -> tuple[str, ...]:
        background, columns = self.preset.postprocess.background, self.network.num_classes
        return tuple(
            "background" if background in (column, column - columns) else f"class {column}" for column in range(columns)
        )

    @property
    def device(self) -> torch.device:
        """The device of the network's parameters."""
        return next(self.network.parameters()).device

    def __repr__(self) -> str:
        return f"Detector({type(self.network).__name__}, {self.network.num_classes} columns, {self.device})"

    @torch.no_grad()
    def __call__(self, images: Image | Sequence[Image], score_threshold: float | None = None) -> Detections:
        """Detect the objects in one image or in a batch of images of any sizes.

        Args:
            images: one or a list of: a path; a PIL image; a uint8 array [H, W, 3], RGB; a tensor [3, H, W], uint8 or
                floating point in 0..1. A tensor [N, 3, H, W] is a batch. EXIF orientation is applied, gray images are
                accepted, alpha is dropped: see `ssd_fast.images.as_image_tensor`.
            score_threshold: only detections with higher scores, in [0, 1]; None: the preset's threshold, which is made
                for measuring recall and lets hundreds of poor detections through.

        Returns:
            Detections of N images, xyxy in the pixels of each (upright) original; labels index `classes`.

        Syncs:
            None beyond the copies of images to the device.

        Raises:
            TypeError: an image of another kind or dtype.
            ValueError: an image of another shape, a file that is not an image, a threshold outside [0, 1].
            FileNotFoundError: there is no such file.
        """
        batch, original_sizes = self.network.preprocessing(as_image_tensors(images, self.device))
        return self._detect(batch, original_sizes, self._spec(score_threshold))

    def capture(self, batch_shape: Sequence[int], score_threshold: float | None = None) -> CapturedDetector:
        """Record network and postprocess as one CUDA graph, which replays them without their launch costs.

        Args:
            batch_shape: (N, 3, height, width) of the preprocessed batch.
            score_threshold: as when calling the detector, fixed from now on.

        Returns:
            A callable; see CapturedDetector. It sees changes made to the network's parameters in place.

        Raises:
            RuntimeError: the detector is not on a CUDA device.
            ValueError: another shape than the network's.
        """
        if self.device.type != "cuda":
            raise RuntimeError(
                "Detector.capture: CUDA graphs need a CUDA device, and this detector is on "
                f'"{self.device}": load_detector(..., device="cuda")'
            )
        height, width = self.network.preprocessing.size
        shape = tuple(as_int(side, 1) for side in as_row(batch_shape, 4, 4) or ())
        ok = None not in shape and shape[1:] == (3, height, width)
        require(ok, "Detector.capture", "batch_shape", f"(N, 3, {height}, {width})", batch_shape)
        spec = self._spec(score_threshold)

        def detect(batch: Tensor, original_sizes: Tensor) -> Detections:
            return self._detect(batch, original_sizes, spec)

        return CapturedDetector(detect, shape, (height, width), self.device)  # type: ignore[arg-type]

    def _spec(self, score_threshold: float | None) -> PostprocessSpec:
        spec = self.preset.postprocess
        if score_threshold is None:
            return spec
        threshold = number("Detector", "score_threshold", score_threshold, "a number in [0, 1]", lambda x: 0 <= x <= 1)
        return dataclasses.replace(spec, score_threshold=threshold)

    def _detect(self, batch: Tensor, original_sizes: Tensor, spec: PostprocessSpec) -> Detections:
        bbox_maps, cls_maps = self.network.head_maps(batch.to(next(self.network.parameters()).dtype))
        return postprocess(
            cls_maps,
            bbox_maps,
            self._default_boxes,
            spec,
            coder=self.preset.coder,
            image_sizes=self.preset.default_boxes.extent,
            original_sizes=original_sizes,
        )
