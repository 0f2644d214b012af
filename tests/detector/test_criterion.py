"""SSDCriterion: match and multibox_loss together, and its policies for faulty ground truth."""

import dataclasses
import math
import warnings

import pytest
import torch
from torch import distributed, multiprocessing

import ssd_fast
from ssd_fast import BoxCoderSpec, LossSpec, MatcherSpec, SSDCriterion
from ssd_fast.ground_truth import GroundTruthError, GroundTruthWarning

PRESET = ssd_fast.preset("torchvision_ssd300_vgg16")
NUM_COLUMNS = 5
NORMALIZERS = ("positives", "positives_per_image", "sum_max_one")


def heads(images, seed=0, rows=8732):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, rows, NUM_COLUMNS, generator=generator)
    return logits.requires_grad_(), torch.randn(images, rows, 4, generator=generator).requires_grad_()


def scenes(sizes, seed=0):
    """Draw boxes in images of 300 pixels, and labels from 1 up: one pair per image."""
    generator = torch.Generator().manual_seed(seed)
    boxes, labels = [], []
    for size in sizes:
        corner = torch.rand(size, 2, generator=generator) * 200
        sides = 20 + torch.rand(size, 2, generator=generator) * 80
        boxes.append(torch.cat((corner, corner + sides), 1))
        labels.append(torch.randint(1, NUM_COLUMNS, (size,), generator=generator))
    return boxes, labels


def values(losses):
    return {name: value.item() for name, value in losses.items()}


def test_criterion_is_match_and_multibox_loss():
    boxes, labels = scenes((3, 0, 7))
    logits, deltas = heads(3)
    criterion = SSDCriterion.from_preset(PRESET)
    losses = criterion(logits, deltas, boxes, labels)
    default_boxes = ssd_fast.default_boxes(PRESET.default_boxes)
    matched = ssd_fast.match(boxes, default_boxes, PRESET.matcher)
    expected = ssd_fast.multibox_loss(
        logits, deltas, boxes, labels, matched, default_boxes, coder=PRESET.coder, loss=PRESET.loss
    )
    assert values(losses) == values(expected) and min(values(losses).values()) > 0
    offsets = torch.tensor([0, 3, 3, 10])
    assert values(criterion(logits, deltas, (torch.cat(boxes), offsets), torch.cat(labels))) == values(losses)
    sum(losses.values()).backward()
    assert logits.grad.abs().sum() > 0 and deltas.grad.abs().sum() > 0
    assert not list(criterion.parameters()) and not criterion.state_dict()
    assert "8732 default boxes" in repr(criterion)


def test_loss_of_batch_without_ground_truth_is_zero():
    criterion = SSDCriterion.from_preset(PRESET)
    boxes, labels = scenes((0, 0))
    assert values(criterion(*heads(2), boxes, labels)) == {"bbox_regression": 0, "classification": 0}
    assert values(criterion(*heads(0), [], [])) == {"bbox_regression": 0, "classification": 0}


def with_fault(box=(10, 10, 10, 50), label=1):
    boxes, labels = scenes((2, 3, 4))
    boxes[1] = torch.cat((boxes[1][:1], torch.tensor([box], dtype=torch.float32), boxes[1][1:]))
    labels[1] = torch.cat((labels[1][:1], torch.tensor([label]), labels[1][1:]))
    return boxes, labels


@pytest.mark.parametrize(
    "box, label, reason",
    [
        ((10, 10, 10, 50), 1, "no width"),
        ((10, math.nan, 20, 50), 1, "not finite"),
        ((10, 10, 400, 50), 1, "reaches out of the image, which is 300 wide"),
        ((10, 10, 40, 50), NUM_COLUMNS, r"the label is not in \[0, 5\)"),
        ((10, 10, 40, 50), 0, "the label is the background's"),
    ],
)
def test_criterion_names_fault_before_it_becomes_nan(box, label, reason):
    boxes, labels = with_fault(box, label)
    criterion = SSDCriterion.from_preset(PRESET)
    for ground_truth in ((boxes, labels), ((torch.cat(boxes), torch.tensor([0, 2, 6, 10])), torch.cat(labels))):
        with pytest.raises(GroundTruthError, match=rf"image 1 of the batch: ground truth 1 \[10, .*{reason}"):
            criterion(*heads(3), *ground_truth)


def test_drop_gives_loss_of_the_rest():
    clean_boxes, clean_labels = scenes((2, 3, 4))
    boxes, labels = with_fault()
    criterion = SSDCriterion.from_preset(PRESET, policy="drop")
    expected = criterion(*heads(3), clean_boxes, clean_labels)
    with pytest.warns(GroundTruthWarning, match=r"image 1 of the batch: ground truth 1 .*no width.*\(left out\)"):
        assert values(criterion(*heads(3), boxes, labels)) == values(expected)


def test_clip_cuts_boxes_at_image():
    boxes, labels = with_fault((100, 100, 400, 250))
    clipped, _ = with_fault((100, 100, 300, 250))
    criterion = SSDCriterion.from_preset(PRESET, policy="clip")
    with pytest.warns(GroundTruthWarning, match="clipped or left out"):
        losses = criterion(*heads(3), boxes, labels)
    assert values(losses) == values(criterion(*heads(3), clipped, labels))


