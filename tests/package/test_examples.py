"""The examples do what they promise."""

import itertools
import re
import sys

import PIL.Image
import pytest
import torch

import ssd_fast
from helpers.paths import ROOT
from ssd_fast.datasets import open_dataset

sys.path.insert(0, str(ROOT / "examples"))


def test_digits_are_written_apart_and_reproducibly(tmp_path):
    digits = pytest.importorskip("digits", reason="scikit-learn is not installed")
    digits.write(tmp_path, train=6, test=3)
    train, test = (open_dataset(tmp_path, split) for split in ("train", "test"))
    assert (len(train), len(test)) == (6, 3) and not train.problems + test.problems
    assert train.classes == tuple("0123456789")
    for image, target in (*train, *test):
        assert image.shape == (3, *digits.SIZE) and image.float().std() > 10
        assert len(target["boxes"]) >= 3
        for (x1, y1, x2, y2), other in itertools.permutations(target["boxes"].tolist(), 2):
            assert x1 >= other[2] or x2 <= other[0] or y1 >= other[3] or y2 <= other[1], "digits overlap"
    again = tmp_path / "again"
    digits.write(again, train=6, test=3)
    assert torch.equal(open_dataset(again, "train")[5][0], train[5][0])


@pytest.mark.usefixtures("one_thread")
def test_tiles_find_the_objects(tmp_path, monkeypatch, capsys):
    import detect_tiles

    monkeypatch.setattr(sys, "argv", ["detect_tiles.py", str(tmp_path / "tiles.jpg")])
    detect_tiles.main()
    found = [int(count) for count in re.findall(r"(\d+) of 40 objects found", capsys.readouterr().out)]
    assert found[0] <= 1 and found[1] >= 36
    with PIL.Image.open(tmp_path / "tiles.jpg") as picture:
        assert picture.size == detect_tiles.SIZE


def test_objects_and_other_boxes_are_counted():
    import detect_tiles

    objects = {"boxes": torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]), "labels": torch.tensor([1, 1])}
    boxes = torch.tensor([[0.0, 0, 10, 9], [1, 0, 10, 10], [20, 20, 30, 24], [20, 20, 30, 30]])
    labels = torch.tensor([1, 1, 1, 2])
    found = ssd_fast.Detections(boxes[None], torch.ones(1, 4), labels[None], labels[None], torch.tensor([4]))
    assert detect_tiles.count(found, objects) == (1, 2)
