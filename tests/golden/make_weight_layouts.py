"""Records outputs of other projects' SSDs: `python tests/golden/make_weight_layouts.py PROJECT CHECKOUT`.

PROJECT is a key of PROJECTS below, CHECKOUT its folder at the commit that SOURCES.md names. mmdetection's has its
configs, and the packages mmdet, mmcv-lite and mmengine have to be installed; NVIDIA's is the folder
PyTorch/Detection/SSD. The network gets the weights of weight_recipes.py, computed from the names and shapes in its
state_dict, and that module's image. The file holds names and shapes, and a sample of the rows of its heads, in its
order.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parent / "weight_layouts"
sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers import weight_recipes  # noqa: E402

Heads = Callable[[Tensor], tuple[Tensor, Tensor]]  # an image -> bbox_regression [1, P, 4], cls_logits [1, P, C]
Networks = Iterator[tuple[str, int, nn.Module, Heads]]  # name here, image side, original, its heads


def amdegroot(checkout: Path) -> Networks:
    home = Path(tempfile.mkdtemp())  # on import it reads COCO's class names from there
    (home / "data/coco").mkdir(parents=True)
    shutil.copy(checkout / "data/coco_labels.txt", home / "data/coco")
    os.environ["HOME"] = str(home)
    sys.path.insert(0, str(checkout))
    import ssd

    network = ssd.build_ssd("train", 300, 21)
    yield "ssd300_vgg16", 300, network, lambda image: network(image)[:2]


def lufficc(checkout: Path) -> Networks:
    import torchvision

    torchvision.__version__ = "0.3.0"  # it compares versions as text: 0.26 is "older"
    sys.path.insert(0, str(checkout))
    from ssd.config import cfg
    from ssd.modeling.detector import SSDDetector

    for side in (300, 512):
        config = cfg.clone()
        config.merge_from_file(str(checkout / f"configs/vgg_ssd{side}_voc0712.yaml"))
        config.MODEL.BACKBONE.PRETRAINED = False
        detector = SSDDetector(config)

        def heads(image: Tensor, detector: Any = detector) -> tuple[Tensor, Tensor]:
            cls_logits, bbox_regression = detector.box_head.predictor(detector.backbone(image))
            return bbox_regression, cls_logits

        yield f"ssd{side}_vgg16", side, detector, heads


def qfgaohao(checkout: Path) -> Networks:
    sys.path.insert(0, str(checkout))
    from vision.ssd.vgg_ssd import create_vgg_ssd

    network = create_vgg_ssd(21)
    yield "ssd300_vgg16", 300, network, lambda image: network(image)[::-1]


def mmdetection(checkout: Path) -> Networks:
    sys.modules["mmcv._ext"] = _NoOps("mmcv._ext")  # compiled ops, which SSD's layers do not use
    import mmdet.models  # noqa: F401
    from mmdet.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    for side in (300, 512):
        config = Config.fromfile(checkout / f"configs/ssd/ssd{side}_coco.py").model
        config.bbox_head.num_classes = 20
        config.backbone.init_cfg = None
        detector = MODELS.build(config)

        def heads(image: Tensor, detector: Any = detector) -> tuple[Tensor, Tensor]:
            cls_maps, bbox_maps = detector.bbox_head(detector.extract_feat(image))
            return _rows(bbox_maps, 4), _rows(cls_maps, 21)

        yield f"ssd{side}_vgg16", side, detector, heads


def nvidia(checkout: Path) -> Networks:
    import torchvision

    resnet50 = torchvision.models.resnet.resnet50
    torchvision.models.resnet.resnet50 = lambda **_: resnet50()  # a default argument, which would download weights
    package = sys.modules["ssd"] = ModuleType("ssd")  # without __init__, whose entry points need more packages
    package.__path__ = [str(checkout / "ssd")]
    from ssd.model import SSD300

    def heads(image: Tensor) -> tuple[Tensor, Tensor]:
        bbox_regression, cls_logits = network(image)
        return bbox_regression.transpose(1, 2), cls_logits.transpose(1, 2)

    network = SSD300()
    yield "ssd300_resnet50", 300, network, heads


PROJECTS = {
    "amdegroot": amdegroot,
    "lufficc": lufficc,
    "qfgaohao": qfgaohao,
    "mmdetection": mmdetection,
    "nvidia": nvidia,
}


class _NoOps(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def _rows(maps: list[Tensor], columns: int) -> Tensor:
    return torch.cat([m.permute(0, 2, 3, 1).reshape(m.shape[0], -1, columns) for m in maps], dim=1)


@torch.no_grad()
def main(project: str, checkout: Path) -> None:
    for name, side, network, heads in PROJECTS[project](checkout):
        tensors = [(key, list(tensor.shape)) for key, tensor in network.state_dict().items()]
        network.load_state_dict(weight_recipes.weights(tensors))
        network.eval()
        bbox_regression, cls_logits = heads(weight_recipes.image(side))
        num_rows = bbox_regression.shape[1]
        rows = np.unique(np.concatenate([np.arange(0, num_rows, 97), np.arange(num_rows - 20, num_rows)]))
        np.savez_compressed(
            FOLDER / f"{project}_{name}.npz",
            tensors=json.dumps(tensors),
            num_rows=num_rows,
            rows=rows.astype(np.int32),
            bbox_regression=bbox_regression[0, rows].numpy(),
            cls_logits=cls_logits[0, rows].numpy(),
        )
        print(project, name, num_rows, cls_logits.abs().max().item())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).resolve())
