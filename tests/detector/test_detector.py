"""The detector end to end, on photos: its detections, the images it accepts and those it refuses."""

from __future__ import annotations

import dataclasses
import socket

import numpy as np
import PIL.Image
import pytest
import torch

import ssd_fast
from ssd_fast.assets import COCO_CLASSES, asset_path
from ssd_fast.detector import Detector, load_detector
from ssd_fast.images import as_image_tensor, as_image_tensors
from ssd_fast.models import save_weights, ssd300_resnet50, ssd300_vgg16, ssdlite300_mobilenet_v2

EXIF_ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector(device="cpu")


@pytest.fixture(scope="module")
def chelsea() -> PIL.Image.Image:
    return PIL.Image.open(asset_path("chelsea.jpg"))


def best(detections, image: int = 0) -> dict:
    found = detections.to_list()[image]
    return {field: values[0] for field, values in found.items()}


@pytest.mark.parametrize(
    ("photo", "name", "score", "box"),
    [  # boxes drawn by hand around the objects
        ("chelsea.jpg", "cat", 0.9, (0, 0, 400, 300)),
        ("coffee.jpg", "cup", 0.9, (174, 21, 412, 308)),
        ("astronaut.jpg", "person", 0.5, (22, 12, 365, 512)),
    ],
)
def test_detector_finds_objects_in_photos(detector, photo, name, score, box):
    found = best(detector(asset_path(photo)))
    assert detector.classes[found["labels"]] == name
    assert found["scores"] > score
    x1, y1, x2, y2 = found["boxes"].tolist()
    left, top, right, bottom = box
    overlap = max(0, min(x2, right) - max(x1, left)) * max(0, min(y2, bottom) - max(y1, top))
    union = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - overlap
    assert overlap / union > 0.7, found["boxes"]