def test_normalized_boxes_have_slack_of_a_pixel():
    """A pixel is 1/300: a box that reaches out by half a pixel passes, one that reaches out by two is named."""
    preset = ssd_fast.preset("caffe_ssd300_voc")
    criterion = SSDCriterion.from_preset(preset)
    rows = preset.default_boxes.num_boxes
    criterion(*heads(1, rows=rows), [torch.tensor([[0.5, 0.5, 1 + 0.5 / 300, 1]])], [torch.tensor([1])])
    with pytest.raises(GroundTruthError, match="reaches out"):
        criterion(*heads(1, rows=rows), [torch.tensor([[0.5, 0.5, 1 + 2 / 300, 1]])], [torch.tensor([1])])


def test_background_may_be_last():
    preset = dataclasses.replace(PRESET, loss=LossSpec(background=-1))
    criterion = SSDCriterion.from_preset(preset)
    boxes = [torch.tensor([[10.0, 10, 90, 90]])]
    assert values(criterion(*heads(1), boxes, [torch.tensor([0])]))["classification"] > 0
    with pytest.raises(GroundTruthError, match="background"):
        criterion(*heads(1), boxes, [torch.tensor([NUM_COLUMNS - 1])])


def test_policy_none_checks_nothing():
    boxes, labels = with_fault((10, 10, 40, 50), 99)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = SSDCriterion.from_preset(PRESET, policy=None)(*heads(3), boxes, labels)
    assert math.isfinite(values(losses)["classification"])


def test_select_gives_matches_and_hard_negatives():
    boxes, labels = scenes((3, 0, 7))
    logits, deltas = heads(3)
    criterion = SSDCriterion.from_preset(PRESET)
    matched, mined = criterion.select(logits, deltas, boxes, labels)
    assert torch.equal(matched, ssd_fast.match(boxes, criterion.default_boxes, PRESET.matcher))
    positives = (matched >= 0).sum(1)
    assert mined.dtype == torch.bool and mined.sum(1).tolist() == (3 * positives).tolist()
    for n in range(3):
        losses = torch.nn.functional.cross_entropy(logits[n], torch.zeros(8732, dtype=torch.int64), reduction="none")
        losses[matched[n] >= 0] = -1
        assert set(losses.topk(int(mined[n].sum())).indices.tolist()) == set(mined[n].nonzero()[:, 0].tolist())
    assert not mined.requires_grad


def test_ignored_ground_truths_are_neither_positive_nor_background():
    boxes = [torch.tensor([[40.0, 40, 120, 120], [150, 150, 260, 260]])]
    labels, ignored = [torch.tensor([1, 2])], [torch.tensor([False, True])]
    criterion = SSDCriterion.from_preset(PRESET)
    matched, mined = criterion.select(*heads(1), boxes, labels, ignored)
    assert set(matched.unique().tolist()) == {-2, -1, 0} and not (mined & (matched == -2)).any()
    packed = (boxes[0], torch.tensor([0, 2]))
    losses = criterion(*heads(1), boxes, labels, ignored)
    assert values(losses) == values(criterion(*heads(1), packed, labels[0], ignored[0]))
    assert values(losses) != values(criterion(*heads(1), boxes, labels))
    assert values(losses)["bbox_regression"] == pytest.approx(
        values(criterion(*heads(1), [boxes[0][:1]], [labels[0][:1]]))["bbox_regression"]
    )


def test_flags_stay_with_boxes_when_some_are_dropped():
    boxes, labels = with_fault()
    ignored = [torch.zeros(len(image), dtype=torch.bool) for image in boxes]
    ignored[1][2] = True  # behind the faulty one
    clean = [torch.cat((values[:1], values[2:])) for values in (boxes[1], labels[1], ignored[1])]
    criterion = SSDCriterion.from_preset(PRESET, policy="drop")
    with pytest.warns(GroundTruthWarning):
        losses = criterion(*heads(3), boxes, labels, ignored)
    boxes[1], labels[1], ignored[1] = clean
    assert values(losses) == values(criterion(*heads(3), boxes, labels, ignored))


def test_criterion_computes_focal_loss():
    boxes, labels = scenes((3, 0, 7))
    loss = LossSpec(classification="focal", background=None)
    criterion = SSDCriterion.from_preset(dataclasses.replace(PRESET, loss=loss))
    labels[0][0] = 0  # without background, column 0 is a class like any other
    losses = values(criterion(*heads(3), boxes, labels))
    assert losses["classification"] > 0
    with pytest.raises(GroundTruthError, match="the label is not in"):
        criterion(*heads(3), boxes, [labels[0] - 1, *labels[1:]])


def test_default_boxes_stay_exact_in_network_of_other_dtype():
    criterion = SSDCriterion.from_preset(PRESET)
    exact = criterion.default_boxes.clone()
    network = torch.nn.ModuleList([criterion, torch.nn.Linear(1, 1)]).half()
    assert network[1].weight.dtype == torch.float16
    assert criterion.default_boxes.dtype == torch.float32 and torch.equal(criterion.default_boxes, exact)
    assert "default_boxes" in dict(criterion.named_buffers()) and not criterion.state_dict()


