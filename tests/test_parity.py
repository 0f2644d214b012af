"""compare: what a report says of a patched model that agrees, and of one that does not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from checks import one_thread
from patch_models import images, tiny_ssd
from PIL import Image

import ssd_fast
from ssd_fast import ParityReport
from ssd_fast.compat.torchvision import postprocess


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


SIZES = ((64, 64), (50, 90), (120, 60), (64, 65), (30, 40))


def test_a_model_that_agrees_and_is_left_as_it_was():
    model = tiny_ssd().train()
    report = ssd_fast.compare(model, images(*SIZES), batch_size=2)
    assert report.agrees and report.images == 5 and report.unexplained == ()
    assert report.pairs == report.detections > 100
    assert 0 <= report.largest_score_difference <= 1e-6 and 0 < report.largest_box_difference <= 1e-4
    assert "5 images" in str(report) and "they agree" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["agrees"] is True
    assert model.training and "forward" not in model.__dict__
    ssd_fast.patch(model.eval())
    assert ssd_fast.compare(model, images(*SIZES)) == dataclasses.replace(report)
    assert not model.training and "forward" in model.__dict__


def test_images_of_every_kind(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    given = (tmp_path / "a.png", Image.fromarray(pixels), pixels, tensor, tensor[None], [tensor / 255])
    reports = [ssd_fast.compare(tiny_ssd(), image) for image in given]
    assert all(report == reports[0] for report in reports) and reports[0].images == 1


def test_a_wrong_postprocess_is_found_and_named(monkeypatch):
    original = postprocess.FusedPostprocess.__call__

    def wrong(self, *args):
        results = original(self, *args)
        results[-1]["scores"] = results[-1]["scores"] - torch.eye(len(results[-1]["scores"]))[0] * 1e-3
        return results

    monkeypatch.setattr(postprocess.FusedPostprocess, "__call__", wrong)
    report = ssd_fast.compare(tiny_ssd(), images(*SIZES), batch_size=2)
    assert not report.agrees and report.pairs < report.detections
    assert {line.split(":")[0] for line in report.unexplained} == {"image 1", "image 3", "image 4"}
    assert "differences have no explanation" in str(report) and "unexplained: image 1: actual[0]" in str(report)


def test_a_difference_at_a_border_is_excused(monkeypatch):
    """A detection whose score sits at the threshold may be there in one and not in the other."""
    model = tiny_ssd()
    (found,) = model(images((64, 64)))
    border = found["scores"][20].item()
    model.score_thresh = border
    original = postprocess.FusedPostprocess.__call__

    def with_the_border(self, *args):
        self.model.score_thresh = border - 1e-7
        results = original(self, *args)
        self.model.score_thresh = border
        return results

    monkeypatch.setattr(postprocess.FusedPostprocess, "__call__", with_the_border)
    report = ssd_fast.compare(model, images((64, 64)))
    assert report.agrees and len(report.excused) == 1
    assert "score at the threshold" in report.excused[0] and "explained by rounding: image 0" in str(report)


def test_modes_of_single_modules_are_left_as_they_were():
    model = tiny_ssd().train()
    model.backbone.eval()  # frozen, as in fine-tuning
    ssd_fast.compare(model, images((64, 64)))
    assert model.training and not model.backbone.training and not model.backbone.first.training


def test_nothing_compared_is_no_agreement():
    report = ParityReport(1, 136, 0, 0.0, 0.0, ("image 0: tie",) * 264, ())
    assert not report.agrees and not report.is_conclusive and "too many ties to tell" in str(report)


def test_long_reports_are_cut():
    report = ParityReport(1, 0, 0, 0.0, 0.0, (), tuple(f"image 0: {n}" for n in range(40)))
    assert "unexplained: and 30 more" in str(report) and "image 0: 11" not in str(report)


def test_wrong_arguments():
    for nothing in ([], torch.zeros(0, 3, 8, 8)):
        with pytest.raises(ValueError, match="expected at least one, got none"):
            ssd_fast.compare(tiny_ssd(), nothing)
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        ssd_fast.compare(tiny_ssd(), images((64, 64)), batch_size=0)
    with pytest.raises(TypeError, match="expected a torchvision SSD"):
        ssd_fast.compare(torch.nn.Linear(1, 1), images((64, 64)))
