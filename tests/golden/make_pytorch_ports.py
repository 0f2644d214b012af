"""Runs three PyTorch ports of SSD on `dialect_inputs` and writes their results: tests/golden/pytorch_ports/*.npz.

python tests/golden/make_pytorch_ports.py amdegroot CLONE | lufficc CLONE | qfgaohao CLONE [OUT]

CLONE is a checkout of the project (commits: SOURCES.md). The originals are imported, not copied; code that current
versions of torch refuse is bridged below, outside the arithmetic. lufficc needs yacs, amdegroot OpenCV.
"""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from recording import record, save, targets


def main(project: str, clone: str, out: str | None = None) -> None:
    sys.path.insert(0, os.path.abspath(clone))
    torch.set_num_threads(1)
    for name, arrays in {"amdegroot": amdegroot, "lufficc": lufficc, "qfgaohao": qfgaohao}[project]():
        save("pytorch_ports", out, name, arrays)


def without_datasets(*packages: str) -> None:
    """Put empty packages before the project's, whose __init__ would read datasets or need more packages."""
    for package in packages:
        module = sys.modules[package] = types.ModuleType(package)
        module.__path__ = [str(Path(sys.path[0], *package.split(".")))]


# ---- amdegroot/ssd.pytorch ------------------------------------------------------------------------------------------


class OldTensor(torch.Tensor):
    """A tensor as in torch 0.3, whose assignment takes a mask of another shape with as many elements."""

    def __setitem__(self, mask: Any, value: Any) -> None:
        self.as_subclass(torch.Tensor).view(mask.shape)[mask] = value


def center_size(boxes: torch.Tensor) -> torch.Tensor:
    return torch.cat(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), 1)


def amdegroot():
    without_datasets("data")
    import data.config

    sys.modules["data"].voc, sys.modules["data"].coco = data.config.voc, data.config.coco
    from layers import box_utils
    from layers.functions import Detect, PriorBox
    from layers.modules import MultiBoxLoss, multibox_loss

    log_sum_exp = multibox_loss.log_sum_exp
    multibox_loss.log_sum_exp = lambda x: log_sum_exp(x).as_subclass(OldTensor)
    for name, config, columns in (
        ("amdegroot_ssd300_voc", data.config.voc, 21),
        ("amdegroot_ssd300_coco", data.config.coco, 81),
    ):
        priors = PriorBox(config).forward()
        criterion = MultiBoxLoss(columns, 0.5, True, 0, True, 3, 0.5, False, use_gpu=False)
        detector = Detect(columns, 0, 200, 0.01, 0.45)

        def match(boxes, labels, priors=priors, variance=config["variance"]):
            offsets, conf = torch.empty(1, len(priors), 4), torch.empty(1, len(priors), dtype=torch.int64)
            box_utils.match(0.5, boxes, priors, variance, labels - 1, offsets, conf, 0)
            return offsets[0], conf[0]

        def loss(logits, deltas, truths, priors=priors, criterion=criterion):
            targets = [torch.cat((boxes, labels[:, None] - 1.0), 1) for boxes, labels in truths]
            return criterion((deltas, logits, priors), targets)

        def detect(logits, deltas, priors=priors, detector=detector):
            output = detector.forward(deltas, logits.softmax(-1), priors)  # [N, C, 200, score + box]
            found = []
            for image in output:
                labels, ranks = torch.nonzero(image[..., 0] > 0, as_tuple=True)
                rows = image[labels, ranks]
                found.append({"boxes": rows[:, 1:], "scores": rows[:, 0], "labels": labels})
            return found

        def apart(logits, boxes, detect=detect):
            return detect(logits, torch.zeros(1, len(boxes), 4), center_size(boxes))[0]

        def exact(logits, boxes, truths):
            centres = center_size(boxes)
            offsets, conf = torch.empty(1, len(boxes), 4), torch.empty(1, len(boxes), dtype=torch.int64)
            box_utils.match(0.5, truths, centres, [0.1, 0.2], torch.arange(len(truths)), offsets, conf, 0)
            found = Detect(2, 0, 200, 0.5, 0.5).forward(torch.zeros(1, len(boxes), 4), logits.softmax(-1), centres)
            return conf[0] - 1, found[0, 1, :, 0][found[0, 1, :, 0] > 0]

        yield (
            name,
            record(
                300,
                columns,
                box_utils.point_form(priors),
                match,
                lambda deltas, priors=priors, config=config: box_utils.decode(deltas, priors, config["variance"]),
                loss,
                detect if columns == 21 else None,  # the others run the same code and give many more detections
                exact=exact,
                apart=apart,
            ),
        )


# ---- lufficc/SSD ----------------------------------------------------------------------------------------------------


