"""Batches of a training: augmentation keeps boxes on their objects, and depends only on seed, epoch and index."""

from __future__ import annotations

import dataclasses

import numpy as np
import PIL.Image
import pytest
import torch

from helpers.checks import assert_same_bits
from helpers.training_cases import CLASSES, SIZE, make_dataset, make_sample, small_config, small_network, train_small
from ssd_fast.datasets import DetectionDataset
from ssd_fast.ground_truth import GroundTruthWarning
from ssd_fast.models import ssd_tiny, ssdlite300_mobilenet_v2
from ssd_fast.training import Processes, train
from ssd_fast.training.data import TrainingSamples, batches, epoch_order, iterations_per_epoch
from ssd_fast.training.transforms import Augmentation, sample_seed

PLAIN = {"flip": "none", "photometric": 0.0, "zoom_out_share": 0.0, "crop_share": 0.0}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("photos"))


def samples_of(dataset, config, *, cache=True, preprocessing=None):
    return TrainingSamples(dataset, config, preprocessing or small_network().preprocessing, cache=cache)


def one_box(tmp_path, box=(30, 20, 70, 60)):
    return DetectionDataset([make_sample(tmp_path, "one", [box], [1])], ("red",))


def red_rectangle(image):
    """Return the rectangle of red pixels as xyxy."""
    red = (image[0].int() > image[2].int() + 60).nonzero()
    (y1, x1), (y2, x2) = red.min(0).values.tolist(), (red.max(0).values + 1).tolist()
    return torch.tensor([x1, y1, x2, y2], dtype=torch.float32)


@pytest.mark.parametrize(
    "changes",
    [{}, {"flip": "both"}, {"zoom_out": 2.0, "zoom_out_share": 1.0}, {"crop": 0.5, "crop_share": 1.0}],
    ids=["nothing", "flip", "zoom_out", "crop"],
)
def test_boxes_stay_on_their_objects(tmp_path, changes):
    samples = samples_of(one_box(tmp_path), small_config(**{**PLAIN, **changes}))
    seen = set()
    for epoch in range(40):
        image, boxes, labels, ignored, index = samples[epoch, 0]
        assert image.shape == (3, *SIZE) and image.dtype == torch.uint8 and index == 0
        assert len(boxes) == len(labels) == len(ignored) <= 1
        if len(boxes):
            assert labels.tolist() == [1] and (boxes[0] - red_rectangle(image)).abs().max() <= 1.5
            seen.add(tuple(boxes[0].round().tolist()))
    if changes:
        assert len(seen) >= (4 if "flip" in changes else 10), "it does not happen, or not differently each time"
    else:
        assert seen == {(15, 10, 35, 30)}


def test_boxes_follow_photo_of_another_shape(tmp_path):
    tall = DetectionDataset([make_sample(tmp_path, "tall", [[16, 40, 48, 160]], [1], (192, 64))], ("red",))
    image, boxes, *_ = samples_of(tall, small_config(**PLAIN))[0, 0]
    assert boxes.tolist() == [[16, 10, 48, 40]] and (boxes[0] - red_rectangle(image)).abs().max() <= 1


def test_flip_gives_expected_number_of_variants(tmp_path):
    dataset = one_box(tmp_path)
    for flip, expected in (("both", 4), ("horizontal", 2), ("none", 1)):
        samples = samples_of(dataset, small_config(**{**PLAIN, "flip": flip}))
        assert len({tuple(samples[epoch, 0][1][0].tolist()) for epoch in range(40)}) == expected


def test_photometric_changes_only_colors(tmp_path):
    dataset = one_box(tmp_path)
    plain = samples_of(dataset, small_config(**PLAIN))[0, 0]
    changed = [samples_of(dataset, small_config(**{**PLAIN, "photometric": 1.0}))[epoch, 0] for epoch in range(8)]
    assert all(torch.equal(sample[1], plain[1]) for sample in changed)
    assert sum(not torch.equal(sample[0], plain[0]) for sample in changed) >= 6


