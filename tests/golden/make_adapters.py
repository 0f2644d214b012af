"""Runs the originals of ssd_fast.compat's adapters on `adapter_inputs`: tests/golden/adapters/PROJECT.npz.

python tests/golden/make_adapters.py PROJECT CLONE [OUT]

PROJECT: amdegroot, lufficc, qfgaohao or nvidia; CLONE: its checkout, NVIDIA's folder PyTorch/Detection/SSD of it.

Everything is kept as the original returns it: shapes, order and padding. make_pytorch_ports.py has imports and bridges.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from make_pytorch_ports import OldTensor, without_data_sets
from recording import save
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers import adapter_inputs as inputs
from helpers import dialect_inputs

Arrays = Iterator[tuple[str, Any]]


def main(project: str, clone: str, out: str | None = None) -> None:
    sys.path.insert(0, os.path.abspath(clone))
    torch.set_num_threads(1)
    arrays: dict[str, Any] = {"inputs": inputs.digest()}
    for name, value in {"amdegroot": amdegroot, "lufficc": lufficc, "qfgaohao": qfgaohao, "nvidia": nvidia}[project]():
        arrays[name] = value.detach().numpy() if isinstance(value, Tensor) else value
    save("adapters", out, project, arrays)


def losses(name: str, heads: list[Tensor], run: Any) -> Arrays:
    """Yield the losses of run(*heads), and the gradients of their sum."""
    heads = [head.clone().requires_grad_() for head in heads]
    values = run(*heads)
    sum(values).backward()
    yield name, np.array([float(value.detach()) for value in values])
    for key, head in zip(("deltas", "logits"), heads, strict=True):
        yield f"{name}_grad_{key}", head.grad


def amdegroot() -> Arrays:
    without_data_sets("data")
    import data.config

    sys.modules["data"].voc, sys.modules["data"].coco = data.config.voc, data.config.coco
    from layers.functions import Detect, PriorBox
    from layers.modules import MultiBoxLoss, multibox_loss

    log_sum_exp = multibox_loss.log_sum_exp
    multibox_loss.log_sum_exp = lambda x: log_sum_exp(x).as_subclass(OldTensor)
    for name in ("voc", "coco"):
        yield f"priors_{name}", dialect_inputs.digest(PriorBox(getattr(data.config, name)).forward().numpy())
    yield "priors_unclipped", PriorBox(inputs.amdegroot_cfg(clip=False)).forward()
    priors = PriorBox(inputs.amdegroot_cfg()).forward()
    yield "priors", priors
    for setting, (top_k, score_threshold, nms_threshold) in inputs.SETTINGS.items():
        detect = Detect(inputs.COLUMNS, 0, top_k, score_threshold, nms_threshold)
        yield f"detect_{setting}", detect.forward(inputs.deltas(), inputs.scores(), priors)
    targets = [torch.cat((boxes, labels[:, None] - 1.0), 1) for boxes, labels in inputs.ground_truth()]
    criterion = MultiBoxLoss(inputs.COLUMNS, 0.5, True, 0, True, 3, 0.5, False, use_gpu=False)
    heads = [inputs.deltas(), inputs.logits()]
    yield from losses("losses", heads, lambda loc, conf: criterion((loc, conf, priors), targets))


def lufficc() -> Arrays:
    without_data_sets("ssd.modeling.box_head", "ssd.data", "ssd.data.transforms")
    torchvision.__version__ = "0.3.0"  # it compares versions as strings, and would find 0.26 too old for its NMS
    from ssd.config import cfg as defaults
    from ssd.data.transforms.target_transform import SSDTargetTransform
    from ssd.modeling.anchors.prior_box import PriorBox
    from ssd.modeling.box_head.inference import PostProcessor
    from ssd.modeling.box_head.loss import MultiBoxLoss

    for name in ("300_voc0712", "512_voc0712", "300_coco_trainval35k", "512_coco_trainval35k"):
        cfg = defaults.clone()
        cfg.merge_from_file(str(Path(sys.path[0]) / "configs" / f"vgg_ssd{name}.yaml"))
        yield f"priors_{name[:8].rstrip('0_')}", dialect_inputs.digest(PriorBox(cfg)().numpy())
    yield "priors_unclipped", PriorBox(inputs.lufficc_cfg(clip=False))()
    priors = PriorBox(inputs.lufficc_cfg())()
    yield "priors", priors
    for setting in inputs.SETTINGS:
        for n, image in enumerate(PostProcessor(inputs.lufficc_cfg(setting))((inputs.scores(), inputs.boxes()))):
            yield f"keys_{setting}_{n}", json.dumps(list(image))
            yield f"size_{setting}_{n}", np.array([image.img_width, image.img_height])
            image.resize((640, 480)).numpy()
            for key in image:
                yield f"{key}_{setting}_{n}", image[key]
    transform = SSDTargetTransform(priors, 0.1, 0.2, 0.5)
    yield from row_losses(transform, MultiBoxLoss(3))


def qfgaohao() -> Arrays:
    from vision.nn.multibox_loss import MultiboxLoss
    from vision.ssd.config import mobilenetv1_ssd_config, vgg_ssd_config
    from vision.ssd.predictor import Predictor
    from vision.ssd.ssd import MatchPrior
    from vision.utils.box_utils import generate_ssd_priors

    for name, config in (("vgg16", vgg_ssd_config), ("mobilenet", mobilenetv1_ssd_config)):
        yield f"priors_{name}", dialect_inputs.digest(config.priors.numpy())
    yield "priors_unclipped", generate_ssd_priors(inputs.qfgaohao_specs(), 300, clamp=False)
    priors = generate_ssd_priors(inputs.qfgaohao_specs(), 300)
    yield "priors", priors
    image = np.arange(48 * 64 * 3, dtype=np.uint32).reshape(48, 64, 3).astype(np.uint8)
    for setting, (candidates, threshold, nms_threshold) in inputs.SETTINGS.items():
        top_k = -1 if setting == "default" else 7
        for n in range(inputs.IMAGES):
            heads = inputs.Heads(inputs.scores()[n : n + 1], inputs.boxes()[n : n + 1])
            predictor = Predictor(
                heads, 30, np.array([1, 2, 3]), 128.0, None, nms_threshold, threshold, candidates, device="cpu"
            )
            with contextlib.redirect_stdout(io.StringIO()):
                found = predictor.predict(image, top_k, 0.25 if setting == "other" else None)
            for key, value in zip(("boxes", "labels", "probs"), found, strict=True):
                yield f"{key}_{setting}_{n}", value
    yield "transformed", predictor.transform(image)
    yield from row_losses(
        MatchPrior(priors, 0.1, 0.2, 0.5), MultiboxLoss(priors, 0.5, 3, 0.1, 0.2, torch.device("cpu"))
    )


def row_losses(transform: Any, criterion: Any) -> Arrays:
    """Yield the targets of each image and their losses, for lufficc and qfgaohao, which are alike."""
    targets = [transform(*truth) for truth in inputs.ground_truth()]
    for n, (boxes, _) in enumerate(inputs.ground_truth()):
        yield f"matched_{n}", transform(boxes, 1 + torch.arange(len(boxes)))[1] - 1  # each has its own class
    locations, labels = (torch.stack(x) for x in zip(*targets, strict=True))
    yield "locations", locations
    yield "labels", labels
    heads = [inputs.deltas(), inputs.logits()]
    yield from losses("losses", heads, lambda loc, conf: criterion(conf, loc, labels, locations))


def nvidia() -> Arrays:
    resnet50 = torchvision.models.resnet.resnet50
    torchvision.models.resnet.resnet50 = lambda **_: resnet50()  # a default argument, which would download weights
    package = sys.modules["ssd"] = types.ModuleType("ssd")  # without __init__, whose entry points need more packages
    package.__path__ = [str(Path(sys.path[0]) / "ssd")]
    from ssd.model import Loss
    from ssd.utils import DefaultBoxes, Encoder, dboxes300_coco

    for order in ("ltrb", "xywh"):
        yield f"dboxes_{order}", dialect_inputs.digest(dboxes300_coco()(order).numpy())
    dboxes = DefaultBoxes(300, inputs.MAPS, inputs.STEPS, inputs.SIZES, inputs.RATIOS)
    yield "ltrb", dboxes()
    yield "xywh", dboxes(order="xywh")
    encoder = Encoder(dboxes)
    targets = []
    for n, truth in enumerate(inputs.ground_truth()):
        targets.append(encoder.encode(*truth))
        yield f"encoded_{n}", targets[-1][0]
        yield f"labels_{n}", targets[-1][1]
    few = encoder.encode(*inputs.ground_truth()[1], criteria=0.7)
    yield "labels_strict", few[1]

    def heads() -> list[Tensor]:
        """Return fresh heads: the original overwrites its first argument."""
        return [x.transpose(1, 2).contiguous() for x in (inputs.deltas(), inputs.logits())]

    boxes, probs = encoder.scale_back_batch(*heads())
    yield "scaled_boxes", boxes
    yield "scaled_probs", probs
    for setting, options in {"default": {}, "other": {"criteria": 0.7, "max_output": 1000}}.items():
        for n, rows in enumerate(encoder.decode_batch(*heads(), **options)):
            for key, value in zip(("boxes", "labels", "scores"), rows, strict=True):
                yield f"decoded_{key}_{setting}_{n}", value
    for key, value in zip(
        ("boxes", "labels", "scores"),
        encoder.decode_single(inputs.boxes()[0], inputs.scores()[0], 0.45, 300, 60),
        strict=True,
    ):
        yield f"single_{key}", value
    gloc, glabel = (torch.stack(x) for x in zip(*targets, strict=True))
    run = lambda ploc, plabel: [Loss(dboxes)(ploc, plabel, gloc.transpose(1, 2), glabel)]  # noqa: E731
    yield from losses("losses", heads(), run)


if __name__ == "__main__":
    main(*sys.argv[1:])
