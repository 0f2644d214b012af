"""Files that users name: only regular ones are read, only images are decoded, and none is written through a link."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.EpsImagePlugin
import PIL.Image
import pytest

import ssd_fast
from helpers.cli_checks import FAILED, FINE, one_line, run
from helpers.dataset_files import coco_data, folder_data, object_xml, save_image, write_json, write_voc
from ssd_fast import load_detector
from ssd_fast._io.writing import require_output_file
from ssd_fast.assets import asset_path
from ssd_fast.datasets import open_dataset
from ssd_fast.datasets.files import image_size, read_json, read_xml
from ssd_fast.evaluation import evaluate_detections
from ssd_fast.ground_truth import GroundTruthError
from ssd_fast.images import IMAGE_SUFFIXES, as_image_tensor

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def put_pipe(path: Path) -> str:
    os.mkfifo(path)
    return "a named pipe"


def put_folder(path: Path) -> str:
    path.mkdir()
    return "a folder"


def put_device(path: Path) -> str:
    path.symlink_to("/dev/zero")
    return "a device"


def put_socket(path: Path) -> str:
    os.chdir(path.parent)  # the path of a socket has to be short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)
    return "a socket"


PLANTED: list[Callable[[Path], str]] = [put_pipe, put_folder, put_device, put_socket]


@pytest.fixture(params=PLANTED, ids=lambda put: put.__name__)
def planted(request, tmp_path, monkeypatch) -> Callable[[Path], str]:
    monkeypatch.chdir(tmp_path)  # and back
    return request.param


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (as_image_tensor, "x.png"),
        (image_size, "x.png"),
        (read_json, "x.json"),
        (read_xml, "x.xml"),
        (load_detector, "x.safetensors"),
        (load_detector, "x.pth"),
    ],
)
def test_only_regular_files_are_read(tmp_path, planted, read, name):
    given = planted(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name}: expected a regular file, got {given}"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("kind", "file", "opened"),
    [
        ("folder", "1.png", ""),
        ("folder", "annotations.json", ""),
        ("coco", "1.png", "x.json"),
        ("coco", "x.json", "x.json"),
        ("voc", "JPEGImages/b.png", ""),
        ("voc", "Annotations/b.xml", ""),
    ],
)
def test_only_regular_files_of_a_dataset_are_read(tmp_path, planted, kind, file, opened):
    write_json(tmp_path / "folder" / "annotations.json", folder_data())
    write_json(tmp_path / "coco" / "x.json", coco_data())
    write_voc(tmp_path / "voc", {"a": object_xml(), "b": object_xml()})
    file, opened = tmp_path / kind / file, tmp_path / kind / opened
    file.unlink()
    given = planted(file)
    expected = (
        "COCO: expected a file" if opened.is_dir() and file == opened else f"expected a regular file, got {given}"
    )
    with pytest.raises(GroundTruthError, match=f"{file.name}: {expected}"):
        open_dataset(opened, format=kind)


def test_file_names_that_system_refuses_are_named(tmp_path):
    for name, reason in (("x" * 300 + ".png", "File name too long"), ("a\0.png", "null")):
        with pytest.raises(ValueError, match=f"cannot be read: .*{reason}"):
            as_image_tensor(tmp_path / name)
    data = coco_data()
    data["images"][0]["file_name"] = "x" * 300 + ".png"
    with pytest.raises(ValueError, match="File name too long"):
        open_dataset(write_json(tmp_path / "x.json", data))
    with pytest.raises(FileNotFoundError, match="does not exist"):
        open_dataset(tmp_path / ("x" * 300))
    one_line(run("detect", tmp_path / ("x" * 300 + ".png")), "File name too long")
    (tmp_path / "loop.png").symlink_to("loop.png")
    one_line(run("detect", tmp_path / "loop.png"), "loop.png", "symbolic links")
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "out"
    one_line(run("detect", asset_path("chelsea.jpg"), "--out", folder), f"--out {folder}: cannot create this folder")


@pytest.mark.parametrize("read", [as_image_tensor, image_size])
def test_suffix_does_not_make_other_format_an_image(tmp_path, monkeypatch, read):
    started = []
    monkeypatch.setattr(PIL.EpsImagePlugin, "Ghostscript", lambda *_, **__: started.append(1))
    (tmp_path / "x.png").write_bytes(EPS)
    with pytest.raises(ValueError, match=r"cannot read image .*x\.png: expected one of JPEG, PNG, .*got another"):
        read(tmp_path / "x.png")
    pixels = PIL.Image.fromarray(np.zeros((4, 4, 3), np.uint8))
    for kind in ("TGA", "PCX", "ICO", "SGI"):
        pixels.save(tmp_path / "y.png", kind)
        with pytest.raises(ValueError, match=r"cannot read image .*y\.png: expected one of"):
            read(tmp_path / "y.png")
    assert not started


@pytest.mark.parametrize(
    ("call", "module"), [(r"Image\.open\(", "images.py"), (r"import Console\b|(?<![.\w])print\(", "cli/_output.py")]
)
def test_only_one_module_opens_images_and_only_one_prints(call, module):
    package = Path(ssd_fast.__file__).parent
    found = {
        path.relative_to(package).as_posix() for path in package.rglob("*.py") if re.search(call, path.read_text())
    }
    assert found == {module}


def test_every_accepted_suffix_is_read(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 200
    for suffix in IMAGE_SUFFIXES:
        path = tmp_path / f"x{suffix}"
        try:
            PIL.Image.fromarray(pixels).convert("L" if suffix == ".pgm" else "RGB").save(path)
        except (KeyError, OSError, ValueError):  # this Pillow has no encoder for it
            assert suffix in (".avif", ".webp", ".jp2")
            continue
        image = as_image_tensor(path)
        assert image.shape == (3, 8, 16) and image_size(path) == (8, 16)
        assert abs(int(image[0, 4, 2]) - 200) < 16 and int(image[0, 4, 13]) < 16


def test_decompression_bomb_is_named(tmp_path, monkeypatch):
    path = save_image(tmp_path / "x.png", (30, 40))
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 500)
    for read in (as_image_tensor, image_size):
        with pytest.raises(ValueError, match=r"cannot read image .*x\.png: .*exceeds limit"):
            read(path)


def test_pictures_are_not_written_through_links(tmp_path):
    kept = tmp_path / "kept.txt"
    kept.write_text("precious")
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "out").symlink_to(real)  # a folder may be a link
    photo = asset_path("chelsea.jpg")
    assert run("detect", photo, "--out", tmp_path / "out").exit_code == FINE
    assert run("detect", photo, "--out", tmp_path / "out").exit_code == FINE, "an earlier picture is not overwritten"
    (real / "chelsea_detections.png").unlink()
    for target in (kept, tmp_path / "nothing"):
        (real / "chelsea_detections.png").symlink_to(target)
        one_line(run("detect", photo, "--out", tmp_path / "out"), "chelsea_detections.png", "got a symbolic link")
        (real / "chelsea_detections.png").unlink()
    assert kept.read_text() == "precious" and not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("option", ["--plot", "--detections"])
def test_evaluation_results_are_not_written_through_links(tmp_path, option):
    pytest.importorskip("pycocotools", reason="pycocotools, which computes COCO AP, is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib, which draws the curves, is not installed")
    path = write_json(tmp_path / "annotations.json", folder_data())
    link = tmp_path / ("found.json" if option == "--detections" else "curves.png")
    link.symlink_to(tmp_path / "nothing")
    result = run("eval", path, option, link, "--device", "cpu", "--ignore-missing")
    assert result.exit_code == FAILED
    one_line(result, link.name, "expected a new file or a regular file to overwrite, got a symbolic link")
    assert "evaluating" not in result.stderr, "the link is refused after the work"
    assert not (tmp_path / "nothing").exists()
    if option == "--plot":
        dataset = open_dataset(path)
        found = [{"boxes": s.boxes, "scores": np.ones(len(s.boxes)), "labels": s.labels} for s in dataset.samples]
        with pytest.raises(OSError, match=r"curves\.png: .*got a symbolic link"):
            evaluate_detections(found, dataset).plot(link)


def test_demo_does_not_write_through_links(tmp_path):
    (tmp_path / "coffee.png").symlink_to(tmp_path / "nothing")
    one_line(run("demo", "--out", tmp_path), "coffee.png", "got a symbolic link")
    assert not (tmp_path / "nothing").exists()


def test_output_file_must_be_new_or_regular(tmp_path, planted):
    require_output_file(tmp_path / "new.png")
    require_output_file(tmp_path / "missing" / "new.png")
    (tmp_path / "old.png").write_text("")
    require_output_file(tmp_path / "old.png")
    given = planted(tmp_path / "x.png").replace("a device", "a symbolic link")
    with pytest.raises(OSError, match=rf"x\.png: cannot be written: expected a new file .* got {given}"):
        require_output_file(tmp_path / "x.png")
