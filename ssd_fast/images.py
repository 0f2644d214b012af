"""Convert paths, PIL images, arrays and tensors to the RGB tensors that preprocessing takes."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from typing import TypeAlias, Union

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps
import torch
from torch import Tensor

from ._io.paths import failure_reason, require_input_file, shown_path
from .arrays import value_fault
from .arrays.allocation import copy_fault

__all__ = ["IMAGE_SUFFIXES", "Image", "as_image_tensor", "as_image_tensors", "open_image"]

Image: TypeAlias = Union[str, "os.PathLike[str]", PIL.Image.Image, "npt.NDArray[np.uint8]", Tensor]

_KINDS = "a path, a PIL image, a uint8 array [H, W, 3] or a tensor [3, H, W]"

# Pillow decides by content, not by name, and some of its other formats start programs (EPS: Ghostscript).
_FORMATS = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm"),
    "JPEG2000": (".jp2",),
    "AVIF": (".avif",),
}
_16_BIT_FORMATS = ("PNG", "PPM")  # their mode "I" holds 16 bits: Pillow scales PPM to 0..65535, PNG has no more
_DTYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
_LEAST, _MOST = -0.5, 2.0  # for floats that should lie in 0..1: resizing may overshoot

IMAGE_SUFFIXES = tuple(suffix for suffixes in _FORMATS.values() for suffix in suffixes)


@contextlib.contextmanager
def open_image(path: str | os.PathLike[str]) -> Iterator[PIL.Image.Image]:
    """Open an image file and read its header. All image files are opened here.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not regular, has none of the formats of IMAGE_SUFFIXES, is damaged, or is so large that
            Pillow refuses it. Any error in the `with` block becomes such a ValueError.
    """
    require_input_file(path)
    with _read_errors(path), PIL.Image.open(path, formats=_readable_formats()) as image:
        yield image


@contextlib.contextmanager
def _read_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn any error of the `with` block into a ValueError: Pillow raises many kinds for a damaged file."""
    try:
        yield
    except Exception as error:
        reason = failure_reason(error)
        if isinstance(error, PIL.UnidentifiedImageError):  # its message is only the path
            reason = f"expected one of {', '.join(_readable_formats())}, got another format or a damaged file"
        raise ValueError(f"cannot read image {shown_path(path)}: {reason}") from error


@functools.cache
def _readable_formats() -> tuple[str, ...]:
    """Return the names in _FORMATS that this Pillow knows."""
    PIL.Image.init()
    return tuple(name for name in _FORMATS if name in PIL.Image.OPEN)


def as_image_tensors(
    images: Image | Sequence[Image], device: torch.device | str | None = None
) -> Tensor | list[Tensor]:
    """Convert one image, a list of images or a batch [N, 3, H, W] to tensors on one device and of one dtype.

    Returns:
        A batch as it is, anything else as a list of [3, H, W]. If bytes and floats are mixed, all are float32.

    Raises:
        FileNotFoundError: as for as_image_tensor, with the number of the image.
        ValueError: likewise.
        TypeError: likewise.
    """
    if isinstance(images, Tensor) and images.ndim == 4:
        return _from_tensor(images).to(device)
    if isinstance(images, np.ndarray) and images.ndim == 4:
        images = list(images)
    tensors = []
    for index, image in enumerate(images if isinstance(images, (list, tuple)) else [images]):
        try:
            tensors.append(as_image_tensor(image, device))
        except (FileNotFoundError, TypeError, ValueError) as error:
            raise type(error)(f"image {index}: {error}") from error
    if len({tensor.dtype for tensor in tensors}) > 1:
        tensors = [tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor.float() for tensor in tensors]
    return tensors


