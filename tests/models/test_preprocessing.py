"""Preprocessing, compared with torchvision's transform, with Pillow, and with the TensorFlow rule by hand."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

from ssd_fast.models import SSD300VGG16, Preprocessing, SSD300ResNet50, SSDLite300MobileNetV2
from ssd_fast.models.preprocessing import resize_bilinear_corner

SIZES = [(300, 300), (37, 53), (300, 451), (720, 405), (1, 1), (2, 900)]


def random_image(size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)


def test_corner_rule_by_hand():
    # 4 -> 3 samples at 0, 4/3, 8/3; 2 -> 4 samples at 0, 1/2, 1, 3/2, where the last row repeats.
    image = torch.tensor([[[[0.0, 30.0, 60.0, 120.0], [90.0, 90.0, 90.0, 90.0]]]])
    expected = [[0, 40, 100], [45, 65, 95], [90, 90, 90], [90, 90, 90]]
    torch.testing.assert_close(resize_bilinear_corner(image, (4, 3))[0, 0], torch.tensor(expected).float())


def test_corner_rule_repeats_last_row_and_column():
    image = torch.tensor([[[[0, 200]]]], dtype=torch.uint8)
    torch.testing.assert_close(
        resize_bilinear_corner(image, (2, 4))[0, 0], torch.tensor([[0.0, 100.0, 200.0, 200.0]]).repeat(2, 1)
    )


def test_corner_rule_keeps_images_of_right_size():
    image = random_image((300, 300))[None]
    assert torch.equal(resize_bilinear_corner(image, (300, 300)), image.float())


@pytest.mark.parametrize("size", SIZES)
def test_corner_rule_equals_pixelwise_definition(size):
    image = random_image(size).double()
    target = (12, 7)
    resized = resize_bilinear_corner(image[None].float(), target)[0]
    for i in range(target[0]):
        for j in range(target[1]):
            y, x = i * size[0] / target[0], j * size[1] / target[1]
            top, left = int(y), int(x)
            bottom, right = min(top + 1, size[0] - 1), min(left + 1, size[1] - 1)
            upper = image[:, top, left] * (1 - x + left) + image[:, top, right] * (x - left)
            lower = image[:, bottom, left] * (1 - x + left) + image[:, bottom, right] * (x - left)
            exact = upper * (1 - y + top) + lower * (y - top)
            torch.testing.assert_close(resized[:, i, j].double(), exact, rtol=0, atol=1e-2)


def test_ssdlite300_normalizes_as_tensorflow_does():
    image = random_image((300, 300))[None]
    batch, _ = SSDLite300MobileNetV2.preprocessing(image)
    torch.testing.assert_close(batch, image.float() * (2 / 255) - 1, rtol=0, atol=2e-7)
    assert batch.min() == -1 and batch.max() == 1


@pytest.mark.parametrize("size", SIZES)
def test_ssd300_preprocessing_equals_torchvision(size):
    transform = pytest.importorskip(
        "torchvision.models.detection.transform", reason="torchvision is the oracle of this test"
    )
    rule = SSD300VGG16.preprocessing
    oracle = transform.GeneralizedRCNNTransform(
        300, 300, list(rule.mean), list(rule.std), size_divisible=1, fixed_size=(300, 300)
    ).eval()
    image = random_image(size)
    expected = oracle([image.float() / 255])[0].tensors
    for given in (image, image.float() / 255):
        batch, sizes = rule([given])
        torch.testing.assert_close(batch, expected, rtol=0, atol=1e-6)
        assert sizes.tolist() == [list(size)]


@pytest.mark.parametrize("size", [*SIZES, (1200, 1800)])
def test_ssd300_resnet50_preprocessing_equals_pillow(size):
    """Equal to Pillow's resize, which NVIDIA's network uses, but for its rounding to gray levels after each axis."""
    image = random_image(size)
    photo = PIL.Image.fromarray(image.permute(1, 2, 0).numpy())
    resized = torch.from_numpy(np.array(photo.resize((300, 300), PIL.Image.Resampling.BILINEAR))).permute(2, 0, 1)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for given in (image, image.float() / 255):
        gray_levels = (SSD300ResNet50.preprocessing([given])[0][0] * std + mean) * 255
        torch.testing.assert_close(gray_levels, resized.float(), rtol=0, atol=1.0)


RULES = [SSD300VGG16.preprocessing, SSD300ResNet50.preprocessing, SSDLite300MobileNetV2.preprocessing]


@pytest.mark.parametrize("rule", RULES)
def test_batch_equals_single_images(rule):
    images = [random_image(size, seed) for seed, size in enumerate([*SIZES, *SIZES[1:3]])]
    batch, sizes = rule(images)
    assert batch.shape == (len(images), 3, 300, 300) and batch.dtype == torch.float32
    assert sizes.dtype == torch.int64 and sizes.tolist() == [list(image.shape[1:]) for image in images]
    for image, row in zip(images, batch, strict=True):
        torch.testing.assert_close(rule(image[None])[0][0], row, rtol=0, atol=1e-4)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_floating_point_images_are_in_0_to_1(rule, dtype):
    image = (random_image((40, 60)) // 128 * 255)[None]  # 0 and 1 are exact in every dtype
    from_bytes, _ = rule(image)
    from_floats, _ = rule((image / 255).to(dtype))
    assert from_floats.dtype == torch.float32
    torch.testing.assert_close(from_floats, from_bytes, rtol=0, atol=1e-4)


@pytest.mark.parametrize("rule", RULES)
def test_no_images_give_an_empty_batch(rule):
    for nothing in ([], torch.empty((0, 3, 20, 30), dtype=torch.uint8)):
        batch, sizes = rule(nothing)
        assert batch.shape == (0, 3, 300, 300) and sizes.shape == (0, 2)


def test_images_may_be_non_contiguous():
    image = random_image((64, 48))
    flipped = image.permute(0, 2, 1)
    rule = SSDLite300MobileNetV2.preprocessing
    assert torch.equal(rule([flipped])[0], rule([flipped.contiguous()])[0])


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros((1, 3, 4, 4), dtype=torch.int32), TypeError, "uint8 or floating point"),
        (["photo.jpg"], TypeError, "torch tensors .* got str"),
        (torch.zeros((3, 4, 4)), ValueError, r"\[N, 3, H, W\]"),
        ([torch.zeros((1, 4, 4))], ValueError, r"\[3, H, W\].*\(1, 4, 4\)"),
        ([torch.zeros((3, 0, 4))], ValueError, "H, W >= 1"),
        (
            [torch.zeros((3, 4, 4)), torch.zeros((3, 4, 4), dtype=torch.uint8)],
            ValueError,
            "expected one device and dtype",
        ),
    ],
)
def test_preprocessing_rejects_images(images, error, message):
    with pytest.raises(error, match=message):
        SSD300VGG16.preprocessing(images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (0, 300)}, "size"),
        ({"std": (1.0, 0.0, 1.0)}, "std: expected 3 finite numbers, not 0"),
        ({"pixel_range": 2.0}, "pixel_range"),
        ({"rule": "bicubic"}, "rule"),
    ],
)
def test_preprocessing_rejects_fields(change, message):
    sound = {"size": (8, 8), "mean": (0.0,) * 3, "std": (1.0,) * 3, "pixel_range": 1.0, "rule": "corner"}
    with pytest.raises(ValueError, match=message):
        Preprocessing(**{**sound, **change})
