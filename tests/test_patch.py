"""torchvision's SSDs, patched: the same detections as before, and everything else untouched."""

from __future__ import annotations

import copy
import io
import math
import pickle
import subprocess
import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterator

import pytest
import torch
from checks import one_thread
from comparators import Candidates, Limits, assert_same_detections
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, RetinaNet, ssd300_vgg16, ssdlite320_mobilenet_v3_large
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

from ssd_fast.compat import patch, patched, unpatch

SIDE, COLUMNS = 64, 5


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


class TinyBackbone(nn.Module):
    """Two feature maps, 8x8 and 4x4."""

    out_channels = (8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 8, stride=8)
        self.second = nn.Conv2d(8, 8, 2, stride=2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        first = self.first(x)
        return OrderedDict([("first", first), ("second", self.second(first))])


def tiny_ssd(cls: type[SSD] = SSD) -> SSD:
    torch.manual_seed(7)
    model = cls(TinyBackbone(), DefaultBoxGenerator([[2], [2, 3]]), (SIDE, SIDE), COLUMNS).eval()
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.mul_(8)
    return model


def images(*sizes: tuple[int, int], seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(3, height, width, generator=generator) for height, width in sizes]


def head_outputs(n: int, p: int, c: int, background: float, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    cls_logits = 2 * torch.randn(n, p, c, generator=generator)
    cls_logits[..., 0] += background
    return {"cls_logits": cls_logits, "bbox_regression": torch.randn(n, p, 4, generator=generator)}


def anchors_of(model: SSD, maps: tuple[int, ...], side: int, n: int) -> list[Tensor]:
    batch = ImageList(torch.zeros(1, 3, side, side), [(side, side)] * n)
    return model.anchor_generator(batch, [torch.zeros(1, 1, size, size) for size in maps])


def limits(model: SSD, columns: int) -> Limits:
    return Limits(
        model.score_thresh,
        model.nms_thresh,
        model.detections_per_img,
        model.topk_candidates,
        largest_coordinate=columns * (model.transform.fixed_size[0] + 1),  # torchvision shifts classes apart
    )


def assert_same_dicts(actual: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]) -> None:
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected, strict=True):
        assert list(ours) == list(theirs) == ["boxes", "scores", "labels"]
        for field in ours:
            assert ours[field].dtype == theirs[field].dtype and ours[field].shape == theirs[field].shape
            torch.testing.assert_close(ours[field], theirs[field], rtol=0, atol=1e-4)


MODELS = {
    "ssd300": (ssd300_vgg16, (38, 19, 10, 5, 3, 1), 300),
    "ssdlite320": (ssdlite320_mobilenet_v3_large, (20, 10, 5, 3, 2, 1), 320),
}


@pytest.fixture(scope="module", params=list(MODELS))
def known(request) -> tuple[SSD, tuple[int, ...], int]:
    make, maps, side = MODELS[request.param]
    return make(weights=None, weights_backbone=None).eval(), maps, side


@pytest.mark.parametrize("columns", [21, 91])
@pytest.mark.parametrize("n", [1, 8])
@pytest.mark.parametrize("density", ["sparse", "dense"])
def test_equals_torchvision_on_its_models(known, columns, n, density):
    model, maps, side = known
    anchors = anchors_of(model, maps, side, n)
    sparse = {(300, 21): 13.3, (300, 91): 14.4, (320, 21): 15.0, (320, 91): 16.2}[side, columns]
    if density == "dense":
        n = min(n, 2)  # torchvision's NMS of some ten thousand boxes takes its time
        anchors = anchors[:n]
    heads = head_outputs(n, len(anchors[0]), columns, 9.0 if density == "dense" else sparse)
    scores = heads["cls_logits"].softmax(-1)
    candidates = int((scores[..., 1:] > model.score_thresh).sum()) / n
    assert candidates > 5000 if density == "dense" else 80 < candidates < 320, candidates

    sizes = [(side, side)] * n
    expected = model.postprocess_detections(heads, anchors, sizes)
    with patched(model):
        actual = model.postprocess_detections(heads, anchors, sizes)
    boxes = torch.stack([model.box_coder.decode_single(x, anchors[0]) for x in heads["bbox_regression"]])
    comparison = assert_same_detections(actual, expected, limits(model, columns), Candidates(boxes, scores))
    assert len(comparison.excused) <= 4 * n, comparison.excused
    assert sum(len(image["scores"]) for image in actual) > 30 * n
    assert all(image["labels"].dtype == torch.int64 for image in actual)