def as_image_tensor(image: Image, device: torch.device | str | None = None) -> Tensor:
    """Convert one image to an RGB tensor [3, H, W], uint8, or floating point if it is given as such a tensor.

    Files and PIL images are turned upright by their EXIF orientation and may be of any mode but "F" and a 32-bit "I";
    16-bit gray keeps its upper byte. Gray is repeated over the channels; alpha channels are dropped, not blended.

    Args:
        image: a path; a PIL image; a uint8 array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]; a tensor [1, H, W], [3, H,
            W] or [4, H, W], uint8 or floating point in 0..1.
        device: of the result; None: where the image is.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read as an image (see open_image); another shape; more than 2**31 elements that
            would have to be copied; or, on the CPU, floats that are NaN or far from 0..1.
        TypeError: another kind or dtype; a masked array, a sparse tensor or the like.
    """
    if isinstance(image, (str, os.PathLike)):
        with open_image(image) as file:
            array = _pixels(file)
        return _from_array(array).to(device)
    if isinstance(image, PIL.Image.Image):
        with _read_errors(getattr(image, "filename", "") or f"of mode {image.mode}"):  # only now is its file read
            array = _pixels(image)
        return _from_array(array).to(device)
    if isinstance(image, np.ndarray):
        return _from_array(image).to(device)
    if isinstance(image, Tensor):
        if image.ndim != 3:
            raise ValueError(f"expected a tensor [3, H, W], got {tuple(image.shape)}")
        return _from_tensor(image).to(device)
    raise TypeError(f"expected {_KINDS}, got {type(image).__name__}")


def _pixels(image: PIL.Image.Image) -> npt.NDArray[np.uint8]:
    """Return an image upright, as uint8 [H, W, 3], or [H, W] from 16-bit gray."""
    upright = PIL.ImageOps.exif_transpose(image)
    if upright.mode == "I" and image.format in _16_BIT_FORMATS:
        return (np.asarray(upright) >> 8).astype(np.uint8)
    if upright.mode in ("I", "F"):
        raise ValueError(f"images of mode {upright.mode!r} do not define white: convert them to uint8 first")
    if upright.mode.startswith("I;16"):
        return (np.asarray(upright) >> 8).astype(np.uint8)
    if upright.mode == "La":  # the only mode that Pillow converts it to
        upright = upright.convert("LA")
    if upright.mode == "P":  # by way of RGBA, because a palette may hold transparent entries
        upright = upright.convert("RGBA")
    return np.array(upright.convert("RGB"))


def _from_array(array: npt.NDArray[np.uint8]) -> Tensor:
    if (fault := value_fault(array)) is not None:
        raise TypeError(fault)
    if array.dtype != np.uint8:
        raise TypeError(
            f"expected a uint8 array [H, W, 3], got {array.dtype}; give floats in 0..1 as tensors [3, H, W]"
        )
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ValueError(f"expected an array [H, W, 3], got {array.shape}")
    if not (array.flags.c_contiguous and array.flags.writeable) and (fault := copy_fault(array)) is not None:
        raise ValueError(fault)
    return _rgb(torch.from_numpy(np.require(array, requirements=["C", "W"])).permute(2, 0, 1))


def _from_tensor(image: Tensor) -> Tensor:
    """Check and convert a tensor that is given as an image or a batch, whose values have to be looked at."""
    if (fault := value_fault(image)) is not None:
        raise TypeError(fault)
    if image.device.type == "meta":
        raise TypeError("expected a tensor [3, H, W] that has values, got one on the meta device")
    if image.dtype not in _DTYPES:
        raise TypeError(f"expected a tensor of uint8, or floating point in 0..1, got {image.dtype}")
    if not image.is_contiguous() and (fault := copy_fault(image)) is not None:
        raise ValueError(fault)
    rgb = _rgb(image)
    on_cpu = image.device.type == "cpu"  # elsewhere, looking would synchronize
    if on_cpu and image.is_floating_point() and image.numel():
        least, most = (float(value) for value in image.detach().aminmax())
        if not _LEAST <= least <= most <= _MOST:  # false too if they are NaN
            raise ValueError(f"expected floating-point values in 0..1, got {least:g} to {most:g}")
    return rgb


def _rgb(image: Tensor) -> Tensor:
    """Convert [..., 1 | 3 | 4, H, W] to [..., 3, H, W]."""
    if image.shape[-3] not in (1, 3, 4):
        raise ValueError(f"expected a tensor [3, H, W], got {tuple(image.shape)}")
    return image.expand(*image.shape[:-3], 3, -1, -1) if image.shape[-3] == 1 else image[..., :3, :, :]
