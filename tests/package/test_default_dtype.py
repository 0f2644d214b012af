"""Results do not depend on torch's default dtype, which a program may have changed for its own work."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ssd_fast
from helpers import training_cases
from ssd_fast import MatcherSpec, SSDCriterion, load_detector
from ssd_fast.assets import asset_path
from ssd_fast.compat import opencv
from ssd_fast.evaluation import evaluate
from ssd_fast.models import list_networks, make_network
from ssd_fast.reference import postprocess as reference_postprocess

pytestmark = pytest.mark.usefixtures("one_thread")

PRESET = ssd_fast.preset("torchvision_ssdlite320_mobilenet_v3_large")
DEFAULTS = [torch.float64, torch.float16]
_MAKERS = {"empty", "eye", "full", "linspace", "logspace", "ones", "rand", "randn", "scalar_tensor", "zeros"}


@pytest.fixture(params=DEFAULTS, ids=str)
def other_default(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    """The test sets this default after it has computed its expectation; the fixture resets it in any case."""
    yield request.param
    torch.set_default_dtype(torch.float32)


def assert_same(call: Any, default: torch.dtype) -> None:
    """Check that the call gives tensors, and the same ones with the other default."""
    expected = call()
    assert expected
    torch.set_default_dtype(default)
    for ours, theirs in zip(call(), expected, strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)


def heads() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    rows = len(ssd_fast.default_boxes(PRESET.default_boxes))
    options = {"generator": generator, "dtype": torch.float32}
    return torch.randn(1, rows, 4, **options), torch.randn(1, rows, 3, **options)


def test_detector_ignores_default_dtype(other_default):
    photos = [asset_path("chelsea.jpg"), asset_path("coffee.jpg")]
    assert_same(lambda: tuple(load_detector(device="cpu")(photos, 0.2)), other_default)
    assert_same(lambda: tuple(load_detector(device="cpu", tile=256)(photos[:1], 0.2)), other_default)


def test_criterion_ignores_default_dtype(other_default):
    def losses() -> list[torch.Tensor]:
        deltas, logits = (head.requires_grad_() for head in heads())
        boxes = [torch.tensor([[20, 30, 200, 220]], dtype=torch.float32)]
        criterion = SSDCriterion.from_preset(PRESET, reduce_positives=True)
        found = criterion(logits, deltas, boxes, [torch.tensor([1])])
        sum(found.values()).backward()
        return [*found.values(), deltas.grad, logits.grad]

    assert_same(losses, other_default)


@pytest.mark.parametrize("postprocess", [ssd_fast.postprocess, reference_postprocess], ids=["op", "reference"])
def test_postprocess_ignores_default_dtype(other_default, postprocess):
    boxes = ssd_fast.default_boxes(PRESET.default_boxes)[:300]
    deltas, logits = (head[:, :300] for head in heads())
    sizes = {"image_sizes": (320, 320), "original_sizes": [(480, 640)]}
    call = {"spec": PRESET.postprocess, "coder": PRESET.coder, **sizes}
    assert_same(lambda: tuple(postprocess(logits, deltas, boxes, **call)), other_default)


def test_match_ignores_default_dtype(other_default):
    boxes = torch.tensor([[0, 0, 10, 10]], dtype=torch.float32)
    assert_same(lambda: [ssd_fast.match([boxes], boxes, MatcherSpec())], other_default)


def test_training_and_evaluation_ignore_default_dtype(other_default, tmp_path):
    dataset = training_cases.make_dataset(tmp_path / "photos")
    config = training_cases.small_config(epochs=1, zoom_out_share=0.9, photometric=0.9, crop_share=0.9)

    def trained() -> list[torch.Tensor]:
        folder = tmp_path / str(torch.get_default_dtype())
        detector = load_detector(training_cases.train_small(dataset, folder, config), device="cpu")
        result = evaluate(detector, dataset)
        return [*detector.network.state_dict().values(), torch.tensor(result.ap50, dtype=torch.float64)]

    assert_same(trained, other_default)


@pytest.mark.parametrize("name", list_networks())
def test_networks_have_float32_parameters(other_default, name):
    torch.set_default_dtype(other_default)
    with torch.device("meta"):
        network = make_network(name, 3)
    kinds = {tensor.dtype for tensor in network.state_dict().values() if tensor.is_floating_point()}
    assert kinds == {torch.float32} and torch.get_default_dtype() == other_default


def test_no_tensor_is_made_with_default_dtype():
    """A tensor made without a dtype would get another one with another default."""
    calls, without = 0, []
    for path in Path(ssd_fast.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _takes_the_default(node):
                calls += 1
                if all(word.arg != "dtype" for word in node.keywords):
                    without.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
    assert calls > 30 and not without


def _takes_the_default(call: ast.Call) -> bool:
    """Return whether the call makes a tensor from anything but a NumPy array, which has a dtype."""
    module, _, name = ast.unparse(call.func).rpartition(".")
    numbers = name == "tensor" and isinstance(call.args[0], (ast.List, ast.ListComp, ast.Constant, ast.BinOp))
    return module == "torch" and (name in _MAKERS or numbers)


def test_numpy_blobs_keep_their_dtype(other_default):
    blobs = np.zeros((1, 4), np.float32), np.full((1, 2), 0.5, np.float32), np.full((1, 2, 4), 0.5, np.float32)
    call = {"num_classes": 2, "nms_threshold": 0.5, "keep_top_k": 5}
    assert_same(lambda: [torch.from_numpy(opencv.detection_out(*blobs, **call))], other_default)