def lufficc():
    without_datasets("ssd.modeling.box_head", "ssd.data", "ssd.data.transforms")
    torchvision.__version__ = "0.3.0"  # it compares versions as strings, and would find 0.26 too old for its NMS
    from ssd.config import cfg as defaults
    from ssd.data.transforms.target_transform import SSDTargetTransform
    from ssd.modeling.anchors.prior_box import PriorBox
    from ssd.modeling.box_head.inference import PostProcessor
    from ssd.modeling.box_head.loss import MultiBoxLoss
    from ssd.utils import box_utils

    for name in ("300_voc0712", "512_voc0712", "300_coco_trainval35k", "512_coco_trainval35k"):
        cfg = defaults.clone()
        cfg.merge_from_file(str(Path(sys.path[0]) / "configs" / f"vgg_ssd{name}.yaml"))
        variances = cfg.MODEL.CENTER_VARIANCE, cfg.MODEL.SIZE_VARIANCE
        priors = PriorBox(cfg)()

        def match(boxes, labels, priors=priors, cfg=cfg, variances=variances):
            return SSDTargetTransform(priors, *variances, cfg.MODEL.THRESHOLD)(boxes, labels)

        def pairs(boxes, truths, match=match):
            return match(truths, 1 + torch.arange(len(truths)), center_size(boxes))[1] - 1

        def decode(deltas, priors=priors, variances=variances):
            boxes = box_utils.convert_locations_to_boxes(deltas[None], priors, *variances)
            return box_utils.center_form_to_corner_form(boxes)[0]

        def loss(logits, deltas, truths, cfg=cfg, match=match):
            offsets, labels = targets(match, truths, torch.zeros_like(deltas[0]))
            return MultiBoxLoss(cfg.MODEL.NEG_POS_RATIO)(logits, deltas, labels, offsets)

        def select(logits, boxes, cfg=cfg):
            scores = torch.nn.functional.softmax(logits, dim=2)
            return [
                {key: found[key] for key in ("boxes", "scores", "labels")}
                for found in PostProcessor(cfg)((scores, boxes))
            ]

        def detect(logits, deltas, decode=decode, select=select):
            return select(logits, torch.stack([decode(image) for image in deltas]))

        def apart(logits, boxes, cfg=cfg, select=select):
            everything = cfg.clone()
            everything.TEST.MAX_PER_IMAGE = logits.numel()
            return select(logits, boxes[None], everything)[0]

        def exact(logits, boxes, truths, cfg=cfg, select=select):
            half = cfg.clone()
            half.TEST.CONFIDENCE_THRESHOLD, half.TEST.NMS_THRESHOLD, half.TEST.MAX_PER_IMAGE = 0.5, 0.5, 1000
            return None, select(logits, boxes[None], half)[0]["scores"]

        corners = box_utils.center_form_to_corner_form(priors)
        columns = cfg.MODEL.NUM_CLASSES
        yield (
            f"lufficc_ssd{name[:8].rstrip('0_')}",
            record(
                *(cfg.INPUT.IMAGE_SIZE, columns, corners, match, decode, loss, detect),
                exact=exact,
                apart=apart,
                pairs=pairs,
                one_empty=True,
            ),
        )


# ---- qfgaohao/pytorch-ssd -------------------------------------------------------------------------------------------


def qfgaohao():
    from vision.nn.multibox_loss import MultiboxLoss
    from vision.ssd.config import mobilenetv1_ssd_config, vgg_ssd_config
    from vision.ssd.predictor import Predictor
    from vision.ssd.ssd import MatchPrior
    from vision.utils import box_utils

    class Heads(torch.nn.Module):
        """Stands for a network in its test mode, which gives the predictor scores and corners."""

        def __init__(self, scores, boxes):
            super().__init__()
            self.outputs = scores, boxes

        def forward(self, images):
            return self.outputs

    for name, config in (("qfgaohao_vgg16", vgg_ssd_config), ("qfgaohao_mobilenet", mobilenetv1_ssd_config)):
        variances = config.center_variance, config.size_variance

        def match(boxes, labels, priors=config.priors, variances=variances):
            return MatchPrior(priors, *variances, 0.5)(boxes, labels)  # 0.5, as train_ssd.py has it

        def pairs(boxes, truths, match=match):
            return match(truths, 1 + torch.arange(len(truths)), center_size(boxes))[1] - 1

        def decode(deltas, config=config, variances=variances):
            boxes = box_utils.convert_locations_to_boxes(deltas[None], config.priors, *variances)
            return box_utils.center_form_to_corner_form(boxes)[0]

        def loss(logits, deltas, truths, config=config, variances=variances, match=match):
            offsets, labels = targets(match, truths, torch.zeros_like(deltas[0]))
            criterion = MultiboxLoss(config.priors, 0.5, 3, *variances, torch.device("cpu"))
            return criterion(logits, deltas, labels, offsets)

        def select(logits, boxes, config=config, **thresholds):
            heads = Heads(torch.nn.functional.softmax(logits[None], dim=2), boxes[None])
            predictor = Predictor(
                heads, config.image_size, config.image_mean, config.image_std, device="cpu", **thresholds
            )
            predictor.transform = torch.from_numpy
            boxes, labels, scores = predictor.predict(np.zeros((300, 300, 3), np.float32))
            return {"boxes": boxes, "scores": scores, "labels": labels}

        def detect(logits, deltas, decode=decode, select=select):
            return [select(*image) for image in zip(logits, map(decode, deltas), strict=True)]

        def apart(logits, boxes, select=select):
            return select(logits[0], boxes)

        def exact(logits, boxes, truths, select=select):
            return None, select(logits[0], boxes, iou_threshold=0.5, filter_threshold=0.5)["scores"]

        corners = box_utils.center_form_to_corner_form(config.priors)
        yield (
            name,
            record(
                300, 21, corners, match, decode, loss, detect, exact=exact, apart=apart, pairs=pairs, one_empty=True
            ),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
