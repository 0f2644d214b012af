"""compat.nvidia against NVIDIA's DeepLearningExamples, whose results are in tests/golden."""

from __future__ import annotations

import pytest
import torch

from helpers import adapter_inputs as inputs
from helpers import dialect_inputs
from helpers.adapter_checks import Original, assert_boxes, assert_losses
from helpers.checks import assert_same_bits, unmodified
from helpers.comparators import Candidates, Limits, assert_same_detections
from helpers.dialects import PORTS, detected
from ssd_fast import reference
from ssd_fast.compat.nvidia import DefaultBoxes, Encoder, Loss, dboxes300_coco
from ssd_fast.ground_truth import GroundTruthError

FIELDS = ("boxes", "labels", "scores")
SETTINGS = {"default": {}, "other": {"criteria": 0.7, "max_output": 1000}}


@pytest.fixture(scope="module")
def original() -> Original:
    return Original("nvidia")


def dboxes(**options) -> DefaultBoxes:
    return DefaultBoxes(300, inputs.MAPS, inputs.STEPS, inputs.SIZES, inputs.RATIOS, **options)


def heads() -> tuple[torch.Tensor, torch.Tensor]:
    """Return [N, 4, P] and [N, C, P] as transposed views, as a network's permutations give them."""
    return inputs.deltas().transpose(1, 2), inputs.logits().transpose(1, 2)


# ---- DefaultBoxes ---------------------------------------------------------------------------------------------------


def test_default_boxes_have_same_bits(original):
    boxes = dboxes()
    assert_same_bits(boxes(), original["ltrb"])
    assert_same_bits(boxes("ltrb"), original["ltrb"])
    assert_same_bits(boxes(order="xywh"), original["xywh"])
    assert (boxes.scale_xy, boxes.scale_wh) == (0.1, 0.2)
    with pytest.raises(ValueError, match="DefaultBoxes: order: expected 'ltrb' or 'xywh', got 'xyxy'"):
        boxes("xyxy")


def test_default_boxes_of_ssd300(original):
    for order in ("ltrb", "xywh"):
        assert dialect_inputs.digest(dboxes300_coco()(order).numpy()) == original[f"dboxes_{order}"]
    assert dboxes300_coco().spec.row_order == "AHW"


# ---- Encoder.encode -------------------------------------------------------------------------------------------------


def test_encode_equals_original(original):
    encoder = Encoder(dboxes())
    for n, (boxes, labels) in enumerate(inputs.ground_truth()):
        encoded, row_labels = encoder.encode(boxes, labels)
        assert row_labels.dtype == torch.int64 and (row_labels > 0).sum() >= 8
        assert_same_bits(row_labels, original[f"labels_{n}"])
        assert_same_bits(encoded, original[f"encoded_{n}"])


def test_encode_obeys_criteria(original):
    boxes, labels = inputs.ground_truth()[1]
    strict = Encoder(dboxes()).encode(boxes, labels, criteria=0.7)[1]
    assert_same_bits(strict, original["labels_strict"])
    assert (strict > 0).sum() < (original["labels_1"] > 0).sum()


class HalfBoxes:
    """Three default boxes; the first has an IoU of exactly 0.5 with the second and of 0.75 with the third."""

    scale_xy, scale_wh = 0.1, 0.2
    corners = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.25, 0.5], [0.0, 0.0, 0.5, 0.375]])

    def __call__(self, order):
        if order == "ltrb":
            return self.corners
        return torch.cat(
            ((self.corners[:, :2] + self.corners[:, 2:]) / 2, self.corners[:, 2:] - self.corners[:, :2]), 1
        )


def test_encode_excludes_iou_equal_to_criteria():
    labels = Encoder(HalfBoxes()).encode(HalfBoxes.corners[:1], torch.tensor([3]))[1]
    assert labels.tolist() == [3, 0, 3]  # the second box's IoU is 0.5


