"""evaluate: a detector run over a dataset, with classes matched by name; and the plot of the curves."""

from __future__ import annotations

import dataclasses
import sys
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch

from helpers.checks import one_thread
from helpers.evaluation_cases import dataset, found, random_case, sample
from ssd_fast import Detections, load_detector
from ssd_fast.assets import asset_path
from ssd_fast.datasets.dataset import DetectionDataset
from ssd_fast.evaluation import detect_dataset, evaluate, evaluate_detections, missing_classes

pytest.importorskip("pycocotools", reason="pycocotools, which computes COCO AP, is not installed")

GRAYS = {"owl": 60, "cat": 120, "dog": 180}


class GreyDetector:
    """Finds the gray rectangle on black in each image, takes its gray for its class, and adds a poor detection."""

    def __init__(self, classes=("background", "fox", "dog", "cat", "owl"), background=0) -> None:
        self.classes = classes
        self.preset = SimpleNamespace(postprocess=SimpleNamespace(background=background))
        self.calls: list[tuple[int, float | None]] = []

    def __call__(self, images, score_threshold=None) -> Detections:
        self.calls.append((len(images), score_threshold))
        n = len(images)
        boxes, labels = torch.zeros(n, 3, 4), torch.full((n, 3), -1)
        for i, image in enumerate(images):
            ys, xs = torch.nonzero(image[0], as_tuple=True)
            boxes[i, 0] = torch.tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            (name,) = [name for name, gray in GRAYS.items() if gray == image[0].max()]
            boxes[i, 1] = torch.tensor([0.0, 0, 1, 1])
            if name in self.classes:
                labels[i, 0] = self.classes.index(name)
            labels[i, 1] = 1
        scores = torch.tensor([0.9, 0.1, 0.0]).expand(n, 3)
        return Detections(boxes, scores, labels, labels, torch.full((n,), 2))


@pytest.fixture
def drawn(tmp_path) -> DetectionDataset:
    """Seven images with one rectangle each, each in a different place."""
    samples = []
    for i in range(7):
        name = ("cat", "dog", "owl")[i % 3]
        box = (3 * i, 2 * i, 3 * i + 20, 2 * i + 15)
        pixels = np.zeros((60, 70 + i, 3), np.uint8)
        pixels[box[1] : box[3], box[0] : box[2]] = GRAYS[name]
        path = tmp_path / f"{i}.png"
        PIL.Image.fromarray(pixels).save(path)
        samples.append(sample(path.name, [(box, 1 + i % 3)], str(path), pixels.shape[:2]))
    return DetectionDataset(samples, ("cat", "dog", "owl"))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 20])
def test_evaluate_sees_every_image_once_and_in_order(drawn, batch_size):
    detector, seen = GreyDetector(), []
    evaluation = evaluate(detector, drawn, batch_size=batch_size, progress=lambda *done: seen.append(done))
    assert evaluation.ap == pytest.approx(1) and evaluation.voc07 == evaluation.voc12 == 1
    sizes = [size for size, _ in detector.calls]
    assert sum(sizes) == 7 and set(sizes[:-1]) <= {batch_size} and sizes[-1] <= batch_size
    assert seen == [(sum(sizes[: n + 1]), 7) for n in range(len(sizes))]
    assert evaluation.images_per_second > 0 and evaluation.images == 7
    assert evaluation.detections == 7, "counts detections of the class fox, which the dataset lacks"


def test_evaluate_matches_classes_by_name_and_passes_threshold(drawn):
    detector = GreyDetector(("owl", "background", "dog", "fox", "cat", "background"), background=-1)
    assert evaluate(detector, drawn, score_threshold=0.25).ap == pytest.approx(1)
    assert detector.calls == [(7, 0.25)]
    detections, rate = detect_dataset(GreyDetector(), drawn)
    assert [image["labels"].tolist() for image in detections] == [[1], [2], [3], [1], [2], [3], [1]]
    assert detections[2]["boxes"].tolist() == [[6, 4, 26, 19]] and rate > 0


def test_background_column_is_not_a_class(drawn):
    """A background column that has the name of a class does not make that class known."""
    assert missing_classes(GreyDetector(("cat", "dog", "owl"), background=0), drawn, ignore=True) == ("cat",)
    assert missing_classes(GreyDetector(("dog", "owl", "cat"), background=-1), drawn, ignore=True) == ("cat",)
    assert missing_classes(GreyDetector(("cat", "dog", "owl"), background=None), drawn) == ()


def test_evaluate_names_classes_unknown_to_detector(drawn):
    detector = GreyDetector(("background", "cat", "Owls", "fox"))
    message = r"know 2 classes of the dataset: 'dog', 'owl' \(but 'Owls'\); it knows cat, Owls, fox; ignore_missing"
    with pytest.raises(ValueError, match=message):
        evaluate(detector, drawn)
    assert detector.calls == [], "the detector ran before the check"
    evaluation = evaluate(detector, drawn, ignore_missing=True)
    assert evaluation.missing_classes == ("dog", "owl") and evaluation.ground_truths == 3
    assert evaluation.ap == pytest.approx(1) and evaluation.per_class[1].ap is None
    with pytest.raises(ValueError, match="images without any of the classes that the detector knows"):
        evaluate(GreyDetector(("background", "fox")), drawn, ignore_missing=True)


