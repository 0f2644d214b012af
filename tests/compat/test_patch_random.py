"""Random head outputs give the same detections, losses and gradients in torchvision's SSDs, patched and unpatched."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.ssd import SSD

from helpers.comparators import Candidates, assert_same_detections
from helpers.patch_models import MODELS, anchors_of, images, limits, make_torchvision_model
from ssd_fast.compat import patched

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=list(MODELS))
def known(request) -> tuple[SSD, tuple[int, ...], int]:
    return make_torchvision_model(request.param)


def any_of(generator: torch.Generator, *choices: float) -> float:
    return choices[int(torch.randint(len(choices), (1,), generator=generator))]


def random_heads(n: int, p: int, c: int, threshold: float, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw heads of n images: logits flat or sharp, classes equal or a few dominant, 0 to 6000 scores > threshold."""
    cls_logits = torch.empty(n, p, c)
    bbox_regression = torch.randn(n, p, 4, generator=generator)
    for logits, deltas in zip(cls_logits, bbox_regression, strict=True):
        logits.normal_(generator=generator).mul_(any_of(generator, 0.3, 2, 6))
        logits[:, 1:] += any_of(generator, 0, 3) * torch.randn(c - 1, generator=generator)
        seen = torch.randint(1, c, (p // 32 + 1,), generator=generator).repeat_interleave(32)[:p]
        logits[torch.arange(p), seen] += any_of(generator, 0, 6)  # neighbors see the same class, so that NMS has work
        foreground = logits[:, 1:].exp()
        # A class exceeds the threshold if the background's logit is below this value:
        below = (foreground / threshold - foreground.sum(1, keepdim=True)).clamp(min=1e-30).log() - logits[:, :1]
        candidates = int(any_of(generator, 0, 20, 100, 300, 300, 1000, 6000))
        logits[:, 0] += below.flatten().topk(candidates + 1).values[-2:].mean() + (candidates == 0)
        deltas *= any_of(generator, 0.3, 1, 4)
    return {"cls_logits": cls_logits, "bbox_regression": bbox_regression}


def random_sizes(n: int, side: int, generator: torch.Generator) -> list[tuple[int, int]]:
    return [tuple(x) for x in torch.randint(side // 3, side + 1, (n, 2), generator=generator).tolist()]


@pytest.mark.parametrize("columns", [21, 91])
@pytest.mark.parametrize(("n", "batches"), [(1, 50), (8, 25)])
def test_patched_models_agree_on_a_thousand_head_outputs(known, columns, n, batches):
    """The head outputs of 1000 images: 2 models x 2 numbers of columns x (50 batches of 1 image + 25 of 8).

    No network runs. Boxes are clipped to their image's window, which differs from image to image.
    """
    model, maps, side = known
    generator = torch.Generator().manual_seed(1000 * columns + n)
    anchors = anchors_of(model, maps, side, n)
    found, pairs, excused = [], 0, 0
    for _ in range(batches):
        heads = random_heads(n, len(anchors[0]), columns, model.score_thresh, generator)
        sizes = random_sizes(n, side, generator)
        expected = model.postprocess_detections(heads, anchors, sizes)
        with patched(model):
            actual = model.postprocess_detections(heads, anchors, sizes)
        candidates = Candidates(torch.stack(anchors), heads["cls_logits"].softmax(-1))
        comparison = assert_same_detections(actual, expected, limits(model, columns), candidates)
        found += [len(image["scores"]) for image in expected]
        pairs, excused = pairs + comparison.pairs, excused + len(comparison.excused)
    assert len(found) == n * batches
    assert min(found) == 0 and max(found) == model.detections_per_img and sum(found) > 80 * len(found), found
    assert pairs >= 0.999 * sum(found) and excused <= 0.002 * sum(found), (pairs, excused, sum(found))


class Maps(nn.Module):
    """A backbone that computes nothing and returns empty maps of the given sides."""

    def __init__(self, sides: Sequence[int]) -> None:
        super().__init__()
        self.sides = sides

    def forward(self, batch: Tensor) -> dict[str, Tensor]:
        return OrderedDict((str(side), batch.new_zeros(len(batch), 1, side, side)) for side in self.sides)


class Fed(nn.Module):
    """A head that returns its attribute `outputs`."""

    outputs: dict[str, Tensor]

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        return self.outputs


@pytest.mark.parametrize("columns", [21, 91])
@pytest.mark.parametrize("n", [1, 8])
def test_patched_calls_agree_in_eval_and_training(known, columns, n):
    """Call the model as a user does, with random heads, on two batches of images of different sizes."""
    original, maps, side = known
    model = SSD(Maps(maps), original.anchor_generator, (side, side), columns, head=Fed())
    generator = torch.Generator().manual_seed(columns + n)
    rows = len(anchors_of(model, maps, side, 1)[0])
    for _ in range(2):
        sizes = random_sizes(n, 150, generator)
        batch = images(*sizes)
        model.head.outputs = random_heads(n, rows, columns, model.score_thresh, generator)
        expected = model.eval()(batch)
        with patched(model):
            actual = model(batch)
        candidates = Candidates(torch.zeros(n, rows, 4), model.head.outputs["cls_logits"].softmax(-1))
        assert_same_detections(actual, expected, limits(model, columns), candidates)

        targets = [random_target(size, columns, generator) for size in sizes]
        expected, expected_grads = losses_and_gradients(model.train(), batch, targets)
        with patched(model):
            actual, grads = losses_and_gradients(model, batch, targets)
        assert actual == pytest.approx(expected, rel=1e-5) and min(actual.values()) > 0
        assert_same_gradients(grads, expected_grads, model.head.outputs["cls_logits"])


def random_target(size: tuple[int, int], columns: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw 1 to 20 ground truths for an image."""
    count, extent = int(torch.randint(1, 21, (1,), generator=generator)), torch.tensor(size[::-1])
    corners = 0.7 * extent * torch.rand(count, 2, generator=generator)
    sides = extent * (0.05 + 0.25 * torch.rand(count, 2, generator=generator))
    labels = torch.randint(1, columns, (count,), generator=generator)
    return {"boxes": torch.cat((corners, corners + sides), 1), "labels": labels}


def losses_and_gradients(
    model: SSD, batch: list[Tensor], targets: list[dict[str, Tensor]]
) -> tuple[dict[str, float], dict[str, Tensor]]:
    given = model.head.outputs
    model.head.outputs = {name: head.clone().requires_grad_() for name, head in given.items()}
    losses = model(batch, targets)
    (losses["bbox_regression"] + 3 * losses["classification"]).backward()
    grads = {name: head.grad for name, head in model.head.outputs.items()}
    model.head.outputs = given
    return {name: loss.item() for name, loss in losses.items()}, grads


def assert_same_gradients(actual: dict[str, Tensor], expected: dict[str, Tensor], cls_logits: Tensor) -> None:
    """Check for equal gradients, except at negatives equally hard up to rounding: either one may be mined."""
    different = {}
    for name, theirs in expected.items():
        tolerance = 1e-5 * float(theirs.abs().max()) + 1e-4 * theirs.abs()
        different[name] = ~((actual[name] - theirs).abs() <= tolerance).all(-1)
    assert not different["bbox_regression"].any()
    hardness = cls_logits.logsumexp(-1) - cls_logits[..., 0]
    for image, rows in enumerate(different["cls_logits"]):
        tied = hardness[image][rows]
        assert len(tied) != 1 and (not len(tied) or tied.max() - tied.min() < 1e-5 * tied.max()), (image, tied)
