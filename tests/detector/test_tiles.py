"""Detection in tiles: where the tiles lie, which images are cut, and what is found in photos."""

from __future__ import annotations

import copy
import itertools
import pickle

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import ssd_fast
from helpers.tiles import noise, tiny
from ssd_fast.assets import asset_path
from ssd_fast.detector import Detector, load_detector
from ssd_fast.detector.tiles import Tiling, as_tiling

pytestmark = pytest.mark.usefixtures("one_thread")

EXIF_ORIENTATION = 0x0112
PHOTOS = ("chelsea", "coffee", "astronaut")

# ---- where the tiles lie --------------------------------------------------------------------------------------------


@given(
    image=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    tile=st.tuples(st.integers(32, 900), st.integers(32, 900)),
    overlap=st.floats(0, 0.875, width=32, allow_subnormal=False),
)
def test_tiles_cover_image_and_overlap(image, tile, overlap):
    tiling = as_tiling("test", tile, overlap)
    tiles = tiling.tiles(*image)
    columns = sorted({(left, width) for left, _, width, _ in tiles})
    rows = sorted({(top, height) for _, top, _, height in tiles})
    assert tiles == [(left, top, width, height) for top, height in rows for left, width in columns]
    for places, length, given_side in ((rows, image[0], tile[0]), (columns, image[1], tile[1])):
        side = min(length, given_side)
        assert {size for _, size in places} == {side}
        origins = [origin for origin, _ in places]
        assert origins[0] == 0 and origins[-1] + side == length
        moves = np.diff(origins)
        assert (moves > 0).all() and all(side - move >= overlap * side for move in moves)
        assert len(moves) == 0 or moves.max() - moves.min() <= 1
        if len(places) > 1:
            most = next(move for move in range(side, 0, -1) if side - move >= overlap * side)
            assert (len(places) - 2) * most < length - side, "one tile fewer would do"
    assert tiling.cuts(*image) == (len(tiles) > 1)


def test_tiles_by_hand():
    tiling = Tiling(640, 640, 0.2)
    assert tiling.tiles(640, 1500) == [(0, 0, 640, 640), (430, 0, 640, 640), (860, 0, 640, 640)]
    assert tiling.tiles(100, 1152) == [(0, 0, 640, 100), (512, 0, 640, 100)]
    assert [top for _, top, _, _ in Tiling(100, 200, 0.0).tiles(300, 200)] == [0, 100, 200]
    assert tiling.cuts(641, 1) and tiling.cuts(1, 641) and not tiling.cuts(640, 640)


# ---- batches and sizes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[(64, 48)], [(64, 48), (1, 1), (30, 48)], []])
def test_images_no_larger_than_tile_are_detected_as_without_tiles(sizes):
    detector = tiny()
    images = [noise(*size, seed) for seed, size in enumerate(sizes)]
    untiled = Detector(detector.network, preset=detector.preset)
    for found, expected in zip(detector(images), untiled(images), strict=True):
        assert torch.equal(found, expected)
    if sizes:
        assert untiled(images).counts.sum() > 0


def test_one_pixel_more_is_cut():
    detector = tiny()
    untiled = Detector(detector.network, preset=detector.preset)
    for size in ((65, 48), (64, 49)):
        image = noise(*size)
        (cut,), (whole,) = detector(image).to_list(), untiled(image).to_list()
        assert not torch.equal(cut["boxes"], whole["boxes"])


def test_detections_do_not_depend_on_batch():
    detector = tiny(keep_top_k=4)
    images = [noise(*size, seed) for seed, size in enumerate([(150, 130), (64, 48), (64, 200), (20, 20)])]
    alone = [detector(image).to_list()[0] for image in images]
    assert len({len(found["scores"]) for found in alone}) > 2
    for order in itertools.permutations(range(4)):
        together = detector([images[index] for index in order])
        assert together.boxes.shape[1] == together.counts.max() > 4
        assert (together.labels[:, -1] == -1).sum() == 3 and (together.box_idxs[:, -1] == -1).sum() == 3
        for index, found in zip(order, together.to_list(), strict=True):
            assert all(torch.equal(found[field], alone[index][field]) for field in found)
    stacked = torch.stack([noise(150, 130, seed) for seed in range(2)])
    for found, image in zip(detector(stacked).to_list(), stacked, strict=True):
        assert torch.equal(found["boxes"], detector(image).to_list()[0]["boxes"])