def test_criterion_refuses_wrong_arguments():
    spec, coder, matcher, loss = PRESET.default_boxes, BoxCoderSpec(), MatcherSpec(), LossSpec()
    with pytest.raises(TypeError, match="matcher: expected a MatcherSpec, got LossSpec"):
        SSDCriterion(spec, coder, loss, matcher)
    with pytest.raises(ValueError, match=r"policy: expected .*got 'ignore'"):
        SSDCriterion(spec, coder, matcher, loss, policy="ignore")
    with pytest.raises(ValueError, match="tf_ssdlite_mobilenet_v2 has no loss"):
        SSDCriterion.from_preset(ssd_fast.preset("tf_ssdlite_mobilenet_v2"))
    criterion = SSDCriterion(spec, coder, matcher, loss)
    boxes, labels = scenes((2, 3))
    with pytest.raises(ValueError, match=r"SSDCriterion: gt_labels\[0\]: expected shape \[2\], got \[3\]"):
        criterion(*heads(2), boxes, labels[::-1])
    with pytest.raises(ValueError, match=r"gt_labels: expected shape \[5\], got \[3\]"):
        criterion(*heads(2), (torch.cat(boxes), torch.tensor([0, 2, 5])), labels[1])


def _process(rank, store, normalizer, results):
    """Run one of two processes, each with two images; one image has no ground truth."""
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    boxes, labels = scenes((3, 0, 9, 1))
    logits, deltas = heads(4)
    own = slice(0, 2) if rank == 0 else slice(2, 4)
    preset = dataclasses.replace(PRESET, loss=LossSpec(normalizer=normalizer))
    criterion = SSDCriterion.from_preset(preset, reduce_positives=True)
    sum(criterion(logits[own], deltas[own], boxes[own], labels[own]).values()).backward()
    for gradient in (logits.grad, deltas.grad):  # as DistributedDataParallel averages
        distributed.all_reduce(gradient)
        gradient /= 2
    if rank == 0:
        results.put([gradient.numpy().tolist() for gradient in (logits.grad[:, ::97], deltas.grad[:, ::7])])
    distributed.destroy_process_group()


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_two_processes_have_gradients_of_one(normalizer, tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch.distributed", "ssd_fast"])  # imported once, not by each process
    results = context.Queue()
    workers = [
        context.Process(target=_process, args=(rank, tmp_path / "store", normalizer, results)) for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    gradients = [torch.tensor(gradient) for gradient in results.get(timeout=120)]
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0

    boxes, labels = scenes((3, 0, 9, 1))
    logits, deltas = heads(4)
    preset = dataclasses.replace(PRESET, loss=LossSpec(normalizer=normalizer))
    sum(SSDCriterion.from_preset(preset)(logits, deltas, boxes, labels).values()).backward()
    for given, expected in zip(gradients, (logits.grad[:, ::97], deltas.grad[:, ::7]), strict=True):
        assert expected.abs().max() > 0
        torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-9)


def test_reduce_positives_changes_nothing_in_one_process():
    boxes, labels = scenes((3, 2))
    losses = [
        SSDCriterion.from_preset(PRESET, reduce_positives=flag)(*heads(2), boxes, labels) for flag in (False, True)
    ]
    assert values(losses[0]) == values(losses[1])


def test_criterion_refuses_heads_that_do_not_fit_ground_truth():
    criterion = SSDCriterion.from_preset(PRESET)
    (logits, deltas), (boxes, labels) = heads(1), scenes((2,))
    swapped = r"got \[1, 8732, 5\] \(are cls_logits and bbox_regression swapped\?\)"
    refused = [
        ((deltas, logits, boxes, labels), rf"bbox_regression: expected shape \[1, 8732, 4\], {swapped}"),
        ((logits, deltas[:, :9], boxes, labels), r"bbox_regression: expected shape \[1, 8732, 4\], got \[1, 9, 4\]"),
        ((logits[:, :9], deltas, boxes, labels), r"cls_logits: expected shape \[any, 8732, any\], got \[1, 9, 5\]"),
        ((logits[0], deltas[0], boxes, labels), r"cls_logits: expected shape \[any, 8732, any\], got \[8732, 5\]"),
        ((logits, deltas, boxes * 2, labels * 2), "gt_boxes: expected 1 image, as cls_logits has, got 2"),
        ((logits, deltas, [], []), "gt_boxes: expected 1 image, as cls_logits has, got 0"),
        ((*heads(2), (boxes[0], torch.tensor([0, 2])), labels[0]), "gt_boxes: expected 2 images, .* has, got 1"),
        ((logits.detach().numpy(), deltas, boxes, labels), "cls_logits: expected a tensor, got ndarray"),
        ((logits, deltas, [boxes[0].tolist()], labels), r"gt_boxes\[0\]: expected a torch tensor, .* got list"),
    ]
    for call in (criterion, criterion.select):
        for arguments, message in refused:
            with pytest.raises((TypeError, ValueError), match=f"^SSDCriterion: {message}$"):
                call(*arguments)