def test_class_without_ground_truths_need_not_be_known(drawn):
    more = DetectionDataset(drawn.samples, (*drawn.classes, "unicorn"))
    evaluation = evaluate(GreyDetector(), more)
    assert evaluation.absent_classes == ("unicorn",) and evaluation.missing_classes == ()
    assert evaluation.ap == pytest.approx(1)


def test_evaluate_refuses_impossible_work(drawn, tmp_path):
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        evaluate(GreyDetector(), drawn, batch_size=0)
    empty = {name: getattr(drawn.samples[0], name)[:0] for name in ("boxes", "labels", "ignored")}
    nothing = dataclasses.replace(drawn.samples[0], **empty)
    detector = GreyDetector()
    with pytest.raises(ValueError, match="got 1 images without any"):
        evaluate(detector, DetectionDataset([nothing], drawn.classes))
    assert detector.calls == []
    (tmp_path / "5.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"5\.png"):
        evaluate(detector, drawn, batch_size=2)


def test_missing_pycocotools_is_named_before_detecting(drawn, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    detector = GreyDetector()
    with pytest.raises(ImportError, match=r"pip install ssd_fast\[train\]"):
        evaluate(detector, drawn)
    assert detector.calls == []


def test_evaluate_shipped_detector_on_shipped_photos():
    samples = [
        sample("chelsea", [((1, 2, 407, 298), 2)], str(asset_path("chelsea.jpg")), (300, 451)),
        sample("coffee", [], str(asset_path("coffee.jpg")), (400, 600)),
    ]
    with one_thread():
        evaluation = evaluate(load_detector(device="cpu"), DetectionDataset(samples, ("cup", "cat")))
    cat = evaluation.per_class[1]
    assert cat.ap50 == pytest.approx(1) and cat.voc12 == 1 and cat.best_f1.score_threshold > 0.9
    assert evaluation.per_class[0].ap is None and evaluation.per_class[0].detections > 1


def lines_of(monkeypatch, evaluation, path):
    """Return the axes and the legend's texts of the plot."""
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k))[1])
    evaluation.plot(path)
    (figure,) = figures
    (axes,) = figure.axes
    return axes, [text.get_text() for text in figure.legends[0].get_texts()]


def test_plot_shows_each_class_with_its_area_in_legend(tmp_path, monkeypatch):
    boxes = [(20 * i, 0, 20 * i + 10, 10) for i in range(4)]
    data = dataset([*((box, 1) for box in boxes), (boxes[0], 2)], classes=("$cat$", "_dog", "owl"))
    guesses = [((90, 90, 99, 99), 0.9), (boxes[0], 0.8), (boxes[1], 0.7), (boxes[0], 0.6), (boxes[2], 0.4)]
    evaluation = evaluate_detections([found(*((box, 1, score) for box, score in guesses))], data)
    axes, names = lines_of(monkeypatch, evaluation, tmp_path / "curves.png")
    assert names == [r"0.483  \$cat\$", "0.000  _dog"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("recall", "precision")
    assert f"mean AP {evaluation.voc12:.3f} over 2 classes" in axes.get_title()
    line, dot, other = axes.get_lines()
    x, y = line.get_data()
    assert x.tolist() == [0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75]
    assert y == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2 / 3, 3 / 5, 3 / 5, 0])
    assert np.trapezoid(y, x) == pytest.approx(evaluation.per_class[0].voc12)
    assert [values[0] for values in dot.get_data()] == pytest.approx([0.75, 0.6])
    assert [d.tolist() for d in map(np.asarray, other.get_data())] == [[0], [0]]
    with PIL.Image.open(tmp_path / "curves.png") as picture:
        assert min(picture.size) >= 600 and len(picture.convert("RGB").getcolors(1 << 24)) > 20


def test_plot_of_many_classes_stays_readable(tmp_path, monkeypatch):
    classes = tuple(f"class {i}" for i in range(30))
    truths = [[((0, 0, 10, 10), label)] * (1 + (label > 12)) for label in range(1, 31)]
    data = dataset(*truths, classes=classes)
    detections = [found(((0, 0, 10, 10), label, 0.5)) for label in range(1, 31)]
    axes, names = lines_of(monkeypatch, evaluate_detections(detections, data), tmp_path / "curves.svg")
    assert len(names) == 21 and names[-1] == "10 other classes"
    assert {name.partition("  ")[2] for name in names[:-1]} == set(classes[:2] + classes[12:])
    assert len(axes.get_lines()) == 20 * 2 + 10 + 1
    assert (tmp_path / "curves.svg").read_text().startswith("<?xml")


def test_plot_leaves_global_state_alone(tmp_path):
    import matplotlib

    data, detections = random_case(0, images=4)
    before = dict(matplotlib.rcParams)
    had_pyplot = "matplotlib.pyplot" in sys.modules
    evaluation = evaluate_detections(detections, data)
    evaluation.plot(tmp_path / "a.pdf")
    assert dict(matplotlib.rcParams) == before and ("matplotlib.pyplot" in sys.modules) == had_pyplot
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match=r"a\.gif must end in \.png, \.pdf, \.svg"):
        evaluation.plot(tmp_path / "a.gif")
    with pytest.raises(OSError, match="nowhere"):
        evaluation.plot(tmp_path / "nowhere" / "a.png")
