"""A format is one file and one line: a Format, and its entry in FORMATS."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from ssd_fast.datasets import list_splits, open_dataset
from ssd_fast.datasets.assembly import Format, RawImage, RawItem
from ssd_fast.datasets.files import find_splits
from ssd_fast.datasets.formats import FORMATS
from ssd_fast.ground_truth import GroundTruthWarning


def read_csv(
    file: Path, data: Any, split: str | None, images: Path | None, classes: tuple[str, ...] | None
) -> tuple[list[RawImage], tuple[str, ...]]:
    assert data is None, "it is not JSON"
    folder = file.parent if images is None else images
    raws: dict[str, RawImage] = {}
    for index, (name, label, *corners) in enumerate(csv.reader(file.read_text().splitlines())):
        raw = raws.setdefault(name, RawImage(file, name, folder / name, name))
        box = tuple(map(float, corners))
        raw.items.append(RawItem(index, f"line {index + 1}", label, box, box, False))
    return list(raws.values()), tuple(sorted({item.label for raw in raws.values() for item in raw.items}))


CSV = Format(
    folder_mark="boxes_*.csv",
    in_folder=lambda folder: bool(find_splits(folder, "boxes_", ".csv")),
    file=lambda folder, split: folder / f"boxes_{split}.csv",
    read=read_csv,
    splits=lambda path: find_splits(path, "boxes_", ".csv"),
)


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setitem(FORMATS, "csv", CSV)
    for name in ("a.png", "b.png"):
        PIL.Image.new("RGB", (40, 30)).save(tmp_path / name)
    (tmp_path / "boxes_train.csv").write_text("a.png,dog,1,2,11,12\nb.png,cat,3,4,13,14\na.png,cat,5,6,15,46\n")
    (tmp_path / "boxes_test.csv").write_text("b.png,cat,3,4,13,14\n")
    return tmp_path


@pytest.mark.parametrize("format", ["auto", "csv"])
def test_open_dataset_opens_registered_format(folder, format):
    assert list_splits(folder, format=format) == ["test", "train"]
    with pytest.warns(GroundTruthWarning, match="line 3"):
        data = open_dataset(folder, "train", format=format, policy="clip")
    assert data.classes == ("cat", "dog") and [sample.name for sample in data.samples] == ["a.png", "b.png"]
    assert data.samples[0].boxes.tolist() == [[1, 2, 11, 12], [5, 6, 15, 30]], "the policy is everyone's"
    assert data.samples[0].labels.tolist() == [2, 1]


def test_messages_list_registered_format(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r'annotations\.json \("folder"\) and boxes_\*\.csv \("csv"\), found none$'):
        open_dataset(tmp_path / "empty")
    with pytest.raises(ValueError, match="format: expected one of auto, voc, coco, folder, csv, got 'tsv'"):
        open_dataset(folder, format="tsv")
