"""The loop: batches in, steps made, lines logged, checkpoints kept, and the averaged weights at the end."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from .._checks import as_path, flag, instance
from ..criterion import SSDCriterion
from ..datasets import DetectionDataset
from ..models import SSDNetwork
from ..models._devices import known_device, move_to
from .config import TrainingConfig
from .data import Batch, TrainingSamples, batches, iterations_per_epoch
from .distributed import Processes
from .log import EpochMeans, Step, TrainingLog
from .options import Options
from .presets import training_preset
from .run_folder import Run
from .schedule import learning_rate
from .state import TrainingState, deterministic_cudnn

__all__ = ["NonFiniteLossError", "train"]

_MOST_OVERFLOWS = 30  # float16 gradients in a row that the scaler answers by a smaller scale: 2**-30 of the first
_SHORTEST = 1e-9  # seconds of an iteration: a coarse clock may not have moved


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient became NaN or infinite; the checkpoint before that is kept."""


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
    """Trains a network on a dataset and writes the moving average of its weights.

    The weights depend only on the network, the dataset, the config, torch's version, the device, its number of threads
    and the number of processes: not on workers or cache, nor on how often the training was killed and resumed. (With
    more than two processes a resumed training may differ in the last bit, since DistributedDataParallel then adds the
    processes' gradients in another order.) On a GPU cuDNN is limited to deterministic algorithms meanwhile.

    Args:
        network: initialized, or with weights to start from; its preset is adapted to the loss, in place.
        dataset: its i-th class is column i + 1 of the network.
        folder: to write checkpoint.pt, weights.safetensors, log.jsonl and config.json into.
        processes: this process among those of `joined_processes`; all call this with the same arguments.
        workers: processes that augment images; 0: this process does.
        cache: keep the shrunk photos in memory.
        resume: continue from the folder's checkpoint; without one, from the beginning.
        log_every: iterations per line of the log.
        checkpoint_every: iterations per checkpoint; None: one epoch.
        on_step: called after each iteration of the main process.

    Returns:
        the path of the weights, which `load_detector` takes.

    Syncs:
        Every iteration, to see whether the losses and the gradient are finite.

    Raises:
        TypeError: an argument of another kind or out of its range; network, dataset and config do not fit each other.
        ValueError: an argument of another kind or out of its range; network, dataset and config do not fit each other.
        CheckpointError: another process is writing into the folder, it holds a training and resume is not set, or its
            checkpoint is damaged, is of another training or cannot be written (a ValueError).
        NonFiniteLossError: the message names iteration and images.
        RuntimeError: a device that cannot be used here.
        OSError: the folder or a file in it cannot be written, or is a symbolic link (the folder may be one).
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
        expected = f"{len(dataset.classes) + 1} columns, one for each class and one for the background"
        raise ValueError(f"training: network: expected {expected}, got {network.num_classes}")
    least = network.min_training_batch * processes.count
    if config.batch_size < least:
        expected = f"at least {least}, {network.min_training_batch} per process"
        reason = f"{network.name} has a map of one cell, and from a single image a batch norm learns nothing of it"
        raise ValueError(f"training: batch_size: expected {expected}, since {reason}; got {config.batch_size}")
    iterations_per_epoch(len(dataset), config.batch_size)
    network.preset = training_preset(network.preset, config.loss)

    move_to(network, device, "train")
    state = TrainingState(network, config, device)
    run = Run(folder, network, dataset, config, processes.count)
    with run.opened(resume) if processes.is_main else contextlib.nullcontext():
        processes.wait()
        run.restore(state)
        return _continue(run, state, dataset, processes, options)


def _continue(
    run: Run, state: TrainingState, dataset: DetectionDataset, processes: Processes, options: Options
) -> Path:
    """Trains from where the state is to the end, and writes the weights; the arguments are those of `train`."""
    network, config, device = state.network, state.config, state.device
    per_epoch = iterations_per_epoch(len(dataset), config.batch_size)
    total = per_epoch * config.epochs
    checkpoint_every = options.checkpoint_every or per_epoch
    log = TrainingLog(run.log if processes.is_main else None)
    if processes.is_main:
        run.describe()
        log.rewind(state.iteration)
    log.write("start", iteration=state.iteration, iterations=total, images=len(dataset), processes=processes.count)

    samples = TrainingSamples(dataset, config, network.preprocessing, cache=options.cache)
    if options.workers:
        samples.preload(threads=options.workers)
    stream = batches(
        samples,
        config,
        start=state.iteration,
        workers=options.workers,
        rank=processes.rank,
        processes=processes.count,
        pin_memory=device.type == "cuda",
    )
    trained: nn.Module = network
    if processes.count > 1:
        trained = nn.parallel.DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)
    criterion = SSDCriterion.from_preset(network.preset, policy=None, reduce_positives=processes.count > 1).to(device)

    means, overflows = EpochMeans(), 0
    unit = _unit_of_default_boxes(network).to(device)
    network.train()
    begin = time.perf_counter()
    for batch in stream:
        with state.autocast():
            bbox_regression, cls_logits = trained(_prepared(network, batch, device))
        truths = (batch.boxes.to(device) * unit, batch.offsets.to(device))
        ignored = batch.ignored.to(device) if batch.ignored.any() else None
        losses = criterion(cls_logits, bbox_regression, truths, batch.labels.to(device), ignored)
        values = {name: float(value.detach()) for name, value in losses.items()}
        if not processes.agree(all(map(math.isfinite, values.values())), device):
            raise NonFiniteLossError(_not_finite("loss", values, state, batch, dataset, run))
        norm = state.backward(config.box_weight * losses["bbox_regression"] + losses["classification"])
        overflows = 0 if math.isfinite(norm) else overflows + 1
        if overflows > (_MOST_OVERFLOWS if config.precision == "fp16" else 0):  # a few are met by the scaler
            raise NonFiniteLossError(_not_finite("gradient", {"norm": norm}, state, batch, dataset, run))
        rate = learning_rate(config.learning_rate, state.iteration, total, config.warmup_iterations)
        state.update(rate)

        end = time.perf_counter()
        seconds, begin = max(end - begin, _SHORTEST), end
        epoch = (state.iteration - 1) // per_epoch + 1
        step = Step(state.iteration, total, epoch, values, rate, norm, config.batch_size / seconds)
        means.add(step)
        run.require_held()
        if state.iteration % options.log_every == 0:
            log.write("iteration", **vars(step))
        if state.iteration % per_epoch == 0:
            log.write("epoch", **means.take())
        if processes.is_main:
            if state.iteration % checkpoint_every == 0 or state.iteration == total:
                run.save(state)
            if options.on_step is not None:
                options.on_step(step)
    if processes.is_main:
        run.export(state, dataset.classes)
        log.write("end", iteration=state.iteration, weights=str(run.weights))
    processes.wait()
    return run.weights


def _prepared(network: SSDNetwork, batch: Batch, device: torch.device) -> Tensor:
    """The images as the network takes them: normalized, channels last."""
    images, _ = network.preprocessing(batch.images.to(device, non_blocking=True))
    return images.contiguous(memory_format=torch.channels_last)


def _unit_of_default_boxes(network: SSDNetwork) -> Tensor:
    """What boxes in pixels of the input are multiplied by: 1, or 1 / size where default boxes are normalized."""
    (far_y, far_x), (height, width) = network.preset.default_boxes.extent, network.preprocessing.size
    return torch.tensor([far_x / width, far_y / height], dtype=torch.float32).repeat(2)


def _not_finite(
    what: str, values: dict[str, float], state: TrainingState, batch: Batch, dataset: DetectionDataset, run: Run
) -> str:
    names = ", ".join(dataset.samples[index].name for index in batch.indices.tolist())
    shown = ", ".join(f"{name} {value}" for name, value in values.items())
    kept = f"{run.checkpoint} holds the last good state" if run.checkpoint.exists() else "there is no checkpoint yet"
    return f"training: the {what} of iteration {state.iteration + 1} is not finite ({shown}); images {names}; {kept}"