def seem_trained(model: SSD, batch: list[Tensor], candidates: int = 160) -> None:
    """Gives untrained heads logits that differ from cell to cell, and on each image so many candidates or more."""
    transformed, _ = model.transform(batch)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train().momentum = 1.0
        tensors = transformed.tensors.repeat(2 if len(batch) == 1 else 1, 1, 1, 1)  # batch norm needs two values
        cls_logits = model.head(list(model.backbone(tensors).values()))["cls_logits"]
        model.eval()
        gain = 2 / cls_logits.std().item()
        low, high = 0.0, 50.0
        for _ in range(30):
            middle = (low + high) / 2
            shifted = cls_logits * gain
            shifted[..., 0] += middle
            many = (shifted.softmax(-1)[..., 1:] > model.score_thresh).sum((1, 2)).min() > candidates
            low, high = (middle, high) if many else (low, middle)
        for module in model.head.classification_head.module_list:
            last = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)][-1]
            last.weight.mul_(gain)
            last.bias.mul_(gain)[:: cls_logits.shape[-1]].add_(high)


def test_whole_models_on_images_of_different_sizes(known):
    model, _, side = known
    batch = images((200, 300), (333, 500), (64, 64), (480, 100))[: 2 if side == 300 else 4]
    seem_trained(model, batch)
    with torch.no_grad():
        expected = model(batch)
        actual = patch(model)(batch)
        unpatch(model)
    found = [len(image["scores"]) for image in expected]
    assert min(found) > 30, found
    assert_same_detections(actual, expected, limits(model, 91))