def test_encode_without_ground_truth_is_background(original):
    encoded, labels = Encoder(dboxes()).encode(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert not labels.any()
    assert_boxes(encoded, original["xywh"])


def test_encode_names_degenerate_box():
    boxes, labels = inputs.ground_truth()[0]
    boxes[4] = torch.tensor([0.5, 0.5, 0.4, 0.6])
    with pytest.raises(GroundTruthError, match=r"Encoder.encode: bboxes_in: ground truth 4 .*no width"):
        Encoder(dboxes()).encode(boxes, labels)


# ---- Encoder.decode_batch -------------------------------------------------------------------------------------------


def test_scale_back_batch_equals_original(original):
    given = heads()
    with unmodified(given):
        boxes, probs = Encoder(dboxes()).scale_back_batch(*given)
    assert_boxes(boxes, original["scaled_boxes"])
    torch.testing.assert_close(probs, original["scaled_probs"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("setting", SETTINGS)
def test_decode_batch_equals_original(original, setting, contiguous):
    """Each image gives a tuple of boxes, labels and scores, best last."""
    given = tuple(head.contiguous() for head in heads()) if contiguous else heads()
    with unmodified(given):
        found = Encoder(dboxes()).decode_batch(*given, **SETTINGS[setting])
    assert isinstance(found, list) and [len(image) for image in found] == [3, 3]
    for n, image in enumerate(found):
        boxes, labels, scores = (original[f"decoded_{field}_{setting}_{n}"] for field in FIELDS)
        assert len(scores) == 200 if setting == "default" else 200 < len(scores) < 1000
        assert scores.diff().min() > 0 and image[1].dtype == torch.int64
        assert_same_bits(image[1], labels)
        assert_boxes(image[0], boxes)
        torch.testing.assert_close(image[2], scores, rtol=1e-6, atol=1e-7)


def test_decode_single_equals_original(original):
    """Detections from given scores have the original's bits."""
    given = inputs.boxes()[0], inputs.scores()[0]
    with unmodified(given):
        found = Encoder(dboxes()).decode_single(*given, 0.45, 300, 60)
    assert len(found[0]) == len(original["single_boxes"]) > 100
    assert_same_bits(found, tuple(original[f"single_{field}"] for field in FIELDS))
    few = Encoder(dboxes()).decode_single(*given, 0.45, 5, 60)
    assert_same_bits(few, tuple(field[-5:] for field in found))


def test_decode_suppresses_iou_equal_to_criteria():
    """An IoU of exactly 0.5 is suppressed at 0.5 and kept at the next larger float32."""
    encoder = Encoder(HalfBoxes())
    logits = torch.tensor([[[0.0, 0.0, 9.0], [2.0, 1.0, 0.0]]])  # [1, C, P]; the third box is background
    probs = logits[0].T.softmax(-1)
    for criteria, kept in ((0.5, 1), (0.50000006, 2)):
        assert len(encoder.decode_batch(torch.zeros(1, 4, 3), logits, criteria)[0][2]) == kept
        assert len(encoder.decode_single(HalfBoxes.corners, probs, criteria, 10)[2]) == kept


def test_decode_takes_scores_above_five_percent():
    encoder = Encoder(HalfBoxes())
    probs = torch.tensor([[0.96, 0.04], [0.949, 0.051], [0.05, 0.95]])
    _, labels, scores = encoder.decode_single(HalfBoxes.corners, probs, 1.0, 10)
    assert scores.tolist() == pytest.approx([0.051, 0.95]) and labels.tolist() == [1, 1]
    found = encoder.decode_batch(torch.zeros(1, 4, 3), probs.log().T[None], 1.0)[0]
    assert found[2].tolist() == pytest.approx([0.051, 0.95])


def test_decode_equals_recording_of_ssd300():
    """Compare with the preset's recording: 8732 boxes, 81 columns, criteria 0.5."""
    dialect = next(d for d in PORTS if d.name == "nvidia_ssd300_coco")
    logits, deltas = dialect.head_outputs()
    images = Encoder(dboxes300_coco()).decode_batch(deltas.transpose(1, 2), logits.transpose(1, 2), 0.5, 200)
    found = [dict(zip(FIELDS, (x.flip(0) for x in image), strict=True)) for image in images]
    default_boxes = torch.from_numpy(dialect.golden["boxes_xyxy"].T.copy())
    candidates = Candidates(reference.decode_boxes(deltas, default_boxes, dialect.preset.coder), logits.softmax(-1))
    limits = Limits(0.05, 0.5, 200, 200, box=2e-5)
    assert len(assert_same_detections(found, detected(dialect.golden), limits, candidates).excused) <= 2


def test_decode_batch_without_detections():
    deltas, logits = heads()
    logits = logits.clone()
    logits[1, 0] = 100
    found = Encoder(dboxes()).decode_batch(deltas, logits)
    assert len(found[0][0]) == 200
    boxes, labels, scores = found[1]
    assert (boxes.shape, labels.shape, scores.shape) == ((0, 4), (0,), (0,)) and labels.dtype == torch.int64


def test_decode_batch_rejects():
    encoder = Encoder(dboxes())
    deltas, logits = heads()
    with pytest.raises(
        ValueError, match=r"Encoder.decode_batch: bboxes_in: expected shape \[N, 4, 790\], got \[2, 790"
    ):
        encoder.decode_batch(inputs.deltas(), inputs.logits())
    with pytest.raises(ValueError, match=r"scores_in: expected shape \[2, C, 790\]"):
        encoder.decode_batch(deltas, logits[:1])
    with pytest.raises(ValueError, match=r"criteria: expected a number in \(0, 1\], got 0"):
        encoder.decode_batch(deltas, logits, criteria=0)
    with pytest.raises(ValueError, match="max_output: expected an int >= 1, got 0"):
        encoder.decode_batch(deltas, logits, max_output=0)


# ---- Loss -----------------------------------------------------------------------------------------------------------


def test_loss_and_gradients_equal_original(original):
    gloc = torch.stack([original[f"encoded_{n}"] for n in range(2)]).transpose(1, 2)
    glabel = torch.stack([original[f"labels_{n}"] for n in range(2)])
    loss = Loss(dboxes())
    assert_losses(
        original, list(heads()), lambda ploc, plabel: [loss(ploc, plabel, gloc, glabel)], ("deltas", "logits")
    )


def test_loss_of_image_without_positives_is_zero(original):
    gloc = torch.stack([original[f"encoded_{n}"] for n in range(2)]).transpose(1, 2)
    glabel = torch.stack([original[f"labels_{n}"] for n in range(2)])
    both = [glabel.clone(), glabel.clone()]
    both[0][0], both[1][1] = 0, 0
    loss = Loss(dboxes())
    halves = [loss(*heads(), gloc, labels) for labels in both]
    torch.testing.assert_close(sum(halves), loss(*heads(), gloc, glabel))  # the mean is over all images in either case
    assert loss(*heads(), gloc, torch.zeros_like(glabel)) == 0


def test_loss_uses_variances_of_boxes(original):
    gloc = torch.stack([original[f"encoded_{n}"] for n in range(2)]).transpose(1, 2)
    glabel = torch.stack([original[f"labels_{n}"] for n in range(2)])
    losses = [float(Loss(dboxes(scale_xy=s))(*heads(), gloc, glabel)) for s in (0.1, 0.01)]
    assert losses[1] > 1.5 * losses[0]
    with pytest.raises(ValueError, match=r"Loss: glabel: expected shape \[2, 790\], got \[790\]"):
        Loss(dboxes())(*heads(), gloc, glabel[0])
