"""CapturedDetector: a detector recorded as a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..detections import Detections

__all__ = ["CapturedDetector"]


class CapturedDetector:
    """A recorded detector: `captured(batch, original_sizes) -> Detections`, made by Detector.capture."""

    def __init__(
        self,
        detect: Callable[[Tensor, Tensor], Detections],
        batch_shape: tuple[int, ...],
        size: tuple[int, int],
        device: torch.device,
    ) -> None:
        """Record calls of a function.

        Args:
            detect: computes the detections of a batch and original sizes.
            batch_shape: (N, 3, height, width).
            size: (height, width) of the network's input.
            device: a CUDA device.
        """
        self._batch = torch.zeros(batch_shape, dtype=torch.float32, device=device)
        self._input_sizes = torch.tensor([size] * batch_shape[0], dtype=torch.int64, device=device)
        self._sizes = self._input_sizes.clone()
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.device(device):
            warm_up = torch.cuda.Stream()  # before the capture, cuDNN chooses kernels and workspaces are allocated
            warm_up.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(warm_up):
                for _ in range(3):
                    detect(self._batch, self._sizes)
            torch.cuda.current_stream().wait_stream(warm_up)
            with torch.cuda.graph(self._graph):
                self._detections = detect(self._batch, self._sizes)

    def __call__(self, batch: Tensor, original_sizes: Tensor | None = None) -> Detections:
        """Replay the recording.

        Args:
            batch: float32, preprocessed, of the captured shape: what `network.preprocessing` returns.
            original_sizes: int64 [N, 2], (height, width) that boxes are scaled to; None: the network's input size.

        Returns:
            The same tensors on every call, which the next call overwrites: clone what has to stay.

        Syncs:
            None.

        Raises:
            ValueError: a batch or sizes of another shape.
        """
        sizes = self._input_sizes if original_sizes is None else original_sizes
        for name, given, held in (("batch", batch, self._batch), ("original_sizes", sizes, self._sizes)):
            if given.shape != held.shape:
                raise ValueError(f"captured detector: {name}: expected {tuple(held.shape)}, got {tuple(given.shape)}")
        self._batch.copy_(batch)
        self._sizes.copy_(sizes)
        self._graph.replay()
        return self._detections