def test_zoomed_out_canvas_has_gray_of_network(tmp_path):
    config = small_config(**{**PLAIN, "zoom_out": 3.0, "zoom_out_share": 1.0})
    image = samples_of(one_box(tmp_path), config)[1, 0][0]
    corners = {tuple(image[:, y, x].tolist()) for y in (0, -1) for x in (0, -1)}
    assert (124, 116, 104) in corners, "not ImageNet's mean times 255, which normalizes to nearly 0"


def test_image_without_augmentation_is_that_of_detector(dataset):
    for network in (small_network(), ssdlite300_mobilenet_v2(3)):
        samples = samples_of(dataset, small_config(**PLAIN), preprocessing=network.preprocessing)
        image = samples[0, 2][0]
        seen, _ = network.preprocessing([dataset[2][0]])
        again, _ = network.preprocessing(image[None])
        step = 0.5 / 255 / min(network.preprocessing.std) * network.preprocessing.pixel_range
        torch.testing.assert_close(again, seen, rtol=0, atol=1.001 * step)  # half a byte, from rounding


def test_ignored_flags_are_dropped_with_boxes(tmp_path):
    sample = make_sample(tmp_path, "two", [[2, 2, 30, 30], [90, 60, 126, 94]], [1, 2])
    sample = dataclasses.replace(sample, ignored=np.array([False, True]))
    samples = samples_of(DetectionDataset([sample], ("red", "blue")), small_config(**{**PLAIN, "crop_share": 1.0}))
    lengths = set()
    for epoch in range(60):
        _, boxes, labels, ignored, _ = samples[epoch, 0]
        assert ignored.dtype == torch.bool and torch.equal(ignored, labels == 2) and len(boxes) == len(labels)
        lengths.add(len(boxes))
    assert {1, 2} <= lengths


def test_seed_decides_augmentation_and_keeps_torch_random_state(tmp_path):
    augment = Augmentation(small_config(), SIZE, (0, 0, 0))
    image = torch.randint(0, 255, (3, *SIZE), dtype=torch.uint8)
    truths = (torch.tensor([[4.0, 4, 40, 40]]), torch.tensor([1]), torch.tensor([False]))
    torch.manual_seed(1)
    first = augment(image, *truths, 7)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert_same_bits(augment(image, *truths, 7), first)
    assert not torch.equal(augment(image, *truths, 8)[0], first[0])
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state), "augmentation drew from torch's random state"


def test_seeds_of_neighbors_differ():
    seeds = {sample_seed(*key) for key in [(a, b, c) for a in range(4) for b in range(9) for c in range(30)]}
    assert len(seeds) == 4 * 9 * 30 and all(0 <= seed < 2**32 for seed in seeds)