def test_tiny_batch_of_eight_and_keys():
    model = tiny_ssd()
    batch = images(*[(40 + 9 * i, 90 - 7 * i) for i in range(8)])
    with torch.no_grad():
        expected = model(batch)
        assert_same_dicts(patch(model)(batch), expected)
    assert all(len(image["scores"]) > 20 for image in expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_heads_are_computed_in_float32(dtype):
    model = tiny_ssd()
    anchors = [anchor.to(dtype) for anchor in anchors_of(model, (8, 4), SIDE, 2)]
    heads = {name: head.to(dtype) for name, head in head_outputs(2, len(anchors[0]), COLUMNS, 3.0).items()}
    wide = {name: head.float() for name, head in heads.items()}
    sizes = [(SIDE, SIDE)] * 2
    expected = model.postprocess_detections(wide, [anchor.float() for anchor in anchors], sizes)
    actual = patch(model).postprocess_detections(heads, anchors, sizes)
    assert_same_detections(actual, expected, limits(model, COLUMNS))
    assert actual[0]["boxes"].dtype == actual[0]["scores"].dtype == torch.float32


def test_autocast():
    model = patch(tiny_ssd())
    with torch.no_grad():
        precise = model(images((50, 70)))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            (detections,) = model(images((50, 70)))
    assert detections["boxes"].isfinite().all()
    assert detections["scores"][0] == pytest.approx(precise[0]["scores"][0].item(), abs=0.05)


def test_settings_changed_after_patching_are_obeyed():
    model, reference = patch(tiny_ssd()), tiny_ssd()
    batch = images((64, 64), (30, 80))
    changes = [
        ("score_thresh", 0.6),
        ("score_thresh", -1.0),  # torchvision then takes every score
        ("nms_thresh", 0.7),
        ("detections_per_img", 7),
        ("detections_per_img", 10**9),
        ("topk_candidates", 3),
        ("box_coder", BoxCoder((8.0, 9.0, 4.0, 3.0), bbox_xform_clip=0.3)),
    ]
    with torch.no_grad():
        last = reference(batch)
        for attribute, value in changes:
            for each in (model, reference):
                setattr(each, attribute, value)
            expected = reference(batch)
            assert_same_dicts(model(batch), expected)
            changed = [len(image["scores"]) for image in expected] != [len(image["scores"]) for image in last]
            assert changed or not torch.equal(expected[0]["boxes"], last[0]["boxes"]), "the change changes nothing"
            last = expected


def test_a_negative_threshold_takes_scores_of_zero_too():
    model = tiny_ssd()
    model.score_thresh, model.nms_thresh, model.detections_per_img = -1.0, 1.0, 10**9
    anchors = anchors_of(model, (8, 4), SIDE, 1)
    heads = head_outputs(1, len(anchors[0]), COLUMNS, 300.0)
    counts = []
    for each in (model, patch(model)):
        (found,) = each.postprocess_detections(heads, anchors, [(SIDE, SIDE)])
        assert not found["scores"].any()
        counts.append(len(found["scores"]))
    assert counts == [len(anchors[0]) * (COLUMNS - 1)] * 2


def test_images_with_anchors_or_windows_of_their_own():
    model = tiny_ssd()
    anchors = anchors_of(model, (8, 4), SIDE, 3)
    anchors[1] = anchors[1] + 5
    heads = head_outputs(3, len(anchors[0]), COLUMNS, 3.0)
    sizes = [(64, 64), (50, 60), (33, 64)]
    for given in (anchors, anchors[:1] * 3):
        expected = model.postprocess_detections(heads, given, sizes)
        with patched(model):
            assert_same_dicts(model.postprocess_detections(heads, given, sizes), expected)
            assert model.postprocess_detections(heads, [], []) == []


def test_nothing_found():
    model = patch(tiny_ssd())
    model.score_thresh = 1.0
    (found,) = model(images((64, 64)))
    assert found["boxes"].shape == (0, 4) and found["labels"].dtype == torch.int64


def test_training_state_dict_and_gradients_are_untouched():
    model = tiny_ssd()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    names = [name for name, _ in model.named_modules()]
    patch(model)
    assert list(model.state_dict()) == list(before) and [name for name, _ in model.named_modules()] == names
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.load_state_dict(before)
    assert not model(images((64, 64)))[0]["boxes"].requires_grad  # with gradients enabled

    targets = [{"boxes": torch.tensor([[5.0, 5.0, 40.0, 40.0]]), "labels": torch.tensor([1])}]
    expected = unpatch(model).train()(images((64, 64)), targets)
    losses = patch(model)(images((64, 64)), targets)
    assert {name: loss.item() for name, loss in losses.items()} == {name: x.item() for name, x in expected.items()}
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in model.head.parameters())


def through_pickle(model: SSD) -> SSD:
    return pickle.loads(pickle.dumps(model))


def through_file(model: SSD) -> SSD:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copy_of", [copy.deepcopy, through_pickle, through_file])
def test_copies_are_patched_and_independent(copy_of):
    model = patch(tiny_ssd())
    twin = copy_of(model)
    assert twin.postprocess_detections.model is twin
    with torch.no_grad():
        assert_same_dicts(twin(images((64, 64))), model(images((64, 64))))
        model.detections_per_img = 3
        assert len(twin(images((64, 64)))[0]["scores"]) > 3 == len(model(images((64, 64)))[0]["scores"])
    assert "postprocess_detections" not in unpatch(twin).__dict__
    assert "postprocess_detections" in model.__dict__


def test_patching_twice_and_back():
    model = tiny_ssd()
    assert unpatch(model) is model  # nothing to undo
    assert patch(model) is model
    fused = model.postprocess_detections
    assert repr(fused) == "FusedPostprocess of SSD"
    assert patch(model).postprocess_detections is fused
    with patched(model) as same:
        assert same is model and model.postprocess_detections is fused
    assert model.postprocess_detections is fused  # patched before, patched after
    assert unpatch(model) is model and model.postprocess_detections.__func__ is SSD.postprocess_detections
    with pytest.raises(KeyError), patched(model):
        raise KeyError
    assert "postprocess_detections" not in model.__dict__


