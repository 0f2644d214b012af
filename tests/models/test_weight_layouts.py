"""Weights of other projects' SSDs: networks here, filled from their tensors, give the original networks' outputs.

The originals ran once (golden/make_weight_layouts.py), with weights computed from their tensors' names and shapes.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import ssd_fast
from helpers import goldens, weight_recipes
from helpers.inputs import nvidia_heads
from ssd_fast.assets import asset_path
from ssd_fast.detector import load_detector
from ssd_fast.models import (
    list_networks,
    load_network,
    load_weights,
    save_weights,
    ssd300_vgg16,
    ssdlite320_mobilenet_v3_large,
)
from ssd_fast.models.registry import make_network
from ssd_fast.models.weights.layouts import LAYOUTS, convert, detect_layout
from ssd_fast.models.weights.recognition import adopt_dialect

NETWORKS = {
    "amdegroot_ssd300_vgg16": "amdegroot_ssd300_voc",
    "lufficc_ssd300_vgg16": "lufficc_ssd300_voc",
    "lufficc_ssd512_vgg16": "lufficc_ssd512_voc",
    "qfgaohao_ssd300_vgg16": "qfgaohao_vgg16",
    "mmdetection_ssd300_vgg16": "mmdet_ssd300_voc",
    "mmdetection_ssd512_vgg16": "mmdet_ssd512_voc",
    "nvidia_ssd300_resnet50": "nvidia_ssd300_coco",
}
MEANS = {"mmdetection": (123.675, 116.28, 103.53), "nvidia": (0.485, 0.456, 0.406)}


@pytest.mark.parametrize("case", NETWORKS)
@torch.no_grad()
def test_heads_equal_original(case, tmp_path):
    golden = goldens.load("weight_layouts", case)
    layout, _, name = case.partition("_")
    path = tmp_path / "theirs.pth"
    tensors = weight_recipes.weights(golden["tensors"])
    if case == "mmdetection_ssd300_vgg16":  # saved as mmengine, lufficc and DataParallel do
        torch.save({"meta": {"epoch": 24}, "state_dict": tensors}, path)
    elif layout == "lufficc":
        torch.save({"model": {f"module.{key}": tensor for key, tensor in tensors.items()}}, path)
    elif layout == "nvidia":
        weight_recipes.save_as_nvidia(tensors, path)
    elif layout == "qfgaohao":  # from before torch 0.4.1
        torch.save({key: tensor for key, tensor in tensors.items() if "num_batches" not in key}, path)
    else:
        path = path.with_suffix(".safetensors")
        save_file(tensors, path)

    network, classes = load_network(path)
    assert network.name == name and network.num_classes == (81 if layout == "nvidia" else 21) and classes is None
    assert network.preset.name == NETWORKS[case]
    assert network.preprocessing.mean == MEANS.get(layout, (123, 117, 104))
    bbox_regression, cls_logits = network.eval()(weight_recipes.image(network.preprocessing.size[0]))

    expected = torch.from_numpy(golden["cls_logits"])
    if layout == "mmdetection":  # its background is the last column
        expected = torch.cat([expected[:, -1:], expected[:, :-1]], dim=1)
    if layout == "nvidia":
        spec = network.preset.default_boxes
        bbox_regression, cls_logits = (nvidia_heads(x, spec).transpose(1, 2) for x in (bbox_regression, cls_logits))
    assert bbox_regression.shape[1] == golden["num_rows"] == network.preset.default_boxes.num_boxes
    for ours, theirs in ((bbox_regression, torch.from_numpy(golden["bbox_regression"])), (cls_logits, expected)):
        assert theirs.abs().max() > 5  # not an agreement of zeros
        torch.testing.assert_close(ours[0, golden["rows"].astype(np.int64)], theirs, rtol=1e-4, atol=1e-4)

    filled = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    for tensor in network.state_dict().values():
        tensor.zero_()
    load_weights(network, path, layout)
    assert all(torch.equal(tensor, filled[key]) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize("case", NETWORKS)
def test_detect_layout_distinguishes_layouts(case):
    names = [name for name, _ in goldens.load("weight_layouts", case)["tensors"]]
    assert detect_layout(names) == detect_layout([f"module.{name}" for name in names]) == case.partition("_")[0]


def test_detect_layout_takes_own_names_for_own():
    with torch.device("meta"):
        for name in (name for name in list_networks() if name != "ssd_tiny"):
            tensors = make_network(name, 3).state_dict()
            assert detect_layout(tensors) == "own"
            assert convert(tensors, "own") == convert(tensors, "torchvision") == tensors


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bbox_head.cls_convs.0.weight", r"mmdetection.*upgrade_ssd_version\.py"),
        ("base_net.0.0.weight", "qfgaohao.*MobileNet"),
        ("box_head.predictor.cls_headers.0.conv.0.weight", "lufficc.*SSDLite"),
    ],
)
def test_known_files_of_unsupported_networks_are_named(name, message, tmp_path):
    save_file({name: torch.zeros(1)}, tmp_path / "theirs.safetensors")
    with pytest.raises(ValueError, match=rf"theirs\.safetensors: the file is {message}"):
        load_network(tmp_path / "theirs.safetensors")
    with pytest.raises(ValueError, match=rf"theirs\.safetensors: the file is {message}"):
        load_weights(ssdlite320_mobilenet_v3_large(2), tmp_path / "theirs.safetensors")


def test_convert_moves_background_of_mmdetection_first():
    """The heads have two default boxes per cell and three columns, of which the last is the background."""
    ours = convert(
        {
            "bbox_head.reg_convs.0.0.bias": torch.zeros(8),
            "bbox_head.reg_convs.0.0.weight": torch.zeros(8, 1, 1, 1),
            "bbox_head.cls_convs.0.0.bias": torch.tensor([1.0, 2.0, 0.0, 11.0, 12.0, 10.0]),
            "bbox_head.cls_convs.0.0.weight": torch.tensor([1.0, 2.0, 0.0, 11.0, 12.0, 10.0]).view(6, 1, 1, 1),
        },
        "mmdetection",
    )
    for kind in ("bias", "weight"):
        columns = ours[f"head.classification_head.module_list.0.{kind}"].flatten().tolist()
        assert columns == [0, 1, 2, 10, 11, 12], kind
    with pytest.raises(ValueError, match=r"reg_convs.*boxes per cell"):
        convert({"bbox_head.cls_convs.0.0.bias": torch.zeros(6)}, "mmdetection")


def test_convert_reorders_channels_of_nvidia():
    """With two default boxes per cell and three columns, c * 2 + a becomes a * 3 + c; likewise for the four offsets."""
    ours = convert(
        {
            "loc.0.bias": torch.tensor([1.0, 11.0, 2.0, 12.0, 3.0, 13.0, 4.0, 14.0]),
            "loc.0.weight": torch.zeros(8, 1, 1, 1),
            "conf.0.bias": torch.tensor([0.0, 10.0, 1.0, 11.0, 2.0, 12.0]),
            "conf.0.weight": torch.tensor([0.0, 10.0, 1.0, 11.0, 2.0, 12.0]).view(6, 1, 1, 1),
        },
        "nvidia",
    )
    assert ours["head.regression_head.module_list.0.bias"].tolist() == [1, 2, 3, 4, 11, 12, 13, 14]
    for kind in ("bias", "weight"):
        columns = ours[f"head.classification_head.module_list.0.{kind}"].flatten().tolist()
        assert columns == [0, 1, 2, 10, 11, 12], kind
    with pytest.raises(ValueError, match=r"^loc does not tell how many boxes per cell head\.classification_head.*has"):
        convert({"conf.0.bias": torch.zeros(6)}, "nvidia")


@pytest.mark.parametrize(("layout", "background"), [("mmdetection", 0), ("lufficc", 0)])
def test_adopted_preset_has_background_of_converted_weights(layout, background):
    with torch.device("meta"):
        network = make_network("ssd300_vgg16", 81)
    adopt_dialect(network, layout)
    assert network.preset.name == {"mmdetection": "mmdet_ssd300_coco", "lufficc": "lufficc_ssd300_coco"}[layout]
    assert network.preset.postprocess.background == background
    assert network.preset.loss is not None and network.preset.loss.background == background


@pytest.mark.parametrize(
    ("case", "preset"),
    [
        ("mmdetection_ssd300_vgg16", "mmdet_ssd300_voc"),
        ("mmdetection_ssd512_vgg16", "mmdet_ssd512_coco"),
        ("amdegroot_ssd300_vgg16", "amdegroot_ssd300_coco"),
        ("lufficc_ssd300_vgg16", "lufficc_ssd300_voc"),
        ("lufficc_ssd512_vgg16", "lufficc_ssd512_coco"),
    ],
)
def test_load_network_refuses_ambiguous_preset(case, preset, tmp_path):
    """Use files of five columns whose logits all rank the background first and class 2 second."""
    layout, _, name = case.partition("_")
    columns = [-5.0, 2.0, -5.0, -5.0, 3.0] if layout == "mmdetection" else [3.0, -5.0, 2.0, -5.0, -5.0]
    path = tmp_path / "theirs.pth"
    torch.save(weight_recipes.fine_tuned(goldens.load("weight_layouts", case)["tensors"], columns), path)
    voc, coco = (preset.replace("coco", "voc"), preset.replace("voc", "coco"))
    message = (
        rf"theirs\.pth: a {name} of {layout} with 5 class columns can have the default boxes of {voc} or {coco}: "
        rf'choose one, as in load_network\(path, preset="{voc}"\)'
    )
    with pytest.raises(ValueError, match=message):
        load_network(path)
    with pytest.raises(ValueError, match=rf"preset: expected {voc} or {coco} for a {name} of {layout}, got 'caffe'"):
        load_network(path, preset="caffe")

    network, _ = load_network(path, preset=preset)
    save_weights(network, tmp_path / "ours.safetensors")
    detector = load_detector(tmp_path / "ours.safetensors", device="cpu")
    assert detector.preset == network.preset and detector.network.preprocessing == network.preprocessing
    assert detector.preset.name == preset and detector.classes[0] == "background"
    assert detector.preset.default_boxes == ssd_fast.preset(preset).default_boxes
    assert detector.preset.loss is not None and detector.preset.loss.background == 0
    assert detector.network.preprocessing.mean == MEANS.get(layout, (123, 117, 104))
    (found,) = detector(asset_path("chelsea.jpg")).to_list()
    assert len(found["labels"]) > 0 and set(found["labels"].tolist()) == {2}
    second_best = torch.tensor(columns).softmax(0).sort()[0][-2]
    torch.testing.assert_close(found["scores"], second_best.expand_as(found["scores"]))
    with pytest.raises(
        ValueError, match=rf"ours\.safetensors: preset: expected None, since the file holds its own, got '{preset}'"
    ):
        load_network(tmp_path / "ours.safetensors", preset=preset)


def test_adopt_dialect_refuses_presets_that_project_lacks():
    with torch.device("meta"):
        network = make_network("ssd512_vgg16", 21)
    for layout in ("qfgaohao", "nvidia"):
        with pytest.raises(ValueError, match=rf"ssd512_vgg16 of {layout}.*no known preset"):
            adopt_dialect(network, layout)
    with pytest.raises(ValueError, match="preset: expected None for a ssd512_vgg16 of own, got 'caffe_ssd512_voc'"):
        adopt_dialect(network, "own", "caffe_ssd512_voc")
    with torch.device("meta"):
        network = make_network("ssd300_resnet50", 5)
    own = network.preset
    adopt_dialect(network, "nvidia", "nvidia_ssd300_coco")
    assert network.preset == own


@torch.no_grad()
def test_preprocessing_is_saved_with_weights(tmp_path):
    network = ssdlite320_mobilenet_v3_large(2)
    own = network.preprocessing
    network.preprocessing = type(own)((320, 320), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), 255.0, "corner")
    save_weights(network, tmp_path / "mine.safetensors")
    assert load_network(tmp_path / "mine.safetensors")[0].preprocessing == network.preprocessing != own


@pytest.mark.parametrize("given", ["own", *(layout for layout in LAYOUTS if layout not in ("own", "torchvision"))])
def test_file_of_another_layout_than_named_is_refused(given, tmp_path):
    """A wrong layout is refused even where the heads would fit, since moving their channels would spoil them."""
    if given == "own":
        with torch.device("meta"):
            names = list(ssd300_vgg16(3).state_dict())
        got = r"own or unknown names: (backbone\.[\w.]+, ){4}\.\.\."
    else:
        case = next(case for case in NETWORKS if case.startswith(given))
        names = [name for name, _ in goldens.load("weight_layouts", case)["tensors"]]
        got = rf"{given}'s: [a-z_]+\."
    save_file({f"module.{name}": torch.zeros(1) for name in names}, tmp_path / "theirs.safetensors")
    with torch.device("meta"):
        network = ssd300_vgg16(3)
    same = ("own", "torchvision") if given == "own" else (given,)
    for layout in LAYOUTS:
        expected = rf"theirs\.safetensors: layout: expected {layout}'s tensors(, such as [a-z_]+\..*)?, got {got}"
        if layout in same:
            assert detect_layout(names, layout) == given
        else:
            with pytest.raises(ValueError, match=expected):
                load_weights(network, tmp_path / "theirs.safetensors", layout)


def test_file_of_unknown_layout_lists_tensors_that_do_not_fit(tmp_path):
    """No tensor is renamed, so all are missing and all are unknown."""
    names = goldens.load("weight_layouts", "amdegroot_ssd300_vgg16")["tensors"]
    torch.save({f"net.{name}": torch.zeros(1) for name, _ in names}, tmp_path / "theirs.pth")
    with torch.device("meta"):
        network = ssd300_vgg16(21)
    with pytest.raises(ValueError) as raised:
        load_weights(network, tmp_path / "theirs.pth")
    lines = str(raised.value).splitlines()
    assert lines[0].endswith("does not fit SSD300VGG16: 71 missing, 71 unknown")
    assert lines[1].split() == ["tensor", "in", "the", "file", "in", "the", "network"]
    assert ["backbone.features.0.weight", "-", "(64, 3, 3, 3)"] in [line.split(maxsplit=2) for line in lines]
    assert ["net.vgg.0.weight", "(1,)", "-"] in [line.split() for line in lines]
    assert "  ... and 65 more missing" in lines and "  ... and 65 more unknown" in lines
    assert len(lines) == 2 + 7 + 7


def test_l2_norm_does_not_take_place_of_batch_norm(tmp_path):
    names = goldens.load("weight_layouts", "qfgaohao_ssd300_vgg16")["tensors"]
    tensors = {name: torch.zeros(shape) if len(shape) == 1 else torch.zeros(1) for name, shape in names}
    save_file(tensors, tmp_path / "theirs.safetensors")
    with torch.device("meta"):
        network = ssd300_vgg16(21)
    with pytest.raises(ValueError, match=r'1 missing, 5 unknown.*\n(.*\n)*.*conv4_3_norm="batch_norm"'):
        load_weights(network, tmp_path / "theirs.safetensors")
    with pytest.raises(ValueError, match=r"conv4_3_norm: expected 'l2_norm' or 'batch_norm', got 'l1'"):
        ssd300_vgg16(21, "l1")


def test_layouts_are_documented():
    assert LAYOUTS == ("own", "torchvision", "amdegroot", "lufficc", "qfgaohao", "mmdetection", "nvidia")
    assert all(f'"{layout}"' in str(load_weights.__doc__) for layout in (*LAYOUTS, "auto"))
