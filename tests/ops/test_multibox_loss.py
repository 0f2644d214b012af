"""multibox_loss gives the reference's losses and gradients, with the same bits on every backend."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ssd_fast
from helpers import inputs
from helpers.checks import assert_same_bits, one_thread, specified
from helpers.loss_cases import (
    CODERS,
    CPU,
    HAND_NORMALIZERS,
    HANDS,
    LN2,
    PLAIN,
    SPECS,
    check,
    cross_entropy,
    expected,
    hand_case,
    random_case,
    run,
)
from ssd_fast import BoxCoderSpec, LossSpec, MatcherSpec, _backend

every_spec = pytest.mark.parametrize("loss", SPECS.values(), ids=SPECS.keys())


# ---- by hand --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("background", [0, -1, 1])
@pytest.mark.parametrize("name", HANDS)
def test_by_hand(backend, name, background):
    loss, regression, classification, mined = HANDS[name]
    loss = LossSpec(**{**vars(loss), "background": background})
    for coder in (BoxCoderSpec(), BoxCoderSpec(order="yx")):
        losses, gradients, (_, _, selected, normalizer) = run(backend, hand_case(coder, background), loss, coder)
        assert losses["bbox_regression"].item() == pytest.approx(regression, rel=1e-6)
        assert losses["classification"].item() == pytest.approx(classification * LN2, rel=1e-5)
        assert [row.nonzero()[:, 0].tolist() for row in selected == 2] == [[0], [], [0, 1]]
        assert [row.nonzero()[:, 0].tolist() for row in selected == 1] == mined
        assert torch.equal(gradients[0].ne(0).any(-1), selected > 0)
        assert normalizer.tolist() == HAND_NORMALIZERS[loss.normalizer]


# ---- against the reference ------------------------------------------------------------------------------------------


@every_spec
@pytest.mark.parametrize("coder", CODERS.values(), ids=CODERS.keys())
def test_specs_equal_reference(backend, loss, coder):
    for seed, columns in ((1, 3), (2, 5), (3, 21)):
        case = random_case(seed, columns=columns, background=loss.background)
        losses, _, (_, _, selected, _) = check(backend, case, loss, coder, weights=(0.7, -3.0))
        assert all(value > 0 for value in losses.values())
        positive, free = case.matched_idxs >= 0, case.matched_idxs == -1
        assert torch.equal(selected == 2, positive) and not selected[case.matched_idxs == -2].any()
        hardness = cross_entropy(case, loss.background)
        for n, count in enumerate(positive.sum(1).tolist()):
            wanted = max(int(loss.negatives_per_positive * count), loss.min_negatives)
            if loss.normalizer == "positives_per_image" and count == 0:
                wanted = 0
            mined, left_out = selected[n] == 1, free[n] & (selected[n] == 0)
            assert int(mined.sum()) == min(wanted, int(free[n].sum()))
            assert (
                not mined.any() or not left_out.any() or hardness[n][mined].min() > hardness[n][left_out].max() - 1e-5
            )


@pytest.mark.parametrize("rows", [*inputs.BORDER_SIZES, 1023, 1024, 1025, 2500])
def test_border_sizes_equal_reference(backend, rows):
    for columns in (2, 3):
        check(backend, random_case(rows + columns, rows=rows, columns=columns, one_in=6))


@pytest.mark.parametrize("columns", [15, 16, 17, 31, 32, 33, 91, 200, 1000])
def test_border_numbers_of_columns_equal_reference(backend, columns):
    check(backend, random_case(columns, images=2, rows=70, columns=columns, one_in=6))


@pytest.mark.parametrize("images", [0, 1, 2, 33])
@every_spec
def test_numbers_of_images_equal_reference(backend, loss, images):
    case = random_case(images, images=images, rows=20, columns=4, background=loss.background, one_in=6)
    losses, _, _ = check(backend, case, loss)
    assert images > 0 or not any(losses.values())


@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(0, 4), st.integers(0, 150), st.integers(2, 12)),
    name=st.sampled_from(list(SPECS)),
    one_in=st.integers(2, 30),
    scale=st.sampled_from([0.5, 2.0, 30.0]),
    coder=st.sampled_from(list(CODERS.values())),
)
def test_random_cases_equal_reference(backend, seed, shape, name, one_in, scale, coder):
    images, rows, columns = shape
    loss = SPECS[name] if columns > 2 else LossSpec(**{**vars(SPECS[name]), "background": -1})
    case = random_case(
        seed, images=images, rows=rows, columns=columns, background=loss.background, one_in=one_in, scale=scale
    )
    check(backend, case, loss, coder)


@pytest.mark.parametrize("columns", [21, 91])
def test_full_size_equals_reference(backend, columns):
    check(backend, random_case(columns, images=2, rows=8732, columns=columns, one_in=400))


@pytest.mark.parametrize("logits_dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("deltas_dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_narrow_inputs_are_widened(backend, logits_dtype, deltas_dtype):
    case = random_case(4)
    case = case._replace(
        cls_logits=case.cls_logits.to(logits_dtype), bbox_regression=case.bbox_regression.to(deltas_dtype)
    )
    losses, gradients, saved = check(backend, case, weights=(3.0, 5.0))
    wide_losses, wide_gradients, wide_saved = run(backend, case.to(torch.float32), weights=(3.0, 5.0))
    assert_same_bits((losses, saved), (wide_losses, wide_saved))
    assert_same_bits(gradients, (wide_gradients[0].to(logits_dtype), wide_gradients[1].to(deltas_dtype)))


def test_match_and_loss_equal_reference(backend):
    """Run the two ops of a training step on the default boxes of an SSD300."""
    preset = ssd_fast.preset("torchvision_ssd300_vgg16")
    default_boxes = ssd_fast.default_boxes(preset.default_boxes)
    case = random_case(6, images=3, rows=len(default_boxes), columns=21)
    matched = specified("match", case.gt_boxes, default_boxes, MatcherSpec())
    case = case._replace(matched_idxs=matched, default_boxes=default_boxes)
    check(backend, case, LossSpec(), preset.coder)
    on_backend = backend.to((case.gt_boxes, default_boxes))
    assert_same_bits(ssd_fast.match(*on_backend, MatcherSpec()).cpu(), matched)


# ---- edges ----------------------------------------------------------------------------------------------------------


def test_loss_of_nothing_selected_is_zero(backend):
    case = random_case(1)
    nothing = [
        case._replace(matched_idxs=torch.full_like(case.matched_idxs, -1)),
        case._replace(matched_idxs=torch.full_like(case.matched_idxs, -2)),
        random_case(1, images=1),  # has no ground truth
        random_case(1, images=0),
        random_case(1, rows=0),
        random_case(1, images=0, rows=0),
    ]
    for arguments in nothing:
        for loss in (LossSpec(), SPECS["images"], LossSpec(normalizer="sum_max_one")):
            losses, gradients, (_, _, selected, normalizer) = run(backend, arguments, loss)
            if not (selected == 1).any():
                assert [value.item() for value in losses.values()] == [0, 0]
                assert not any(grad.any() for grad in gradients) and not selected.any()
            assert (normalizer >= 1).all()


def test_min_negatives_are_mined_without_positives(backend):
    case = random_case(1)
    case = case._replace(matched_idxs=case.matched_idxs.clamp(max=-1))
    _, _, (_, _, selected, _) = check(backend, case, LossSpec(min_negatives=4))
    assert (selected == 1).sum(1).tolist() == [4, 4, 4]
    _, _, (_, _, selected, _) = check(backend, case, LossSpec(min_negatives=2**31 - 1))
    assert torch.equal(selected == 1, case.matched_idxs == -1)
    losses, _, (_, _, selected, _) = check(backend, case, SPECS["images"])
    assert not selected.any() and losses["classification"] == 0


@pytest.mark.parametrize("rows", [40, 300, 5000])
def test_ties_go_to_lower_row(backend, rows):
    """There are three kinds of background rows, equal within a kind; some rows are ignored or positive."""
    kind = inputs.integers(1, 0, 3, rows)
    logits = torch.tensor([[0.5, 2.0, -1.0], [4.0, 0.0, 0.0], [-3.0, 1.0, 2.0]])[kind]
    matched = torch.tensor([-1, -1, -1, -1, -1, -2])[inputs.integers(2, 0, 6, rows)]
    matched[inputs.integers(3, 0, rows, 5)] = 0
    case = random_case(1, images=1, rows=rows, columns=3)
    case = case._replace(
        cls_logits=logits[None],
        matched_idxs=matched[None],
        gt_boxes=[inputs.boxes(1, 1)],
        gt_labels=[torch.tensor([1])],
    )
    free = (matched == -1).nonzero()[:, 0].tolist()
    by_hardness = [row for k in (2, 0, 1) for row in free if kind[row] == k]
    positives = int((matched == 0).sum())
    for wanted in (0, 1, 7, sum(kind[free] == 2), sum(kind[free] == 2) + 3, len(free) - 1, len(free), len(free) + 9):
        _, _, (_, _, selected, _) = run(backend, case, LossSpec(negatives_per_positive=0, min_negatives=int(wanted)))
        assert (selected[0] == 1).nonzero()[:, 0].tolist() == sorted(by_hardness[: int(wanted)])
        assert int((selected == 2).sum()) == positives
    _, _, (_, _, selected, _) = run(backend, case)
    assert (selected[0] == 1).nonzero()[:, 0].tolist() == sorted(by_hardness[: 3 * positives])


def test_mining_takes_first_rows_if_all_are_tied(backend):
    case = random_case(1, images=2, rows=3000, columns=4)
    case = case._replace(cls_logits=torch.zeros_like(case.cls_logits))
    losses, _, (_, _, selected, _) = run(backend, case)
    for row, matched in zip(selected, case.matched_idxs, strict=True):
        free = (matched == -1).nonzero()[:, 0]
        assert (row == 1).nonzero()[:, 0].tolist() == free[: 3 * int((matched >= 0).sum())].tolist()
    assert losses["classification"].item() == pytest.approx(4 * 2 * LN2, rel=1e-6)


def test_nan_is_mined_first_and_seen(backend):
    case = random_case(2, rows=300)
    free = (case.matched_idxs[1] == -1).nonzero()[:, 0]
    places = free[[50, 150, 20]]
    case.cls_logits[1, places, torch.tensor([0, 3, 1])] = inputs.NAN
    losses, gradients, (_, _, selected, _) = run(backend, case, LossSpec(negatives_per_positive=0, min_negatives=2))
    assert (selected[1] == 1).nonzero()[:, 0].tolist() == sorted(free[[20, 50]].tolist())
    assert losses["classification"].isnan() and losses["bbox_regression"].isfinite()
    broken = torch.zeros_like(selected, dtype=torch.bool)
    broken[1, free[[20, 50]]] = True
    assert torch.equal(gradients[0].isnan().all(-1), broken) and torch.equal(gradients[0].isnan().any(-1), broken)
    assert gradients[1].isfinite().all()
    check(backend, case, LossSpec(negatives_per_positive=0, min_negatives=2))

    case.matched_idxs[1, places] = -2  # ignored, it does no harm
    losses, gradients, _ = check(backend, case)
    assert all(x.isfinite().all() for x in (*losses.values(), *gradients))


def test_nan_offsets_are_seen_only_in_positives(backend):
    case = random_case(2)
    positive = case.matched_idxs >= 0
    case.bbox_regression[~positive] = inputs.NAN
    losses, gradients, _ = check(backend, case)
    assert losses["bbox_regression"] > 0 and gradients[1].isfinite().all()
    image, row = positive.nonzero()[3].tolist()
    case.bbox_regression[image, row, 2] = inputs.NAN
    losses, gradients, _ = check(backend, case)
    assert losses["bbox_regression"].isnan() and losses["classification"].isfinite()
    assert gradients[1].isnan().nonzero().tolist() == [[image, row, 2]]


def test_extreme_logits_equal_reference(backend):
    """Some logits have exponentials that overflow or vanish; others are infinite, as from a float16 network."""
    case = random_case(3, images=2, rows=64, columns=4, scale=0.5)
    values = torch.tensor([1e4, -1e4, 88.0, -104.0, 0.0, 3e38, -3e38, 1e-40])
    case.cls_logits[:, ::3] = values[inputs.integers(1, 0, 8, 2, 22, 4)]
    losses, gradients, _ = run(backend, case)
    their_losses, _ = expected(case)
    torch.testing.assert_close(losses, their_losses, rtol=1e-5, atol=1e-7, equal_nan=True)
    assert all(grad.isfinite().all() for grad in gradients)

    case = hand_case(PLAIN)
    case.cls_logits[0, 1] = torch.tensor([-inputs.INF, 0.0, 0.0])  # an infinite loss with a finite slope
    case.cls_logits[0, 5] = torch.tensor([0.0, -inputs.INF, 1.0])
    losses, gradients, _ = check(backend, case)
    assert losses["classification"] == inputs.INF and gradients[0].isfinite().all()
    torch.testing.assert_close(gradients[0][0, 1], torch.tensor([-1.0, 0.5, 0.5]) / 3)
    case.cls_logits[0, 1] = torch.tensor([0.0, inputs.INF, 0.0])
    losses, gradients, _ = check(backend, case)
    assert losses["classification"].isnan()


def test_saved_statistics_are_maximum_and_sum_of_rows(backend):
    case = random_case(4)
    _, _, (row_max, row_sum, _, _) = run(backend, case)
    assert_same_bits(row_max, case.cls_logits.amax(-1))
    torch.testing.assert_close(row_sum, (case.cls_logits - row_max[..., None]).exp().sum(-1), rtol=1e-6, atol=0)


def test_labels_and_matches_out_of_range_are_ignored(backend):
    case = random_case(5, rows=400)
    labels = [label.clone() for label in case.gt_labels]
    labels[1][1], labels[2][1:4] = 0, torch.tensor([5, -1, 2**40])  # the background, and columns that do not exist
    matched = case.matched_idxs.clone()
    matched[:, :4] = torch.tensor([2**40, -3, -(2**62), 99])
    matched[:, 4] = torch.tensor([len(label) for label in labels])  # the first object of the next image
    wrong = case._replace(gt_labels=labels, matched_idxs=matched)
    ignored = matched.clone()
    ignored[:, :5] = -2
    ignored[1][matched[1] == 1] = -2
    ignored[2][(matched[2] >= 1) & (matched[2] < 4)] = -2
    assert (ignored >= 0).sum() > 20 and (ignored != matched).sum() > 30
    harmless = run(backend, case._replace(matched_idxs=ignored))
    for arguments in (wrong, wrong.packed()):
        assert_same_bits(run(backend, arguments), harmless)
    assert specified("multibox_loss", *wrong, coder=PLAIN, loss=LossSpec()) == specified(
        "multibox_loss", *case._replace(matched_idxs=ignored), coder=PLAIN, loss=LossSpec()
    )
    packed = wrong.packed()
    for offsets in ([0, -5, 2**40, -1], [9, 9, 9, 9], [-(2**62)] * 4, [2**62] * 4):
        arguments = packed._replace(gt_boxes=(packed.gt_boxes[0], torch.tensor(offsets)))
        losses, gradients, _ = run(backend, arguments)
        assert all(x.isfinite().all() for x in (*losses.values(), *gradients))


def test_degenerate_ground_truth_is_seen(backend):
    """A positive without width has an infinite target, which the box loss shows; classification is not affected."""
    case = hand_case(PLAIN)
    case.gt_boxes[0][1, 2] = case.gt_boxes[0][1, 0]
    losses, gradients, _ = check(backend, case)
    assert losses["bbox_regression"] == inputs.INF and losses["classification"].isfinite()
    assert gradients[1].isfinite().all()


@every_spec
def test_losses_equal_cpu_bit_for_bit(backend, monkeypatch, loss):
    """Compare with the CPU kernels on one thread."""
    for case in (
        random_case(7, images=4, rows=1100, columns=21, background=loss.background),
        random_case(8, images=3, rows=65, columns=91, background=loss.background).to(torch.float16).packed(),
        random_case(9, images=2, rows=2049, columns=4, background=loss.background, scale=40.0).to(torch.bfloat16),
    ):
        actual = run(backend, case, loss, CODERS["yx"], weights=(0.3, 7.0))
        with monkeypatch.context() as patch, one_thread():
            patch.setattr(_backend, "C", _backend._C)
            wanted = run(CPU, case, loss, CODERS["yx"], weights=(0.3, 7.0))
        assert_same_bits(actual, wanted)