def test_a_subclass_that_keeps_the_postprocess():
    class MySSD(SSD):
        pass

    model = tiny_ssd(MySSD)
    expected = model(images((64, 64)))
    assert_same_dicts(patch(model)(images((64, 64))), [{k: v.detach() for k, v in expected[0].items()}])


def scripted(model: SSD) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates torch.jit.script
        return torch.jit.script(model)


@pytest.mark.filterwarnings("ignore:SSD always returns")
def test_scripting_a_patched_model_compiles_torchvision_s_postprocess():
    model = patch(tiny_ssd())
    with torch.no_grad():
        _, detections = scripted(model)(images((64, 64)))
        assert_same_dicts(model(images((64, 64))), detections)


def overriding() -> SSD:
    class OtherSSD(SSD):
        def postprocess_detections(self, *args):
            return []

    return tiny_ssd(OtherSSD)


def with_instance_override() -> SSD:
    model = tiny_ssd()
    model.postprocess_detections = lambda *args: []
    return model


def with_other_coder() -> SSD:
    class LinearCoder(BoxCoder):
        def decode_single(self, rel_codes, boxes):
            return boxes + rel_codes

    model = tiny_ssd()
    model.box_coder = LinearCoder((10.0, 10.0, 5.0, 5.0))
    return model


def backbone() -> nn.Module:
    layer = nn.Conv2d(3, 4, 3)
    layer.out_channels = 4
    return layer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RetinaNet(backbone(), 2), "got RetinaNet"),
        (lambda: FasterRCNN(backbone(), 2), "got FasterRCNN"),
        (lambda: nn.Linear(2, 2), "expected a torchvision SSD .*, got Linear"),
        (lambda: None, "got NoneType"),
        (lambda: nn.DataParallel(tiny_ssd()), r"got DataParallel; it wraps one: patch\(model.module\)"),
        (lambda: scripted(tiny_ssd()), "got RecursiveScriptModule, a scripted model"),
        (overriding, "OtherSSD has a postprocess_detections of its own"),
        (with_instance_override, "SSD has a postprocess_detections of its own"),
        (with_other_coder, "box_coder: expected torchvision's BoxCoder, got LinearCoder"),
    ],
)
def test_refuses_by_name(make, message):
    model = make()
    with pytest.raises(TypeError, match=message):
        patch(model)


def test_refuses_missing_attributes_strange_coders_and_settings():
    model = tiny_ssd()
    del model.nms_thresh
    with pytest.raises(AttributeError, match="SSD has no attribute 'nms_thresh'"):
        patch(model)
    with pytest.raises(TypeError, match="unpatch: model: expected a torchvision SSD, got Linear"):
        unpatch(nn.Linear(2, 2))
    model = patch(tiny_ssd())
    model.box_coder = object()
    with pytest.raises(TypeError, match="box_coder: expected torchvision's BoxCoder, got object"):
        model(images((64, 64)))
    model = patch(tiny_ssd())
    model.nms_thresh = math.nan
    with pytest.raises(ValueError, match="iou_threshold: expected a finite number"):
        model(images((64, 64)))
    anchors = anchors_of(model, (8, 4), SIDE, 1)
    doubles = {name: head.double() for name, head in head_outputs(1, len(anchors[0]), COLUMNS, 3.0).items()}
    with pytest.raises(TypeError, match="float64"):
        patch(tiny_ssd()).postprocess_detections(doubles, anchors, [(SIDE, SIDE)])


def test_without_torchvision():
    script = """
import sys
import ssd_fast, ssd_fast.compat
assert "torchvision" not in sys.modules
sys.modules["torchvision"] = None
try:
    ssd_fast.compat.patch(None)
except ImportError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install ssd_fast[torchvision]" in result.stdout and "patch: torchvision" in result.stdout
