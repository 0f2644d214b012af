"""The checks of torchvision's own SSD tests, written anew, on the model unpatched and patched.

In eval mode: the results of a call and its inputs after it, scripting, autocast, input gradients, default boxes of one
cell. In training: test_patch_training_like_torchvision.py.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

import ssd_fast
from helpers.checks import assert_same_bits
from helpers.comparators import assert_same_detections
from helpers.patch_models import (
    COLUMNS,
    MODELS,
    SIDE,
    TinyBackbone,
    anchors_of,
    assert_same_dicts,
    head_outputs,
    images,
    imitate_training,
    limits,
    make_torchvision_model,
    scripted,
    tiny_ssd,
)
from ssd_fast.compat import patch, unpatch

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=[unpatch, patch], ids=["torchvision", "patched"])
def treated(request) -> Callable[[SSD], SSD]:
    """Leave a model as it is, or patch it."""
    return request.param


@pytest.fixture(scope="module", params=list(MODELS))
def known(request) -> tuple[SSD, Tensor]:
    """A torchvision model, and an image in which it finds something."""
    model, _, side = make_torchvision_model(request.param)
    (image,) = images((side, side))
    imitate_training(model, [image])
    return model, image


def assert_detections(results: list[dict[str, Tensor]], sizes: list[tuple[int, int]], columns: int) -> None:
    """Check for one dict per image with consistent fields: boxes in the image, best first, labels of classes."""
    assert isinstance(results, list) and len(results) == len(sizes)
    for found, (height, width) in zip(results, sizes, strict=True):
        assert set(found) == {"boxes", "scores", "labels"}
        count = len(found["scores"])
        assert count > 10 and found["boxes"].shape == (count, 4)
        assert found["scores"].shape == found["labels"].shape == (count,) and found["labels"].dtype == torch.int64
        assert found["labels"].min() >= 1 and found["labels"].max() < columns
        assert (found["scores"].diff() <= 0).all() and found["scores"][-1] > 0 and found["scores"][0] <= 1
        x1, y1, x2, y2 = found["boxes"].unbind(1)
        assert (x1 >= 0).all() and (x1 <= x2).all() and (x2 <= width).all()
        assert (y1 >= 0).all() and (y1 <= y2).all() and (y2 <= height).all()


def test_call_returns_detections_and_leaves_inputs_alone(known, treated):
    model, image = known
    given = [image]
    before = image.clone()
    with torch.no_grad():
        results = treated(model)(given)
        again = model(given)
    assert len(given) == 1 and given[0] is image and torch.equal(image, before)
    assert_detections(results, [tuple(image.shape[-2:])], 91)
    assert_same_bits(again, results)
    targets = [{"boxes": torch.tensor([[1.0, 1, 9, 9]]), "labels": torch.tensor([1])}]  # ignored in eval mode
    with torch.no_grad():
        assert_same_bits(model(given, targets), results)


def test_images_may_have_different_sizes(treated):
    sizes = [(64, 64), (40, 90), (130, 33)]
    with torch.no_grad():
        assert_detections(treated(tiny_ssd())(images(*sizes)), sizes, COLUMNS)


@pytest.mark.filterwarnings("ignore:SSD always returns")
def test_scripted_saved_and_loaded_model_finds_same(known, treated):
    model, image = known
    with torch.no_grad():
        expected = treated(model)([image])
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates torch.jit
            torch.jit.save(scripted(model), file)
            file.seek(0)
            loaded = torch.jit.load(file)
        losses, found = loaded([image])
        assert losses == {}
        # A scripted model runs torchvision's postprocess, patched or not.
        assert_same_detections(expected, found, limits(model, 91))


def test_model_finds_detections_under_autocast(known, treated):
    model, image = known
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        results = treated(model)([image])
    assert_detections(results, [tuple(image.shape[-2:])], 91)


def test_scores_have_gradients_of_input(known, treated):
    """Scores have gradients with respect to the pixels, also in eval mode."""
    model, image = known
    image = image.clone().requires_grad_()
    (found,) = treated(model)([image])
    found["scores"].sum().backward()
    assert image.grad.isfinite().all() and image.grad.any()
    with torch.no_grad():
        (plain,) = model([image])
    assert not plain["scores"].requires_grad
    assert_same_dicts([{field: values.detach() for field, values in found.items()}], [plain])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("frozen", [None, "cls_logits", "bbox_regression"])
def test_gradients_of_detections_equal_torchvision(dtype, frozen):
    """The gradients are with respect to the heads, in their own dtype if patched and widened if not."""
    model = tiny_ssd()
    anchors, sizes = anchors_of(model, (8, 4), SIDE, 2), [(64, 64), (40, 50)]
    given = {name: head.to(dtype) for name, head in head_outputs(2, len(anchors[0]), COLUMNS, 3.0).items()}
    grads = []
    for treat in (unpatch, patch):
        heads = {name: head.clone() if treat is patch else head.float() for name, head in given.items()}
        leaves = [head.requires_grad_() for name, head in heads.items() if name != frozen]
        total = torch.zeros(())
        for found in treat(model).postprocess_detections(heads, anchors, sizes):
            assert len(found["scores"]) > 20 and (found["boxes"] == 0).any()  # a clipped corner has no gradient
            scores, boxes = found["scores"], found["boxes"]
            total = total + (scores * found["labels"]).sum() + (boxes * boxes.detach().sin()).sum()
        grads.append(torch.autograd.grad(total, leaves))
    rounding = 1e-5 if dtype == torch.float32 else 2**-8
    for theirs, ours in zip(*grads, strict=True):
        assert theirs.any() and ours.dtype == dtype
        torch.testing.assert_close(ours.float(), theirs, rtol=rounding, atol=rounding * float(theirs.abs().max()))


def test_default_boxes_of_one_cell_by_hand(treated):
    """In 15 pixels: squares of 0.15 and sqrt(0.15 * 0.9), and two boxes of the first one's area, 2:1 and 1:2."""
    generator = DefaultBoxGenerator([[2]])
    batch = ImageList(torch.zeros(2, 3, 15, 15), [(15, 15)] * 2)
    boxes = treated(SSD(TinyBackbone(), generator, (15, 15), COLUMNS, head=nn.Identity())).anchor_generator(
        batch, [torch.zeros(2, 8, 1, 1)]
    )
    first, second, root = 15 * 0.15, 15 * math.sqrt(0.15 * 0.9), math.sqrt(2)
    sizes = ((first, first), (second, second), (first * root, first / root), (first / root, first * root))
    expected = torch.tensor([(7.5 - w / 2, 7.5 - h / 2, 7.5 + w / 2, 7.5 + h / 2) for w, h in sizes])
    ours = ssd_fast.default_boxes(ssd_fast.DefaultBoxSpec((15, 15), ((1, 1),), (sizes,)))
    for actual in (*boxes, ours):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-8)
    assert len(boxes) == 2
