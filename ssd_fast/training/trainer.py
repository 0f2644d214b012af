"""Train a network: check the arguments, open the folder, and run the loop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import torch

from .._checks import as_path, flag, instance
from ..datasets import DetectionDataset
from ..models import SSDNetwork
from ..models._devices import known_device, move_to
from .config import TrainingConfig
from .data import iterations_per_epoch
from .distributed import Processes
from .log import Step
from .loop import continue_training
from .options import Options
from .presets import training_preset
from .run_folder import Run
from .state import TrainingState, deterministic_cudnn

__all__ = ["train"]


@deterministic_cudnn()
def train(
    network: SSDNetwork,
    dataset: DetectionDataset,
    config: TrainingConfig,
    folder: str | Path,
    *,
    device: torch.device | str = "cpu",
    processes: Processes | None = None,
    workers: int = 0,
    cache: bool = True,
    resume: bool = False,
    log_every: int = 1,
    checkpoint_every: int | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Path:
    """Train a network on a dataset and write the moving average of its weights.

    The weights depend only on the network, the dataset, the config, torch's version, the device, its number of threads
    and the number of processes: not on workers or cache, nor on how often the training was killed and resumed. (With
    more than two processes a resumed training may differ in the last bit, since DistributedDataParallel then adds the
    processes' gradients in another order.) On a GPU, cuDNN is restricted to deterministic algorithms during training.

    Args:
        network: an initialized network, or one with weights to start from; its preset is adapted to the loss in place.
        dataset: the training data; its i-th class is column i + 1 of the network.
        config: the settings on which the weights depend.
        folder: the folder for checkpoint.pt, weights.safetensors, log.jsonl and config.json.
        device: the device to train on.
        processes: this process among those of `joined_processes`; all call this with the same arguments.
        workers: worker processes for augmentation; 0 for none.
        cache: keep the resized photos in memory.
        resume: continue from the folder's checkpoint; without one, start from the beginning.
        log_every: iterations per line of the log.
        checkpoint_every: iterations per checkpoint; None for one epoch.
        on_step: called after each iteration of the main process.

    Returns:
        The path of the weights, which `load_detector` reads.

    Syncs:
        Every iteration, to check that the losses and the gradient are finite.

    Raises:
        TypeError: an argument of another type.
        ValueError: an argument out of range, or a network, dataset and config that do not fit together.
        CheckpointError: another process is writing into the folder, it holds a training and resume is not set, or its
            checkpoint is damaged, belongs to another training or cannot be written (a ValueError).
        NonFiniteLossError: a loss or gradient is not finite; the message names the iteration and the images.
        RuntimeError: the device cannot be used here.
        OSError: the folder or a file in it cannot be written, or a file is a symbolic link (the folder may be one).

    Examples:
        >>> import tempfile
        >>> import numpy as np, PIL.Image
        >>> from ssd_fast.datasets import DetectionDataset, Sample
        >>> from ssd_fast.training import TrainingConfig, start_network, train
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     PIL.Image.new("RGB", (64, 48)).save(f"{folder}/a.png")
        ...     box = np.array([[8, 8, 40, 40]], np.float32)
        ...     sample = Sample(f"{folder}/a.png", "a.png", (48, 64), box, np.array([1]), np.array([False]))
        ...     dataset = DetectionDataset([sample, sample], classes=("cat",))
        ...     network = start_network(dataset, size=(48, 64))
        ...     train(network, dataset, TrainingConfig(epochs=1, batch_size=2), f"{folder}/run").name
        'weights.safetensors'
    """
    instance("train", "network", network, SSDNetwork, "a network of ssd_fast.models")
    instance("train", "dataset", dataset, DetectionDataset)
    instance("train", "config", config, TrainingConfig)
    folder = as_path("train", "folder", folder, "the path of a folder")
    device = known_device("train", device)
    processes = instance("train", "processes", Processes() if processes is None else processes, Processes)
    resume = flag("train", "resume", resume)
    options = Options(workers, cache, log_every, checkpoint_every, on_step)
    if network.num_classes != len(dataset.classes) + 1:
        expected = f"{len(dataset.classes) + 1} columns, one per class and one for the background"
        raise ValueError(f"training: network: expected {expected}, got {network.num_classes}")
    least = network.min_training_batch * processes.count
    if config.batch_size < least:
        expected = f"at least {least}, {network.min_training_batch} per process"
        reason = f"{network.name} has a map of one cell, from which a batch norm cannot learn with a single image"
        raise ValueError(f"training: batch_size: expected {expected}, since {reason}; got {config.batch_size}")
    iterations_per_epoch(len(dataset), config.batch_size)
    network.preset = training_preset(network.preset, config.loss)

    move_to(network, device, "train")
    state = TrainingState(network, config, device)
    run = Run(folder, network, dataset, config, processes.count)
    with run.opened(resume) if processes.is_main else contextlib.nullcontext():
        processes.wait()
        run.restore(state)
        return continue_training(run, state, dataset, processes, options)
