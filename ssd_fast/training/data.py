"""Load training images in batches whose content depends only on seed, epoch and position."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..datasets import DetectionDataset
from ..models import Preprocessing
from .config import TrainingConfig
from .small_boxes import report_small_boxes
from .transforms import Augmentation, sample_seed

__all__ = ["Batch", "TrainingSamples", "batches", "epoch_order", "iterations_per_epoch"]

Key = tuple[int, int]  # (epoch, index of the image)

_ORDER = 2**32 - 1  # takes the place of an image's index in the seed of an epoch's order


class Batch(NamedTuple):
    """Images of one size and their ground truths, packed as for ssd_fast.match."""

    images: Tensor  # uint8 [N, 3, H, W]
    boxes: Tensor  # float32 [sum G, 4] xyxy in pixels of these images
    offsets: Tensor  # int64 [N + 1]
    labels: Tensor  # int64 [sum G]
    ignored: Tensor  # bool [sum G]
    indices: Tensor  # int64 [N], the images' indices in the dataset

    def to(self, device: torch.device) -> Batch:
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in self))


class TrainingSamples(Dataset[tuple[Tensor, Tensor, Tensor, Tensor, int]]):
    """`samples[epoch, index]`: an augmented image of the network's size and its ground truths.

    Photos are first resized to the network's input by its own preprocessing, so that an image that is not cropped is
    exactly what the network sees in detection, rounded to bytes. With cache=True the resized photos are kept, at 3
    bytes per pixel.

    Raises:
        ValueError: an image cannot be read; the message names its path.
    """

    def __init__(
        self, dataset: DetectionDataset, config: TrainingConfig, preprocessing: Preprocessing, *, cache: bool = True
    ) -> None:
        self.dataset, self.seed = dataset, config.seed
        self.size = preprocessing.size
        self._resize = dataclasses.replace(preprocessing, mean=(0.0,) * 3, std=(1.0,) * 3, pixel_range=255.0)
        white = 255.0 / preprocessing.pixel_range
        red, green, blue = (min(max(round(mean * white), 0), 255) for mean in preprocessing.mean)
        self._augment = Augmentation(config, self.size, (red, green, blue))
        report_small_boxes(dataset, self.size)
        self._cache: list[Tensor | None] | None = [None] * len(dataset) if cache else None

    def __len__(self) -> int:
        return len(self.dataset)

    def preload(self, progress: Callable[[int, int], None] | None = None, threads: int = 2) -> None:
        """Fill the cache, so that worker processes forked later share it. Does nothing without a cache."""
        if self._cache is None:
            return
        with one_thread(), ThreadPoolExecutor(threads) as pool:
            for done, _ in enumerate(pool.map(self._photo, range(len(self))), 1):
                if progress is not None:
                    progress(done, len(self))

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
        epoch, index = key
        with one_thread():
            image = self._photo(index)
            sample = self.dataset.samples[index]
            height, width = sample.size
            scale = torch.tensor([self.size[1] / width, self.size[0] / height], dtype=torch.float32).repeat(2)
            columns = (torch.from_numpy(array.copy()) for array in (sample.boxes, sample.labels, sample.ignored))
            boxes, labels, ignored = columns
            seed = sample_seed(self.seed, epoch, index)
            return *self._augment(image, boxes * scale, labels, ignored, seed), index

    def _photo(self, index: int) -> Tensor:
        """The photo as uint8 [3, H, W] of the network's size."""
        if self._cache is not None and (kept := self._cache[index]) is not None:
            return kept
        image, _ = self.dataset[index]
        photo = self._resize([image])[0][0].round().clamp(0, 255).to(torch.uint8)
        if self._cache is not None:
            self._cache[index] = photo
        return photo


def epoch_order(seed: int, epoch: int, length: int) -> Tensor:
    """The order of the images in an epoch, int64 [length]."""
    generator = torch.Generator().manual_seed(sample_seed(seed, epoch, _ORDER))
    return torch.randperm(length, generator=generator)


def iterations_per_epoch(length: int, batch_size: int) -> int:
    """The number of full batches of `length` images.

    Raises:
        ValueError: there is not even one.
    """
    if length < batch_size:
        raise ValueError(f"training: batch_size: expected at most {length}, the number of images, got {batch_size}")
    return length // batch_size


class _BatchKeys(Sampler[list[Key]]):
    """Yields the keys of a process's part of each batch, from an iteration to the end of the training."""

    def __init__(self, length: int, config: TrainingConfig, start: int, rank: int, processes: int) -> None:
        self._length, self._config, self._start = length, config, start
        share = config.batch_size // processes
        self._part = slice(rank * share, (rank + 1) * share)

    def __iter__(self) -> Iterator[list[Key]]:
        batch_size = self._config.batch_size
        per_epoch = iterations_per_epoch(self._length, batch_size)
        for epoch in range(self._start // per_epoch, self._config.epochs):
            order = epoch_order(self._config.seed, epoch, self._length).tolist()
            first = self._start % per_epoch if epoch == self._start // per_epoch else 0
            for index in range(first, per_epoch):
                batch = order[index * batch_size : (index + 1) * batch_size]
                yield [(epoch, image) for image in batch[self._part]]


def batches(
    samples: TrainingSamples,
    config: TrainingConfig,
    *,
    start: int = 0,
    workers: int = 0,
    rank: int = 0,
    processes: int = 1,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Iterate over the batches from iteration `start` to the last; they do not depend on the number of workers.

    Args:
        samples: the augmented images.
        config: the batch size, the epochs and the seed.
        start: the first iteration.
        workers: worker processes; 0 for none.
        rank: this process gets the rank-th part of each batch.
        processes: the number of processes.
        pin_memory: put the batches into pinned memory.

    Raises:
        ValueError: a batch larger than the dataset, or one that `processes` does not divide.
    """
    iterations_per_epoch(len(samples), config.batch_size)
    if config.batch_size % processes:
        expected = f"a multiple of the {processes} processes"
        raise ValueError(f"training: batch_size: expected {expected}, got {config.batch_size}")
    loader: DataLoader[Batch] = DataLoader(
        samples,  # type: ignore[arg-type]
        batch_sampler=_BatchKeys(len(samples), config, start, rank, processes),
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # otherwise the loader would draw from torch's global generator
    )
    return iter(loader)


def collate(samples: Sequence[tuple[Tensor, Tensor, Tensor, Tensor, int]]) -> Batch:
    images, boxes, labels, ignored, indices = zip(*samples, strict=True)
    sizes = torch.tensor([0, *(len(image_boxes) for image_boxes in boxes)], dtype=torch.int64)
    return Batch(
        torch.stack(images),
        torch.cat(boxes),
        sizes.cumsum(0),
        torch.cat(labels),
        torch.cat(ignored),
        torch.tensor(indices, dtype=torch.int64),
    )


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread, as in a worker: sums over several threads would round differently."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