def test_every_epoch_has_its_own_order():
    orders = [epoch_order(seed, epoch, 50).tolist() for seed in range(2) for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 6
    assert orders[1] == epoch_order(0, 1, 50).tolist()


def test_batches_follow_order_of_epoch_without_remainder(dataset):
    config = small_config(batch_size=3, epochs=4)
    indices = [batch.indices.tolist() for batch in batches(samples_of(dataset, config), config)]
    expected = [epoch_order(0, epoch, 7).tolist()[first : first + 3] for epoch in range(4) for first in (0, 3)]
    assert indices == expected


def test_batches_are_packed(dataset):
    config = small_config(batch_size=7, epochs=1, **PLAIN)
    (batch,) = batches(samples_of(dataset, config), config)
    assert batch.images.shape == (7, 3, *SIZE)
    empty = batch.indices.tolist().index(6)
    sizes = batch.offsets.diff()
    assert batch.offsets[0] == 0 and sizes[empty] == 0 and sizes.sum() == 12 == len(batch.boxes) == len(batch.labels)
    begin = int(batch.offsets[batch.indices.tolist().index(3)])
    expected = torch.from_numpy(dataset.samples[3].boxes) / 2  # 96 x 128 -> 48 x 64
    torch.testing.assert_close(batch.boxes[begin : begin + 2], expected)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache", [True, False])
def test_workers_and_cache_change_nothing(tmp_path, workers, cache):
    # Large enough for torch to split a sum between threads, which changes its rounding.
    random = np.random.default_rng(0)
    folder = tmp_path / "photos"
    large = make_dataset(folder, 4)
    for sample in large.samples:
        PIL.Image.fromarray(random.integers(0, 255, (96, 128, 3), dtype=np.uint8)).save(sample.path)
    preprocessing = dataclasses.replace(small_network().preprocessing, size=(300, 400))
    config = small_config(epochs=2)
    expected = list(batches(samples_of(large, config, preprocessing=preprocessing), config))
    samples = samples_of(large, config, cache=cache, preprocessing=preprocessing)
    if workers:
        samples.preload()
    assert_same_bits(list(batches(samples, config, workers=workers)), expected)


@pytest.mark.parametrize("start", [1, 3, 4, 8])
def test_batches_can_begin_anywhere(dataset, start):
    config = small_config()
    samples = samples_of(dataset, config)
    assert_same_bits(list(batches(samples, config, start=start)), list(batches(samples, config))[start:])


def test_processes_share_each_batch(dataset):
    config = small_config(batch_size=6)
    samples = samples_of(dataset, config)
    whole = list(batches(samples, config))
    parts = [list(batches(samples, config, rank=rank, processes=3)) for rank in range(3)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([share.images for share in shares]), batch.images)
        assert torch.equal(torch.cat([share.boxes for share in shares]), batch.boxes)
        assert all(len(share.indices) == 2 for share in shares)


def test_batches_do_not_draw_from_torch_random_state(dataset):
    config = small_config(epochs=1)
    samples = samples_of(dataset, config)
    before = torch.get_rng_state()
    assert len(list(batches(samples, config))) == 3
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_reject_batch_size(dataset):
    config = small_config(batch_size=8)
    with pytest.raises(ValueError, match="batch_size: expected at most 7, the number of images, got 8"):
        batches(samples_of(dataset, config), config)
    with pytest.raises(ValueError, match="batch_size: expected a multiple of the 2 processes, got 3"):
        batches(samples_of(dataset, config), small_config(batch_size=3), processes=2)
    assert iterations_per_epoch(7, 7) == 1


@pytest.mark.parametrize("batch_size, count, least", [(1, 1, 2), (3, 2, 4), (4, 4, 8)])
def test_batch_norms_of_one_cell_need_two_images_per_process(dataset, tmp_path, batch_size, count, least):
    expected = f"at least {least}, 2 per process, since ssd_tiny has a map of one cell"
    config, processes = small_config(batch_size=batch_size), Processes(count=count)
    with pytest.raises(ValueError, match=f"batch_size: expected {expected}.*; got {batch_size}$"):
        train(ssd_tiny(3, (32, 32)), dataset, config, tmp_path, processes=processes)
    assert not list(tmp_path.iterdir())


def test_unreadable_image_is_named(tmp_path):
    dataset = make_dataset(tmp_path / "photos", 3)
    (tmp_path / "photos" / "photo1.png").write_bytes(b"no picture")
    samples = samples_of(dataset, small_config())
    with pytest.raises(ValueError, match=r"photo1\.png"):
        samples[0, 1]


def test_boxes_too_small_for_input_are_named(tmp_path):
    """20 pixels of 4000 are 1.6 of 320: boxes left out are named, and a dataset without any others is refused."""
    (tmp_path / "photos").mkdir()
    tiny = [[100, 100, 120, 120], [900, 900, 920, 920]]
    samples = [
        make_sample(tmp_path / "photos", f"photo{n}", boxes, [1, 2], size=(3000, 4000))
        for n, boxes in enumerate((tiny, [tiny[0], [1000, 1000, 2000, 2000]]))
    ]
    with pytest.raises(ValueError, match="2 of 2 ground truths, the first in photo0, are smaller than 2 pixels"):
        train_small(DetectionDataset(samples[:1], CLASSES), tmp_path / "a", small_config(batch_size=1))
    with pytest.warns(GroundTruthWarning, match="3 of 4 ground truths.* input of 48 x 64, and are left out"):
        train_small(DetectionDataset(samples, CLASSES), tmp_path / "b", small_config(batch_size=1, epochs=1))
