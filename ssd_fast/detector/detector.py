"""Detect objects in photos with one call: preprocessing, network, preset and postprocess put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from .._checks import as_int, as_row, instance, number, require
from ..detections import Detections
from ..images import Image, as_image_tensors
from ..models.network import SSDNetwork, check_orders
from ..models.weights.metadata import class_names
from ..ops import default_boxes, postprocess
from ..presets import Preset
from ..specs import PostprocessSpec
from .captured import CapturedDetector
from .tiled import detect_tiled
from .tiles import as_tiling

__all__ = ["Detector"]


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

        Small objects in large photos:

        >>> ssd_fast.Detector(network, tile=640, overlap=0.25)
        Detector(SSDTiny, 3 columns, cpu, tile 640 x 640, overlap 0.25)
    """

    def __init__(
        self,
        network: SSDNetwork,
        classes: Sequence[str] | None = None,
        *,
        preset: Preset | None = None,
        tile: int | tuple[int, int] | None = None,
        overlap: float = 0.2,
    ) -> None:
        """Put a detector together.

        Args:
            network: a network of `ssd_fast.models`, on its device.
            classes: names of its columns, background included; None: "background", "class 1" and so on.
            preset: how the heads are read; None: the network's.
            tile: pixels of a tile, (height, width) or one int of at least 32 for both. An image that is higher or wider
                is detected in tiles, so that its small objects are found; others as without tiles. None: no image is
                cut.
            overlap: the least share of a tile that the next one repeats, in [0, 1). An object of at most this share
                lies whole in a tile.

        Raises:
            ValueError: more or fewer names than columns; a preset that reads heads in another order of rows or channels
                than the networks here use, such as nvidia_ssd300_coco; a wrong tile or overlap.
            TypeError: not a network or a preset.
        """
        instance("Detector", "network", network, SSDNetwork, "a network of ssd_fast.models")
        self.network = network.eval()
        self.preset = network.preset if preset is None else preset
        check_orders(self.preset, "Detector")
        columns = network.num_classes
        self.classes = self._numbered_classes() if classes is None else class_names(classes, columns, "Detector")
        self._default_boxes = default_boxes(self.preset.default_boxes, device=self.device)
        self._tiling = as_tiling("Detector", tile, overlap)

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
        tiles = "" if self._tiling is None else f", {self._tiling}"
        return f"Detector({type(self.network).__name__}, {self.network.num_classes} columns, {self.device}{tiles})"

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
            Detections of N images, xyxy in the pixels of each (upright) original; labels index `classes`. A cut image
                may hold the preset's keep_top_k for each of its inputs. K is keep_top_k, or the count of a cut image
                that holds more.

        Notes:
            An image larger than a tile is cut into as few tiles as the overlap allows, spread evenly from edge to edge.
            Each is an input of the network, and so is the whole image, for objects larger than a tile. All candidates
            then enter one NMS, in the image's pixels. What it keeps may still hold a part of an object at an edge
            between tiles, so a box that ends within 1% of a tile's side from such an edge is dropped if more than half
            of it lies in a larger detection of its class (with class_mode "agnostic", of any class), of at least half
            its score. top_k counts per tile, and box_idxs index the default boxes of the tile. Cut images are detected
            one by one, so that their detections do not depend on the batch.

        Ties:
            As in `postprocess`; in a cut image, those of the whole image come first, then those of the tiles, row by
            row.

        Memory:
            The network sees at most 16 tiles at once. All candidates of a cut image are held, 37 bytes each; without
            score_threshold, some presets make every class of every default box a candidate.

        Syncs:
            None beyond the copies of images to the device; an image that is cut, once per 16 tiles and in the merge.

        Raises:
            TypeError: an image of another kind or dtype.
            ValueError: an image of another shape, a file that is not an image, a threshold outside [0, 1].
            FileNotFoundError: there is no such file.
        """
        tensors, spec = as_image_tensors(images, self.device), self._spec(score_threshold)
        if self._tiling is None:
            return self._detect_whole(tensors, spec)
        columns = self.network.num_classes
        return detect_tiled(tensors, self._tiling, self._detect_whole, self.preset, spec, columns)

    def capture(self, batch_shape: Sequence[int], score_threshold: float | None = None) -> CapturedDetector:
        """Record network and postprocess as one CUDA graph, which replays them without their launch costs.

        Args:
            batch_shape: (N, 3, height, width) of the preprocessed batch.
            score_threshold: as when calling the detector, fixed from now on.

        Returns:
            A callable; see CapturedDetector. It sees changes made to the network's parameters in place.

        Raises:
            RuntimeError: the detector is not on a CUDA device.
            ValueError: another shape than the network's; a detector with tiles, whose number depends on the image.
        """
        if self._tiling is not None:
            raise ValueError(f"Detector.capture: tile: expected None, since a graph has one batch, got {self._tiling}")
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

    def _detect_whole(self, images: Tensor | Sequence[Tensor], spec: PostprocessSpec) -> Detections:
        batch, original_sizes = self.network.preprocessing(images)
        return self._detect(batch, original_sizes, spec)

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
