"""Odd images: those without plain values are refused in the package's words, and all others are read unchanged."""

from __future__ import annotations

import math
import os
import re

import numpy as np
import PIL.Image
import pytest
import torch

from ssd_fast.assets import asset_path
from ssd_fast.images import as_image_tensor, as_image_tensors
from ssd_fast.models.preprocessing import Preprocessing

GRAY = torch.full((3, 4, 5), 0.5)
HUGE = (30_000, 30_000)  # with three channels, more than 2**31 elements


class BytesPath(os.PathLike):
    """A path whose name is bytes, as os.PathLike allows."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __fspath__(self) -> bytes:
        return os.fsencode(self.name)


def changed(value: float) -> torch.Tensor:
    image = GRAY.clone()
    image[1, 2, 3] = value
    return image


VALUELESS = [
    (GRAY.to_sparse(), r"expected a dense tensor, got a sparse_coo one"),
    (torch.quantize_per_tensor(GRAY, 0.1, 0, torch.quint8), r"expected a dense tensor, got a quantized one"),
]
REFUSED = [
    *((image, TypeError, message) for image, message in VALUELESS),
    (GRAY.to("meta"), TypeError, r"expected a tensor \[3, H, W\] that has values, got one on the meta device"),
    (GRAY.to(torch.float8_e4m3fn), TypeError, "floating point in 0..1, got torch.float8_e4m3fn"),
    (np.ma.masked_array(np.zeros((4, 5, 3), np.uint8)), TypeError, "an array without a mask, got a MaskedArray"),
    (changed(-1000.0), ValueError, "values in 0..1, got -1000 to 0.5"),
    (changed(-1.0), ValueError, "values in 0..1, got -1 to 0.5"),
    (changed(math.inf), ValueError, "values in 0..1, got 0.5 to inf"),
    (changed(math.nan), ValueError, "values in 0..1, got nan to nan"),
    (
        np.broadcast_to(np.uint8(7), (*HUGE, 3)),
        ValueError,
        r"more than 2\*\*31 elements .* \[30000, 30000, 3\]",
    ),
    (torch.tensor(0.5).expand(3, *HUGE), ValueError, r"more than 2\*\*31 elements .* \[3, 30000, 30000\]"),
]


@pytest.mark.parametrize(("image", "error", "message"), REFUSED)
def test_images_without_plain_values_are_refused(image, error, message):
    with pytest.raises(error, match=message):
        as_image_tensor(image)
    with pytest.raises(error, match=f"^image 1: .*{message}"):
        as_image_tensors([GRAY, image])


@pytest.mark.parametrize(("image", "message"), VALUELESS)
def test_batches_without_plain_values_are_refused(image, message):
    batch = image if image.is_quantized else torch.stack([image, image])
    batch = batch[None] if batch.ndim == 3 else batch
    with pytest.raises(TypeError, match=f"^{message}"):
        as_image_tensors(batch)
    preprocessing = Preprocessing((8, 8), (0, 0, 0), (1, 1, 1), 1.0, "half_pixel")
    for images in (batch, [image]):
        with pytest.raises(TypeError, match=f"^preprocessing: images: {message}"):
            preprocessing(images)


@pytest.mark.parametrize("value", [-0.25, 1.5])
def test_overshoot_is_kept(value):
    assert torch.equal(as_image_tensor(changed(value)), changed(value))


def test_image_may_require_gradient():
    assert as_image_tensor(GRAY.clone().requires_grad_()).requires_grad


def test_opened_truncated_photo_is_named(tmp_path):
    path = tmp_path / "half.jpg"
    path.write_bytes(asset_path("chelsea.jpg").read_bytes()[:20_000])
    with PIL.Image.open(path) as photo:
        for image in (photo, path):
            with pytest.raises(ValueError, match=r"^cannot read image .*half\.jpg: .*truncated"):
                as_image_tensor(image)


def test_premultiplied_gray_is_read():
    gray = PIL.Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5) * 12)
    opaque = PIL.Image.merge("LA", (gray, PIL.Image.new("L", gray.size, 255)))
    assert torch.equal(as_image_tensor(opaque.convert("La")), as_image_tensor(gray))


@pytest.mark.parametrize("kind", ["pgm", "png"])
def test_16_bit_gray_keeps_upper_byte(tmp_path, kind):
    values = (np.arange(12, dtype=np.uint16) * 5000).reshape(3, 4)
    path = tmp_path / f"deep.{kind}"
    if kind == "pgm":
        path.write_bytes(b"P5\n4 3\n65535\n" + values.astype(">u2").tobytes())
    else:
        PIL.Image.fromarray(values).save(path)
    expected = torch.from_numpy((values >> 8).astype(np.uint8)).expand(3, -1, -1)
    assert torch.equal(as_image_tensor(path), expected)
    with PIL.Image.open(path) as image:
        assert torch.equal(as_image_tensor(image), expected)


def test_deep_gray_is_scaled_or_refused(tmp_path):
    """Pillow scales a PGM whose white is 1000 to 16 bits; a 32-bit TIFF does not say what white is."""
    values = np.array([[0, 250, 500, 1000]])
    (tmp_path / "x.pgm").write_bytes(b"P5\n4 1\n1000\n" + values.astype(">u2").tobytes())
    assert as_image_tensor(tmp_path / "x.pgm")[0].tolist() == [[0, 64, 128, 255]]
    PIL.Image.fromarray(values.astype(np.int32)).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match=r"x\.tif: images of mode 'I' do not define white"):
        as_image_tensor(tmp_path / "x.tif")


def test_path_may_be_bytes(tmp_path):
    expected = as_image_tensor(asset_path("coffee.jpg"))
    assert torch.equal(as_image_tensor(BytesPath(str(asset_path("coffee.jpg")))), expected)
    gone = str(tmp_path / "gone.jpg")
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(gone)}: no such file"):
        as_image_tensor(BytesPath(gone))


def test_missing_file_among_images_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^image 1: .*gone\.jpg: no such file"):
        as_image_tensors([GRAY, tmp_path / "gone.jpg"])