@pytest.mark.parametrize("candidates, most", [(2**22, 16), (2**22 - 1, 16), (5 * 2**15, 5), (1, 1)])
def test_network_sees_few_tiles_at_once(monkeypatch, candidates, most):
    detector = tiny()
    boxes = detector.preset.default_boxes.num_boxes * 4
    assert boxes <= 2**15
    monkeypatch.setattr("ssd_fast.detector.tiled._CANDIDATES_AT_ONCE", candidates * boxes // 2**15)
    seen, head_maps = [], detector.network.head_maps

    def recorded(images: Tensor) -> tuple[list[Tensor], ...]:
        seen.append(len(images))
        return head_maps(images)

    detector.network.head_maps = recorded
    detector(noise(200, 200))
    tiles = 1 + len(Tiling(64, 48, 0.25).tiles(200, 200))
    assert max(seen) == most and sum(seen) == tiles and len(seen) == -(-tiles // most)


# ---- on photos ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    return load_detector(device="cpu").network


@pytest.fixture(scope="module")
def mosaic() -> PIL.Image.Image:
    """Three photos, each 150 pixels wide, on 1200 x 900 pixels of gray."""
    picture = PIL.Image.new("RGB", (1200, 900), (120, 130, 120))
    for name, place in zip(PHOTOS, [(130, 90), (820, 170), (460, 640)], strict=True):
        with PIL.Image.open(asset_path(f"{name}.jpg")) as photo:
            picture.paste(photo.resize((150, 150 * photo.height // photo.width)), place)
    return picture


def names(detector: Detector, image, threshold: float = 0.5) -> list[str]:
    return sorted(detector.classes[label] for label in detector(image, threshold).to_list()[0]["labels"].tolist())


def test_tiles_find_small_objects(network, mosaic):
    classes = ssd_fast.assets.COCO_CLASSES
    assert not {"cat", "cup", "person"} & set(names(Detector(network, classes), mosaic))
    tiled = Detector(network, classes, tile=320)
    assert {"cat", "cup", "person"} <= set(names(tiled, mosaic))
    (found,) = tiled(mosaic, 0.5).to_list()
    cat = found["boxes"][found["labels"] == classes.index("cat")][0]
    assert ssd_fast.box_iou(cat[None], torch.tensor([[130.0, 91, 265, 189]])) > 0.75


def test_object_larger_than_tile_is_found_whole(network):
    with PIL.Image.open(asset_path("chelsea.jpg")) as photo:
        large = photo.resize((1804, 1200))
    detector = Detector(network, ssd_fast.assets.COCO_CLASSES, tile=640)
    (found,) = detector(large, 0.5).to_list()
    cats = found["boxes"][found["labels"] == detector.classes.index("cat")]
    assert ssd_fast.box_iou(cats, torch.tensor([[5.0, 9, 1626, 1192]])).max() > 0.9


def test_every_kind_of_image_gives_same_detections(network, mosaic, tmp_path):
    detector = Detector(network, tile=(320, 400))
    mosaic = mosaic.crop((100, 60, 600, 460))
    exif = PIL.Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    mosaic.transpose(PIL.Image.Transpose.ROTATE_90).save(tmp_path / "lying.png", exif=exif)
    array = np.asarray(mosaic)
    expected = detector(mosaic, 0.3)
    assert expected.counts[0] > 0
    for image in (tmp_path / "lying.png", array, array[None], torch.tensor(array).permute(2, 0, 1), [mosaic]):
        for found, values in zip(detector(image, 0.3), expected, strict=True):
            assert torch.equal(found, values)
    floats = detector(torch.tensor(array).permute(2, 0, 1).double() / 255, 0.3)
    torch.testing.assert_close(floats.boxes, expected.boxes, rtol=0, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_network_in_half_precision(mosaic, dtype):
    detector = load_detector(device="cpu", tile=320, overlap=0.25)
    detector.network.to(dtype)
    assert "cat" in names(detector, mosaic.crop((100, 60, 600, 460)))
    assert detector(mosaic.crop((100, 60, 600, 460))).boxes.dtype == torch.float32


def test_nothing_found_is_empty(network):
    detector = Detector(network, tile=320)
    found = detector([torch.zeros(3, 400, 400), torch.zeros(3, 20, 20)], 1)
    assert found.counts.tolist() == [0, 0] and found.boxes.shape == (2, 100, 4)
    assert all(len(image["boxes"]) == 0 for image in found.to_list())


def test_tiles_on_gpu_find_same_as_on_cpu(cuda, mosaic):
    on_cpu, on_gpu = (load_detector(device=device, tile=320)(mosaic, 0.35) for device in ("cpu", cuda))
    assert on_gpu.boxes.device.type == "cuda" and torch.equal(on_gpu.labels.cpu(), on_cpu.labels)
    torch.testing.assert_close(on_gpu.boxes.cpu(), on_cpu.boxes, rtol=0, atol=2)


# ---- arguments ------------------------------------------------------------------------------------------------------


def test_copies_keep_tiles(network):
    detector = Detector(network, tile=[640, 320], overlap=np.float32(0.25))
    shown = "Detector(SSDLite300MobileNetV2, 91 columns, cpu, tile 640 x 320, overlap 0.25)"
    assert repr(detector) == shown
    assert repr(copy.deepcopy(detector)) == repr(pickle.loads(pickle.dumps(detector))) == shown
    assert repr(Detector(network)) == "Detector(SSDLite300MobileNetV2, 91 columns, cpu)"


@pytest.mark.parametrize("tile", [31, 0, -640, 640.0, 1e9, True, "640", float("nan"), (640,), (640, 16), (640, 640, 3)])
def test_wrong_tile_is_refused(network, tile):
    message = r"^Detector: tile: expected an int of at least 32, \(height, width\) of such ints, or None, got "
    with pytest.raises(ValueError, match=message):
        Detector(network, tile=tile)


@pytest.mark.parametrize("tile", [None, 640])
@pytest.mark.parametrize("overlap", [-0.1, 1, 1.5, 20, float("nan"), float("inf"), "0.2", None, True])
def test_wrong_overlap_is_refused(network, tile, overlap):
    with pytest.raises(ValueError, match=r"^Detector: overlap: expected a number in \[0, 1\), got "):
        Detector(network, tile=tile, overlap=overlap)


def test_overlap_that_leaves_no_step_is_refused(network):
    assert len(Tiling(32, 64, 1 - 1 / 32).tiles(40, 64)) == 9
    as_tiling("Detector", (32, 64), 1 - 1 / 32)
    with pytest.raises(ValueError, match=r"^Detector: overlap: expected at most 1 - 1 / 32 with this tile, got 0.97$"):
        Detector(network, tile=(32, 64), overlap=0.97)
    with pytest.raises(ValueError, match=r"^Detector: overlap: "):
        load_detector(device="cpu", tile=640, overlap=1)


def test_empty_image_is_refused(network):
    with pytest.raises(ValueError, match="H, W >= 1"):
        Detector(network, tile=32)(np.zeros((0, 80, 3), np.uint8))


def test_capture_refuses_tiles(network):
    message = "^Detector.capture: tile: expected None, since a graph has one batch, got tile 64 x 64, overlap 0.2$"
    with pytest.raises(ValueError, match=message):
        Detector(network, tile=64).capture((1, 3, 300, 300))