def test_load_detector_downloads_nothing(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked for something")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    assert load_detector(device="cpu").classes == COCO_CLASSES


def test_batch_gives_detections_of_single_images(detector):
    photos = [asset_path(f"{name}.jpg") for name in ("chelsea", "coffee", "astronaut")]
    together = detector(photos, 0.3).to_list()
    for photo, expected in zip(photos, together, strict=True):
        (alone,) = detector(photo, 0.3).to_list()
        assert torch.equal(alone["labels"], expected["labels"])
        torch.testing.assert_close(alone["scores"], expected["scores"], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone["boxes"], expected["boxes"], rtol=0, atol=1e-2)


def test_every_kind_of_image_gives_same_detections(detector, chelsea):
    array = np.asarray(chelsea)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    alpha = np.dstack([array, np.full(array.shape[:2], 77, np.uint8)])
    path = asset_path("chelsea.jpg")
    expected = detector(path)
    assert expected.boxes.shape[0] == 1 and expected.counts[0] > 0
    for image in (str(path), chelsea, array, alpha, tensor, tensor[None], [tensor], (path,), array[None]):
        for field, values in zip(expected._fields, detector(image), strict=True):
            assert torch.equal(values, getattr(expected, field)), (type(image), field)
    floats = detector([tensor.double() / 255, tensor])  # bytes and floats in one batch
    for image in range(2):
        torch.testing.assert_close(best(floats, image)["boxes"], best(expected)["boxes"], rtol=0, atol=0.01)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_image_mode_becomes_rgb(detector, chelsea, mode, tmp_path):
    if mode == "I;16":
        image = PIL.Image.fromarray(np.asarray(chelsea.convert("L")).astype(np.uint16) * 256)
    else:
        image = chelsea.convert(mode)
    assert image.mode == mode
    tensor = as_image_tensor(image)
    assert tensor.shape == (3, 300, 451) and tensor.dtype == torch.uint8
    if mode == "I;16":
        assert torch.equal(tensor, as_image_tensor(chelsea.convert("L")))
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    image.save(path)
    assert torch.equal(as_image_tensor(path), tensor)
    if mode != "1":  # in black and white dots even a cat is lost
        assert detector.classes[best(detector(image))["labels"]] == "cat"


def test_exif_orientation_is_applied(detector, chelsea, tmp_path):
    exif = PIL.Image.Exif()
    exif[EXIF_ORIENTATION] = 6  # shown rotated by 90 degrees clockwise
    lying = chelsea.transpose(PIL.Image.Transpose.ROTATE_90)
    lying.save(tmp_path / "lying.png", exif=exif)
    assert PIL.Image.open(tmp_path / "lying.png").size == (300, 451)
    assert torch.equal(detector(tmp_path / "lying.png").boxes, detector(chelsea).boxes)


def test_boxes_are_in_original_pixels(detector, chelsea):
    small, large = chelsea, chelsea.resize((1353, 600))
    found = detector([small, large])
    assert torch.allclose(best(found, 0)["boxes"] * torch.tensor([3, 2, 3, 2]), best(found, 1)["boxes"], atol=20)
    assert best(found, 1)["boxes"][2] > 451  # beyond the small photo, so boxes are scaled


def test_detector_obeys_score_threshold(detector):
    everything, confident = (detector(asset_path("astronaut.jpg"), t).to_list()[0] for t in (None, 0.3))
    assert 0 < len(confident["scores"]) < len(everything["scores"])
    assert confident["scores"].min() > 0.3
    above = everything["scores"] > 0.3
    assert torch.equal(everything["boxes"][above], confident["boxes"])
    with pytest.raises(ValueError, match=r"^Detector: score_threshold: expected a number in \[0, 1\], got 50$"):
        detector(asset_path("astronaut.jpg"), score_threshold=50)
    with pytest.raises(ValueError, match="score_threshold"):
        detector(asset_path("astronaut.jpg"), float("nan"))


def test_detector_takes_network_in_half_precision():
    detector = load_detector(device="cpu")
    detector.network.half()
    seen = []
    detector.network.stem.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    found = best(detector(asset_path("chelsea.jpg")))
    assert seen == [torch.float16] and detector.classes[found["labels"]] == "cat" and found["scores"] > 0.9


def test_no_images_give_no_detections(detector):
    found = detector([])
    assert found.boxes.shape[0] == 0 and found.to_list() == []


def test_load_detector_reads_network_from_file(tmp_path):
    torch.manual_seed(0)
    save_weights(ssdlite300_mobilenet_v2(3), tmp_path / "own.safetensors", classes=("background", "cup", "spoon"))
    own = load_detector(tmp_path / "own.safetensors", device="cpu")
    assert own.classes == ("background", "cup", "spoon") and "3 columns" in repr(own)
    torch.save(ssd300_vgg16(4).state_dict(), tmp_path / "vgg.pth")
    vgg = load_detector(str(tmp_path / "vgg.pth"), device="cpu")
    assert vgg.classes == ("background", "class 1", "class 2", "class 3")
    found = vgg(torch.zeros((2, 3, 60, 90)))
    assert found.boxes.shape[:1] == (2,) and found.boxes[..., 0::2].max() <= 90 and found.boxes[..., 1::2].max() <= 60


def test_classes_must_fit_columns(detector):
    assert detector.classes == COCO_CLASSES and detector.network.training is False
    with pytest.raises(ValueError, match="expected 91 names, got 2"):
        Detector(detector.network, ("background", "cat"))


def test_detector_takes_another_preset(detector):
    spec = dataclasses.replace(detector.preset.postprocess, keep_top_k=7)
    other = Detector(detector.network, preset=dataclasses.replace(detector.preset, postprocess=spec))
    assert other(asset_path("coffee.jpg")).boxes.shape == (1, 7, 4)


def test_preset_of_another_order_is_refused():
    """The shapes would fit, but boxes and classes would be mixed up."""
    nvidia = ssd_fast.preset("nvidia_ssd300_coco")
    network = ssd300_resnet50(3)
    message = (
        "preset: expected default_boxes.row_order 'HWA', postprocess.row_order 'HWA', postprocess.channel_order 'AC', "
        "the order of networks here, got 'AHW', 'AHW', 'CA' in nvidia_ssd300_coco"
    )
    with pytest.raises(ValueError, match=f"^Detector: {message}$"):
        Detector(network, preset=nvidia)
    with pytest.raises(ValueError, match=f"^SSD300ResNet50: {message}$"):
        network.preset = nvidia
    for spec, change in (
        ("default_boxes", {"row_order": "AHW"}),
        ("postprocess", {"row_order": "AHW"}),
        ("postprocess", {"channel_order": "CA"}),
    ):
        other = dataclasses.replace(getattr(network.preset, spec), **change)
        ((field, value),) = change.items()
        with pytest.raises(ValueError, match=rf"expected {spec}\.{field} '\w+', .* networks here, got '{value}' in"):
            Detector(network, preset=dataclasses.replace(network.preset, **{spec: other}))


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (7, TypeError, "image 0: expected a path, .* got int"),
        ([torch.zeros((3, 8, 8)), "gone.jpg"], FileNotFoundError, "gone.jpg"),
        (asset_path("PROVENANCE.md"), ValueError, "image 0: cannot read image .*PROVENANCE.md: expected one of JPEG"),
        (np.zeros((8, 8, 3), np.float32), TypeError, "uint8 array .* got float32"),
        (np.zeros((3, 8, 8), np.uint8), ValueError, r"expected an array \[H, W, 3\], got \(3, 8, 8\)"),
        (torch.zeros((8, 8, 3)), ValueError, r"expected a tensor \[3, H, W\], got \(8, 8, 3\)"),
        (torch.zeros((8, 8)), ValueError, r"\[3, H, W\]"),
        (torch.zeros((3, 8, 8), dtype=torch.int64), TypeError, "int64"),
        (torch.full((3, 8, 8), 255.0), ValueError, "values in 0..1, got 255 to 255"),
        (PIL.Image.new("F", (8, 8)), ValueError, "do not define white"),
        (np.zeros((0, 8, 3), np.uint8), ValueError, "H, W >= 1"),
    ],
)
def test_detector_rejects_images(detector, image, error, message):
    with pytest.raises(error, match=message):
        detector(image)


