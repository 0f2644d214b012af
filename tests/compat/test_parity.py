"""compare: its reports on patched models that agree with the original, and on those that do not."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models.detection.ssd import SSD

import ssd_fast
from helpers.patch_models import COLUMNS, images, tiny_ssd
from ssd_fast import ParityReport
from ssd_fast.compat.torchvision import postprocess

pytestmark = pytest.mark.usefixtures("one_thread")


SIZES = ((64, 64), (50, 90), (120, 60), (64, 65), (30, 40))


def test_compare_reports_agreement_and_leaves_model_unchanged():
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


def test_compare_takes_every_kind_of_image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    given = (tmp_path / "a.png", Image.fromarray(pixels), pixels, tensor, tensor[None], [tensor / 255])
    reports = [ssd_fast.compare(tiny_ssd(), image) for image in given]
    assert all(report == reports[0] for report in reports) and reports[0].images == 1


def test_compare_names_images_with_wrong_detections(monkeypatch):
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


def test_compare_excuses_difference_at_threshold(monkeypatch):
    """A detection whose score is at the threshold may be in one result and not in the other."""
    model = tiny_ssd()
    (found,) = model(images((64, 64)))
    border = found["scores"][20].item()
    model.score_thresh = border
    original = postprocess.FusedPostprocess.__call__

    def with_border(self, *args):
        self.model.score_thresh = border - 1e-7
        results = original(self, *args)
        self.model.score_thresh = border
        return results

    monkeypatch.setattr(postprocess.FusedPostprocess, "__call__", with_border)
    report = ssd_fast.compare(model, images((64, 64)))
    assert report.agrees and len(report.excused) == 1
    assert "score at the threshold" in report.excused[0] and "explained by rounding: image 0" in str(report)


class Fixed(nn.Module):
    """Stands for a head or an anchor generator, with the same output for every image."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, *_: Any) -> Any:
        return self.output


def tiny_ssd_of(boxes: list[list[float]], scores: list[float]) -> SSD:
    """Make a model whose candidates in any image are these boxes, with these scores, all of class 1."""
    model, values = tiny_ssd(), torch.tensor(scores)
    logits = torch.full((1, len(boxes), COLUMNS), -200.0)
    logits[0, :, 0], logits[0, :, 1] = (1 - values).log(), values.log()
    model.head = Fixed({"cls_logits": logits, "bbox_regression": torch.zeros(1, len(boxes), 4)})
    model.anchor_generator = Fixed([torch.tensor(boxes)])
    return model


def with_fused_setting(monkeypatch, **settings: float) -> None:
    """Let the fused postprocess see other settings of the model than torchvision's and `compare` do."""
    original = postprocess.FusedPostprocess.__call__

    def changed(self, *args):
        with monkeypatch.context() as context:
            for name, value in settings.items():
                context.setattr(self.model, name, value)
            return original(self, *args)

    monkeypatch.setattr(postprocess.FusedPostprocess, "__call__", changed)


@pytest.mark.parametrize("share, agrees", [(0.8, True), (1.2, False)], ids=["inside", "outside"])
def test_iou_band_is_rounding_of_shifting_classes_apart(monkeypatch, share, agrees):
    """The original keeps one of two boxes, ssd_fast both: an IoU near the threshold explains it, to 4 ulp of 5 * 65."""
    by = share * 4 * 2.0**-15  # of the shortest side, 32
    model = tiny_ssd_of([[0.0, 0.0, 64.0, 64.0], [0.0, 0.0, 64.0, 32 + 2 * by]], [0.9, 0.8])
    model.nms_thresh = 0.5
    with_fused_setting(monkeypatch, nms_thresh=0.5 + by / 16)
    report = ssd_fast.compare(model, images((64, 64)))
    assert report.detections == report.pairs == 1
    assert report.agrees == agrees and len(report.excused) == agrees and len(report.unexplained) == (not agrees)


@pytest.mark.parametrize("scores, agrees", [([0.8, 0.5, 0.5], True), ([0.8, 0.5, 0.49], False)], ids=["tie", "no tie"])
def test_compare_excuses_tie_at_cut_of_topk_candidates(monkeypatch, scores, agrees):
    """The original takes two of three candidates, ssd_fast all three."""
    boxes = [[20.0 * i, 0.0, 20.0 * i + 16, 16.0] for i in range(3)]
    model = tiny_ssd_of(boxes, scores)
    model.topk_candidates = 2
    with_fused_setting(monkeypatch, topk_candidates=3)
    report = ssd_fast.compare(model, images((64, 64)))
    assert report.detections == report.pairs == 2 and report.agrees == agrees
    assert ["top_k" in line for line in report.excused] == [True] * agrees and len(report.unexplained) == (not agrees)


def test_compare_reports_more_detections_than_model_allows(monkeypatch):
    model = tiny_ssd()
    model.detections_per_img = 20
    with_fused_setting(monkeypatch, detections_per_img=100)
    report = ssd_fast.compare(model, images(*SIZES[:2]))
    assert report.pairs == report.detections == 40 and not report.agrees
    assert report.unexplained == tuple(f"image {n}: actual: 100 detections, keep_top_k is 20" for n in range(2))


def test_compare_keeps_modes_of_single_modules():
    model = tiny_ssd().train()
    model.backbone.eval()  # frozen, as in fine-tuning
    ssd_fast.compare(model, images((64, 64)))
    assert model.training and not model.backbone.training and not model.backbone.first.training


def test_report_of_nothing_compared_does_not_agree():
    report = ParityReport(1, 136, 0, 0.0, 0.0, ("image 0: tie",) * 264, ())
    assert not report.agrees and not report.is_conclusive and "too many ties to tell" in str(report)


def test_report_of_nothing_found_does_not_agree():
    model = tiny_ssd()
    model.score_thresh = 2.0
    report = ssd_fast.compare(model, images((64, 64)))
    assert report.detections == 0 and not report.agrees and not report.is_conclusive
    assert "there are no detections to compare; lower the model's score_thresh" in str(report)
    assert "they agree" not in str(report) and "no explanation" not in str(report)


def test_long_report_is_cut():
    report = ParityReport(1, 0, 0, 0.0, 0.0, (), tuple(f"image 0: {n}" for n in range(40)))
    assert "unexplained: and 30 more" in str(report) and "image 0: 11" not in str(report)


def test_compare_refuses_wrong_arguments():
    for nothing in ([], torch.zeros(0, 3, 8, 8)):
        with pytest.raises(ValueError, match="expected at least one image, got none"):
            ssd_fast.compare(tiny_ssd(), nothing)
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        ssd_fast.compare(tiny_ssd(), images((64, 64)), batch_size=0)
    with pytest.raises(TypeError, match=r"^compare: model: expected a torchvision SSD"):
        ssd_fast.compare(torch.nn.Linear(1, 1), images((64, 64)))
