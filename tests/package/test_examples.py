"""The examples do what they promise."""

import itertools
import sys

import pytest
import torch

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
