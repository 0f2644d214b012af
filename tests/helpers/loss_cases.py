"""Cases for the tests of the MultiBox loss, hand-worked and random, and their comparison with the reference."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

import ssd_fast
from helpers import inputs
from helpers.backends import Backend
from helpers.checks import specified, unmodified
from ssd_fast.specs import BoxCoderSpec, LossSpec

CPU = Backend("cpu", torch.device("cpu"))
LN2 = math.log(2)
PLAIN = inputs.CODER
CODERS = {"plain": inputs.CODER, "yx": BoxCoderSpec((0.125, 0.1, 0.25, 0.2), order="yx")}
SPECS = {
    "plain": LossSpec(),
    "last": LossSpec(background=-1, beta=0.5),
    "third": LossSpec(background=2, negatives_per_positive=1.5, beta=1 / 9),
    "l1": LossSpec(beta=0.0, min_negatives=7),
    "images": LossSpec(normalizer="positives_per_image", min_negatives=5),
    "max-one": LossSpec(normalizer="sum_max_one", min_negatives=3, negatives_per_positive=0.5),
    "no-negatives": LossSpec(negatives_per_positive=0.0),
    "all-negatives": LossSpec(negatives_per_positive=1e9),
}
FOCAL_SPECS = {
    "tensorflow": LossSpec(classification="focal"),
    "retinanet": LossSpec(classification="focal", background=None, beta=0.1),
    "last": LossSpec(classification="focal", background=-1, focal_gamma=1.5),
    "unweighted": LossSpec(classification="focal", background=1, focal_alpha=None, normalizer="sum_max_one"),
    "plain": LossSpec(classification="focal", background=None, focal_alpha=None, focal_gamma=0.0),
    "images": LossSpec(classification="focal", background=None, focal_alpha=0.7, normalizer="positives_per_image"),
    "steep": LossSpec(classification="focal", background=2, focal_alpha=0.999, focal_gamma=40.0),
}


class Case(NamedTuple):
    """The positional arguments of multibox_loss."""

    cls_logits: Tensor
    bbox_regression: Tensor
    gt_boxes: Any
    gt_labels: Any
    matched_idxs: Tensor
    default_boxes: Tensor

    def packed(self) -> Case:
        sizes = torch.tensor([0, *map(len, self.gt_boxes)])
        boxes = torch.cat([torch.empty(0, 4), *self.gt_boxes])
        labels = torch.cat([torch.empty(0, dtype=torch.int64), *self.gt_labels])
        return self._replace(gt_boxes=(boxes, sizes.cumsum(0)), gt_labels=labels)

    def to(self, dtype: torch.dtype) -> Case:
        """Return the case with head outputs in the dtype."""
        return self._replace(cls_logits=self.cls_logits.to(dtype), bbox_regression=self.bbox_regression.to(dtype))


def random_case(
    seed: int,
    *,
    images: int = 3,
    rows: int = 101,
    columns: int = 5,
    background: int | None = 0,
    one_in: int = 12,
    scale: float = 2.0,
) -> Case:
    """Draw heads; one default box in `one_in` is positive, as many are ignored; the first image has no objects."""
    sizes = [n * (seed % 3 + 1) for n in range(images)]
    gt_boxes = [inputs.boxes(seed + n, size) for n, size in enumerate(sizes)]
    first = 0 if background is None else 1
    labels = [inputs.integers(seed + n, first, max(columns, 1 + first), size) for n, size in enumerate(sizes)]
    if background is not None and background % columns:
        labels = [torch.where(label == background % columns, 0, label) for label in labels]
    matched = torch.full((images, rows), -1)
    kind = inputs.integers(seed, 0, one_in, images, rows)
    for n, size in enumerate(sizes):
        if size:
            matched[n] = torch.where(kind[n] == 0, inputs.integers(seed + n, 0, size, rows), matched[n])
    matched[kind == 1] = -2
    logits = inputs.bell(seed + 1, images, rows, columns) * scale
    if background is not None:
        logits[..., background] += 2.0
    return Case(logits, inputs.bell(seed + 2, images, rows, 4), gt_boxes, labels, matched, inputs.boxes(seed + 3, rows))


def cross_entropy(case: Case, background: int) -> Tensor:
    """Return [N, P] in float64, of each row for the background column, by a separate formula."""
    return -case.cls_logits.double().log_softmax(-1)[..., background]


def near_the_border(case: Case, loss: LossSpec) -> Tensor:
    """Return bool [N, P]: background rows so close to the last mined one that rounding decides which are mined."""
    near = torch.zeros(case.matched_idxs.shape, dtype=torch.bool)
    if loss.classification == "focal":
        return near  # the focal loss mines nothing
    losses = cross_entropy(case, loss.background)
    for n, matched in enumerate(case.matched_idxs):
        wanted = max(int(loss.negatives_per_positive * int((matched >= 0).sum())), loss.min_negatives)
        order = losses[n].masked_fill(matched != -1, -1).sort(descending=True).values
        if 0 < wanted < int((matched == -1).sum()) and order[wanted - 1] - order[wanted] < 1e-5:
            near[n] = (matched == -1) & ((losses[n] - order[wanted]).abs() < 2e-5)
    return near


# ---- by hand --------------------------------------------------------------------------------------------------------


class Hand(NamedTuple):
    loss: LossSpec
    regression: float
    classification: float  # in units of ln 2
    mined: list[list[int]]  # of each image


def hand_case(coder: BoxCoderSpec, background: int = 0) -> Case:
    """Make three images with 6 default boxes and 3 columns; cross-entropies are multiples of ln 2.

    Image 0: row 0 positive, 3 ignored. Its offsets are 1/2 and 2 away from the target. Image 1: all background. Image
    2: rows 0 and 1 positive, 5 background, the others ignored; its offsets are 0 and 2 away.
    """
    half, quarter, eighth = (0.5, 0.25, 0.25), (0.25, 0.25, 0.5), (0.125, 0.625, 0.25)
    shares = [
        [quarter, eighth, half, (2**-9, 0.5, 0.5 - 2**-9), half, quarter],  # background rows: 3, 1, -, 1, 2
        [half, half, quarter, half, half, half],
        [(0.25, 0.5, 0.25), (0.25, 0.25, 0.5), *[eighth] * 4],
    ]
    logits = torch.tensor(shares).log().roll(background, -1) + torch.tensor([[[3.0]], [[-200.0]], [[0.0]]])
    deltas = torch.zeros(3, 6, 4)
    deltas[0, 0] = torch.tensor([1.5, -1, 0, 2])
    deltas[2, 0, 0] = -2
    deltas[:, 5] = 100
    if coder.order == "yx":
        deltas = deltas[..., [1, 0, 3, 2]]
    default_boxes = torch.tensor([[10.0, 20, 30, 60]]).repeat(6, 1)
    # The offsets of (12, 16, 32, 56) are (1, -1, 0, 0).
    gt_boxes = [torch.tensor([[0.0, 0, 1, 1], [12, 16, 32, 56]]), torch.empty(0, 4), default_boxes[:2]]
    labels = [torch.tensor([1, 2]), torch.empty(0, dtype=torch.int64), torch.tensor([2, 1])]
    matched = torch.tensor([[1, -1, -1, -2, -1, -1], [-1] * 6, [1, 0, -2, -2, -2, -1]])
    columns = logits.shape[-1]
    return Case(logits, deltas, gt_boxes, [(x + background) % columns for x in labels], matched, default_boxes)


HANDS = {
    "plain": Hand(LossSpec(), 3.125 / 3, 12 / 3, [[1, 2, 5], [], [5]]),  # rows 2 and 4 are equal: the lower one
    "ratio-1": Hand(LossSpec(negatives_per_positive=1.0), 3.125 / 3, 9 / 3, [[1], [], [5]]),
    "ratio-1.9": Hand(LossSpec(negatives_per_positive=1.9), 3.125 / 3, 9 / 3, [[1], [], [5]]),
    "ratio-0": Hand(LossSpec(negatives_per_positive=0.0), 3.125 / 3, 3 / 3, [[], [], []]),
    "ratio-100": Hand(LossSpec(negatives_per_positive=100.0), 3.125 / 3, 13 / 3, [[1, 2, 4, 5], [], [5]]),
    "two-at-least": Hand(
        LossSpec(negatives_per_positive=0.0, min_negatives=2), 3.125 / 3, (6 + 3 + 5) / 3, [[1, 5], [0, 2], [5]]
    ),
    "l1": Hand(LossSpec(beta=0.0), 4.5 / 3, 12 / 3, [[1, 2, 5], [], [5]]),
    "beta-half": Hand(LossSpec(beta=0.5), 3.75 / 3, 12 / 3, [[1, 2, 5], [], [5]]),
    "beta-4": Hand(LossSpec(beta=4.0), (0.53125 + 0.5) / 3, 12 / 3, [[1, 2, 5], [], [5]]),
    "images": Hand(LossSpec(normalizer="positives_per_image"), 2.375 / 3, 9.5 / 3, [[1, 2, 5], [], [5]]),
    # Without positives an image contributes nothing, not even the rows that min_negatives requires.
    "images-two-at-least": Hand(
        LossSpec(normalizer="positives_per_image", min_negatives=2), 2.375 / 3, 9.5 / 3, [[1, 2, 5], [], [5]]
    ),
    "max-one": Hand(LossSpec(normalizer="sum_max_one"), 3.125 / 4, 12 / 4, [[1, 2, 5], [], [5]]),
    "max-one-two-at-least": Hand(
        LossSpec(normalizer="sum_max_one", min_negatives=2), 3.125 / 4, (12 + 3) / 4, [[1, 2, 5], [0, 2], [5]]
    ),
}


class FocalHand(NamedTuple):
    """The probabilities that the logits of focal_hand_case give to the truth about their column, by column."""

    background: int | None
    positive: list[float]  # row 0, with target column 1
    negative: list[float]  # row 1
    other_positive: list[float]  # row 3, with target column 2


FOCAL_HANDS = {
    "no-background": FocalHand(None, [1 / 2, 3 / 4, 3 / 4], [1 / 4, 1 / 2, 7 / 8], [1 / 2, 1 / 8, 1 / 2]),
    "background-0": FocalHand(0, [1 / 2, 3 / 4, 3 / 4], [3 / 4, 1 / 2, 7 / 8], [1 / 2, 1 / 8, 1 / 2]),
}


def focal_hand_case() -> Case:
    """Make an image with 4 default boxes and 3 columns: rows with label 1, background, ignored, and label 2."""
    shares = torch.tensor([[1 / 2, 3 / 4, 1 / 4], [3 / 4, 1 / 2, 1 / 8], [0.9, 0.9, 0.9], [1 / 2, 7 / 8, 1 / 2]])
    default_boxes = torch.tensor([[10.0, 20, 30, 60]]).repeat(4, 1)
    deltas = torch.zeros(1, 4, 4)
    deltas[0, 3, 2] = 1.5  # a smooth L1 of 1
    labels, matched = torch.tensor([2, 1]), torch.tensor([[1, -1, -2, 0]])
    return Case((shares / (1 - shares)).log()[None], deltas, [default_boxes[:2]], [labels], matched, default_boxes)


HAND_NORMALIZERS = {"positives": [3.0] * 3, "positives_per_image": [3.0, 3.0, 6.0], "sum_max_one": [4.0] * 3}

# ---- against the reference ------------------------------------------------------------------------------------------

NAMES = ("bbox_regression", "classification")
# By the inputs' dtype: one rounding, after float32's.
GRADIENT_RTOL = {torch.float32: 1e-4, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}


class _Saved(TorchDispatchMode):
    """Records the tensors that the forward op saves for the backward."""

    def __init__(self):
        super().__init__()
        self.outputs: tuple[Tensor, ...] = ()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.ssd_fast.multibox_loss_forward.default:
            self.outputs = result[1:]
        return result


def leaf(case):
    return case._replace(
        cls_logits=case.cls_logits.detach().clone().requires_grad_(),
        bbox_regression=case.bbox_regression.detach().clone().requires_grad_(),
    )


def run(backend, case, loss=None, coder=PLAIN, weights=(1.0, 1.0)):
    """Return the losses, the gradients of their weighted sum, and the tensors saved by the forward op, on the CPU."""
    case = leaf(tree_map_only(torch.Tensor, backend.to, case))
    with unmodified(case), _Saved() as saved:
        losses = ssd_fast.multibox_loss(*case, coder=coder, loss=loss or LossSpec())
        assert tuple(losses) == NAMES
        (weights[0] * losses["bbox_regression"] + weights[1] * losses["classification"]).backward()
    for value in losses.values():
        assert value.shape == () and value.dtype == torch.float32 and value.device == case.cls_logits.device
    gradients = case.cls_logits.grad, case.bbox_regression.grad
    assert all(x.grad.dtype == x.dtype and x.grad.shape == x.shape for x in case[:2])
    return tree_map_only(torch.Tensor, lambda x: x.detach().cpu(), (losses, gradients, saved.outputs))


def expected(case, loss=None, coder=PLAIN, weights=(1.0, 1.0)):
    case = leaf(case)
    losses = specified("multibox_loss", *case, coder=coder, loss=loss or LossSpec())
    (weights[0] * losses["bbox_regression"] + weights[1] * losses["classification"]).backward()
    return {name: value.detach() for name, value in losses.items()}, (case.cls_logits.grad, case.bbox_regression.grad)


def check(backend, case, loss=None, coder=PLAIN, weights=(1.0, 1.0)):
    """Compare with the reference, without rows so close to the last mined one that rounding decides."""
    losses, gradients, saved = run(backend, case, loss, coder, weights)
    their_losses, their_gradients = expected(case, loss, coder, weights)
    for name in NAMES:
        torch.testing.assert_close(losses[name], their_losses[name], rtol=1e-5, atol=1e-7, equal_nan=True)
    certain = ~near_the_border(case, loss or LossSpec())
    assert (~certain).sum() <= 0.02 * certain.numel() + 2
    for ours, theirs in zip(gradients, their_gradients, strict=True):
        rtol = GRADIENT_RTOL[ours.dtype]
        torch.testing.assert_close(ours[certain], theirs[certain], rtol=rtol, atol=1e-7, equal_nan=True)
    return losses, gradients, saved
