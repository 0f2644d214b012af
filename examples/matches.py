"""Draw what one image trains: its ground truths, their default boxes map by map, and the hard negatives.

python examples/matches.py scenes test_0001.png run/weights.safetensors matches.png
"""

from __future__ import annotations

import sys

import ssd_fast
from ssd_fast.datasets import open_dataset
from ssd_fast.models import load_network


def main(folder: str, name: str, weights: str, picture: str) -> None:
    dataset = open_dataset(folder)
    index = [sample.name for sample in dataset.samples].index(name)
    image, target = dataset[index]
    network, _ = load_network(weights)
    batch, _ = network.preprocessing([image])
    height, width = network.preset.default_boxes.extent
    boxes = target["boxes"] * target["boxes"].new_tensor([width / image.shape[2], height / image.shape[1]]).repeat(2)

    criterion = ssd_fast.SSDCriterion.from_preset(network.preset)
    bbox_regression, cls_logits = network.eval()(batch)
    matched, mined = criterion.select(cls_logits, bbox_regression, [boxes], [target["labels"]])
    ssd_fast.draw_matches(image, boxes, network.preset.default_boxes, matched[0], mined[0]).save(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
