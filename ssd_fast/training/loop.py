"""The training loop: takes batches, makes steps, logs, saves checkpoints and writes the averaged weights."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from ..criterion import SSDCriterion
from ..datasets import DetectionDataset
from ..models import SSDNetwork
from .data import Batch, TrainingSamples, batches, iterations_per_epoch
from .distributed import Processes
from .log import EpochMeans, Step, TrainingLog
from .options import Options
from .run_folder import Run
from .state import TrainingState, learning_rate

__all__ = ["NonFiniteLossError", "continue_training"]

_MOST_OVERFLOWS = 30  # successive float16 overflows, to each of which the scaler responds by halving its scale
_SHORTEST = 1e-9  # seconds per iteration, since a coarse clock may not have moved


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient became NaN or infinite; the checkpoint before that is kept."""


def continue_training(
    run: Run, state: TrainingState, dataset: DetectionDataset, processes: Processes, options: Options
) -> Path:
    """Train from the state to the end, and write the weights; the arguments are those of `train`."""
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
        if overflows > (_MOST_OVERFLOWS if config.precision == "fp16" else 0):  # the scaler handles a few
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
    """Normalize the images for the network, channels last."""
    images, _ = network.preprocessing(batch.images.to(device, non_blocking=True))
    return images.contiguous(memory_format=torch.channels_last)


def _unit_of_default_boxes(network: SSDNetwork) -> Tensor:
    """The factor for boxes in pixels of the input: 1, or 1 / size where default boxes are normalized."""
    (far_y, far_x), (height, width) = network.preset.default_boxes.extent, network.preprocessing.size
    return torch.tensor([far_x / width, far_y / height], dtype=torch.float32).repeat(2)


def _not_finite(
    what: str, values: dict[str, float], state: TrainingState, batch: Batch, dataset: DetectionDataset, run: Run
) -> str:
    names = ", ".join(dataset.samples[index].name for index in batch.indices.tolist())
    shown = ", ".join(f"{name} {value}" for name, value in values.items())
    kept = f"{run.checkpoint} holds the last good state" if run.checkpoint.exists() else "there is no checkpoint yet"
    return f"training: the {what} of iteration {state.iteration + 1} is not finite ({shown}); images {names}; {kept}"
