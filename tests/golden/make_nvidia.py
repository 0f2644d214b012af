"""Runs NVIDIA's SSD300 (DeepLearningExamples) on `dialect_inputs` and writes its results: tests/golden/nvidia/.

python tests/golden/make_nvidia.py CLONE/PyTorch/Detection/SSD [OUT]     (commit: SOURCES.md)
"""

from __future__ import annotations

import functools
import os
import sys
import types
from pathlib import Path

import torch
import torchvision
from recording import record, save, targets

COLUMNS = 81
MAPS = ((38, 4), (19, 6), (10, 6), (5, 6), (3, 4), (1, 4))  # cells per side, boxes per cell


def main(clone: str, out: str | None = None) -> None:
    sys.path.insert(0, os.path.abspath(clone))
    resnet50 = torchvision.models.resnet.resnet50
    torchvision.models.resnet.resnet50 = lambda **_: resnet50()  # a default argument, which would download weights
    package = sys.modules["ssd"] = types.ModuleType("ssd")  # without __init__, whose entry points need more packages
    package.__path__ = [str(Path(sys.path[0]) / "ssd")]
    from ssd.model import SSD300, Loss
    from ssd.utils import Encoder, dboxes300_coco

    torch.set_num_threads(1)
    boxes = dboxes300_coco()

    def match(truths, labels):
        centres, columns = Encoder(boxes).encode(truths, labels)
        return Loss(boxes)._loc_vec(centres.T[None])[0].T.detach(), columns

    def decode(deltas):
        heads = deltas.T[None], torch.zeros(1, COLUMNS, len(deltas))
        return Encoder(boxes).scale_back_batch(*heads)[0][0]

    def loss(logits, deltas, truths):
        centres, columns = targets(Encoder(boxes).encode, truths, boxes(order="xywh"))
        return (Loss(boxes)(deltas.transpose(1, 2), logits.transpose(1, 2), centres.transpose(1, 2), columns).detach(),)

    def detect(logits, deltas, max_output=200):
        # Through its head maps, so that their layout is the original's: [N, 4 * A, h, w] and [N, 81 * A, h, w].
        owner = types.SimpleNamespace(label_num=COLUMNS)
        pairs = list(zip(to_maps(deltas, 4), to_maps(logits, COLUMNS), strict=True))
        features = [torch.cat(pair, 1) for pair in pairs]
        loc_heads = [lambda s, n=loc.shape[1]: s[:, :n] for loc, _ in pairs]
        conf_heads = [lambda s, n=loc.shape[1]: s[:, n:] for loc, _ in pairs]
        loc, conf = SSD300.bbox_view(owner, features, loc_heads, conf_heads)
        assert torch.equal(loc, deltas.transpose(1, 2)) and torch.equal(conf, logits.transpose(1, 2))
        found = []
        for rows in Encoder(boxes).decode_batch(loc, conf, 0.50, max_output):
            found.append(dict(zip(("boxes", "labels", "scores"), rows, strict=True)))
        return found

    def exact(logits, default_boxes, truths):
        encoder = Encoder(boxes)
        encoder.dboxes, encoder.nboxes = default_boxes, len(default_boxes)
        labels = encoder.encode(truths, 1 + torch.arange(len(truths)))[1]
        return labels - 1, encoder.decode_single(default_boxes, logits[0].softmax(-1), 0.5, 1000)[2]

    everything = functools.partial(detect, max_output=100_000)
    arrays = record(
        *(300, COLUMNS, boxes(order="ltrb"), match, decode, loss, detect),
        exact=exact,
        one_empty=True,
        more={"all": everything},
    )
    save("nvidia", out, "nvidia_ssd300_coco", arrays)


def to_maps(rows: torch.Tensor, values: int) -> list[torch.Tensor]:
    """Return rows [N, P, values] in the order A, H, W as maps [N, values * A, h, w], channel value * A + a."""
    maps, first = [], 0
    for side, boxes in MAPS:
        count = boxes * side * side
        level = rows[:, first : first + count].transpose(1, 2)
        maps.append(level.reshape(len(rows), values * boxes, side, side))
        first += count
    return maps


if __name__ == "__main__":
    main(*sys.argv[1:])