def test_truncated_photo_is_named(tmp_path):
    (tmp_path / "half.jpg").write_bytes(asset_path("chelsea.jpg").read_bytes()[:20_000])
    with pytest.raises(ValueError, match=r"image 1: cannot read image .*half\.jpg: .*truncated"):
        as_image_tensors([asset_path("chelsea.jpg"), tmp_path / "half.jpg"])


def test_load_detector_rejects_unknown_names(tmp_path):
    with pytest.raises(ValueError, match="ssdlite300_mobilenet_v2_coco"):
        load_detector("yolo")
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors"):
        load_detector(tmp_path / "gone.safetensors")


def test_capture_needs_cuda(detector):
    with pytest.raises(RuntimeError, match="CUDA"):
        detector.capture((1, 3, 300, 300))


def test_captured_detector_equals_detector(cuda):
    detector = load_detector(device=cuda)
    photos = [asset_path("chelsea.jpg"), asset_path("coffee.jpg")]
    batch, sizes = detector.network.preprocessing(as_image_tensors(photos, cuda))
    with pytest.raises(ValueError, match="batch_shape"):
        detector.capture((2, 3, 320, 320))
    captured = detector.capture(batch.shape, 0.3)
    for _ in range(2):
        for given, expected in zip(captured(batch, sizes).to_list(), detector(photos, 0.3).to_list(), strict=True):
            assert torch.equal(given["labels"], expected["labels"])
            torch.testing.assert_close(given["boxes"], expected["boxes"], rtol=0, atol=0.05)
    assert captured(torch.zeros_like(batch)).boxes.max() <= 300
    with pytest.raises(ValueError, match="batch: expected"):
        captured(batch[:1])
