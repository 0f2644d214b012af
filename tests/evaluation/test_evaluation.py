"""evaluate_detections: COCO's figures, the reports of an Evaluation, and the inputs it refuses."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

from helpers.evaluation_cases import dataset, found, random_case
from ssd_fast import Detections
from ssd_fast.evaluation import coco_results, evaluate_detections

pytest.importorskip("pycocotools", reason="pycocotools, which computes COCO AP, is not installed")

METRICS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")
METRICS += ("ar_small", "ar_medium", "ar_large")
SMALL, MEDIUM, LARGE = (0, 0, 10, 10), (20, 0, 84, 50), (100, 100, 300, 300)
OTHER = (310, 310, 330, 330)


def text_of(table) -> str:
    console = Console(width=140, file=io.StringIO(), record=True)
    console.print(table)
    return " ".join(console.export_text().split())


def test_perfect_detections_give_one_everywhere():
    data = dataset([(SMALL, 1), (MEDIUM, 2), (LARGE, 3)], [(LARGE, 1), (SMALL, 2), (MEDIUM, 3)], [])
    perfect = [found(*((box, label, 0.9) for box, label in zip(s.boxes, s.labels, strict=True))) for s in data.samples]
    evaluation = evaluate_detections(perfect, data)
    for name in (*METRICS, "voc07", "voc12"):
        assert getattr(evaluation, name) == pytest.approx(1, abs=1e-9), name
    for result in evaluation.per_class:
        assert [result.ap, result.ap50, result.voc07, result.voc12] == pytest.approx([1] * 4, abs=1e-9)
        assert dataclasses.astuple(result.best_f1) == pytest.approx((1, 1, 1, 0.9))
    assert (evaluation.images, evaluation.ground_truths, evaluation.detections) == (3, 6, 6)
    assert evaluation.absent_classes == evaluation.missing_classes == ()


def test_no_detections_give_zero():
    evaluation = evaluate_detections([found(), found()], dataset([(SMALL, 1), (LARGE, 2)], [(MEDIUM, 2)]))
    assert all(getattr(evaluation, name) == 0 for name in (*METRICS, "voc07", "voc12"))
    cat, dog, owl = evaluation.per_class
    assert (cat.ap, cat.voc07, cat.best_f1, dog.ap50, dog.voc12) == (0, 0, None, 0, 0)
    assert (owl.ap, owl.ap50, owl.voc07, owl.voc12, owl.best_f1, owl.curve) == (None,) * 6
    assert evaluation.absent_classes == ("owl",)


def test_coco_ap_reads_hand_made_curve_at_101_points():
    boxes = [(20 * i, 0, 20 * i + 10, 10) for i in range(4)]
    data = dataset([(box, 1) for box in boxes])
    guesses = [(boxes[0], 0.9), (OTHER, 0.8), (boxes[1], 0.7), (boxes[0], 0.6), (boxes[2], 0.4)]
    evaluation = evaluate_detections([found(*((box, 1, score) for box, score in guesses))], data)
    assert evaluation.ap50 == pytest.approx((26 * 1 + 25 * 2 / 3 + 25 * 3 / 5) / 101)
    assert evaluation.ap == pytest.approx(evaluation.ap50) and evaluation.ap75 == pytest.approx(evaluation.ap50)
    assert (evaluation.ar1, evaluation.ar10, evaluation.ar100) == (0.25, 0.75, 0.75)
    assert evaluation.voc12 == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)


def test_iou_thresholds_are_distinguished():
    """An IoU of 0.81 counts at 0.50 ... 0.80: seven of ten thresholds."""
    evaluation = evaluate_detections([found(((0, 0, 100, 81), 1, 0.9))], dataset([((0, 0, 100, 100), 1)]))
    assert (evaluation.ap, evaluation.ap50, evaluation.ap75) == pytest.approx((0.7, 1, 1))
    evaluation = evaluate_detections([found(((0, 0, 100, 60), 1, 0.9))], dataset([((0, 0, 100, 100), 1)]))
    assert (evaluation.ap, evaluation.ap50, evaluation.ap75) == pytest.approx((0.3, 1, 0))


def test_sizes_are_distinguished_and_absent_ones_are_none():
    data = dataset([(SMALL, 1), (LARGE, 1)])
    evaluation = evaluate_detections([found((LARGE, 1, 0.9))], data)
    assert (evaluation.ap_small, evaluation.ap_medium, evaluation.ap_large) == (0, None, pytest.approx(1))
    assert (evaluation.ar_small, evaluation.ar_medium, evaluation.ar_large) == (0, None, 1)
    assert "-" in text_of(evaluation.summary()) and json.loads(json.dumps(evaluation.to_dict()))["ap_medium"] is None


def test_ignored_ground_truths_count_nowhere():
    data = dataset([(SMALL, 1), (LARGE, 1, True), (LARGE, 2, True)])
    evaluation = evaluate_detections([found((LARGE, 1, 0.9), (SMALL, 1, 0.8), (LARGE, 2, 0.7))], data)
    cat, dog, _ = evaluation.per_class
    assert (cat.ap, cat.ap50, cat.voc07, cat.voc12) == pytest.approx((1, 1, 1, 1), abs=1e-9)
    assert (cat.ground_truths, cat.ignored, cat.detections) == (1, 1, 2)
    assert (dog.ground_truths, dog.ignored, dog.ap, dog.voc07) == (0, 1, None, None)
    assert evaluation.ignored == 2 and evaluation.absent_classes == ("dog", "owl")


def test_duplicates_are_false_positives():
    data = dataset([(LARGE, 1), (MEDIUM, 1)])
    once = evaluate_detections([found((LARGE, 1, 0.9), (MEDIUM, 1, 0.7))], data)
    twice = evaluate_detections([found((LARGE, 1, 0.9), (LARGE, 1, 0.8), (MEDIUM, 1, 0.7))], data)
    assert once.voc12 == pytest.approx(1)
    assert twice.voc12 == pytest.approx((1 + 2 / 3) / 2) and twice.voc07 == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert twice.ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_classes_without_ground_truths_are_not_in_means():
    data = dataset([(LARGE, 1)])
    evaluation = evaluate_detections([found((LARGE, 1, 0.9), (SMALL, 3, 0.9))], data)
    assert evaluation.absent_classes == ("dog", "owl")
    assert evaluation.voc12 == evaluation.voc07 == pytest.approx(1) and evaluation.ap == pytest.approx(1)
    assert [result.detections for result in evaluation.per_class] == [1, 0, 1]


def test_classes_left_out_count_nowhere():
    data = dataset([(LARGE, 1), (SMALL, 2), (MEDIUM, 3)])
    evaluation = evaluate_detections([found((LARGE, 1, 0.9), (OTHER, 3, 0.5))], data, missing=("dog",))
    assert evaluation.missing_classes == ("dog",) and evaluation.ground_truths == 2
    assert evaluation.voc12 == pytest.approx(0.5) and evaluation.ap50 == pytest.approx(0.5)
    assert evaluation.per_class[1].ap is None and evaluation.ap_small is None
    assert evaluation.to_dict()["missing_classes"] == ["dog"]
    assert "the detector does not know them: dog" in text_of(evaluation.table())


def test_labels_follow_order_of_classes():
    data = dataset([(LARGE, 3), (SMALL, 1)])
    evaluation = evaluate_detections([found((LARGE, 3, 0.9))], data)
    assert {result.name: result.voc12 for result in evaluation.per_class} == {"cat": 0, "dog": None, "owl": 1}
    assert {result.name: result.ap50 for result in evaluation.per_class} == {
        "cat": 0,
        "dog": None,
        "owl": pytest.approx(1),
    }
    assert list(evaluation.curves) == ["cat", "owl"]


def test_detections_beyond_a_hundred_per_class_are_counted():
    """The 101st and later ones are not part of COCO's figures, but of VOC's; the evaluation says how many there are."""
    boxes = [(4 * i, 0, 4 * i + 2, 10) for i in range(103)]
    data = dataset([(box, 1) for box in boxes])
    evaluation = evaluate_detections([found(*((box, 1, 0.5) for box in boxes), *[(OTHER, 2, 0.3)] * 60)], data)
    assert evaluation.beyond_100 == 3 and evaluation.ar100 == pytest.approx(100 / 103)
    assert evaluation.voc12 == 1
    assert "without 3 others" in text_of(evaluation.table())


@pytest.mark.parametrize("seed", range(4))
def test_coco_and_voc_agree_where_rules_agree(seed):
    """With ground truths far apart both match alike: the VOC curve read at 101 points gives pycocotools' AP50."""
    data, detections = random_case(seed, images=30, separate=True)
    evaluation = evaluate_detections(detections, data)
    for result in evaluation.per_class:
        curve = result.curve
        at = np.searchsorted(curve.recall, np.linspace(0, 1, 101))
        sampled = np.append(curve.envelope, 0.0)[at].mean()
        assert result.ap50 == pytest.approx(sampled, abs=1e-9)
        assert result.voc12 == pytest.approx(result.ap50, abs=0.02) and 0.1 < result.voc12 < 0.9
        assert result.voc07 == pytest.approx(result.ap50, abs=0.06)
    assert evaluation.ap50 == pytest.approx(np.mean([result.ap50 for result in evaluation.per_class]))
    assert evaluation.ap == pytest.approx(np.mean([result.ap for result in evaluation.per_class]))
    assert evaluation.voc07 == pytest.approx(np.mean([result.voc07 for result in evaluation.per_class]))
    assert evaluation.voc12 == pytest.approx(np.mean([result.voc12 for result in evaluation.per_class]))


def test_kinds_of_arrays_give_same_evaluation():
    data, detections = random_case(0, images=5)
    expected = evaluate_detections(detections, data)
    tensors = [{name: torch.from_numpy(values) for name, values in image.items()} for image in detections]
    lists = [{name: values.tolist() for name, values in image.items()} for image in detections]
    assert evaluate_detections(tensors, data) == evaluate_detections(lists, data) == expected
    k = max(len(image["scores"]) for image in detections)
    padded = Detections(*(torch.zeros(5, k, *shape) for shape in ((4,), (), (), ())), torch.zeros(5, dtype=torch.int64))
    padded = padded._replace(labels=torch.full((5, k), -1))
    for i, image in enumerate(tensors):
        padded.counts[i] = len(image["scores"])
        for name, values in image.items():
            getattr(padded, name)[i, : len(values)] = values
    assert evaluate_detections(padded, data) == expected


def test_evaluate_detections_prints_and_changes_nothing(capsys):
    data, detections = random_case(1, images=3)
    before = [{name: values.copy() for name, values in image.items()} for image in detections]
    evaluate_detections(detections, data)
    assert capsys.readouterr() == ("", "")
    for image, copied in zip(detections, before, strict=True):
        assert all(np.array_equal(image[name], copied[name]) for name in image)


def test_evaluation_as_json_and_tables():
    data, detections = random_case(2, images=10, ignored=0.3)
    evaluation = evaluate_detections(detections, data, images_per_second=12.345)
    values = json.loads(json.dumps(evaluation.to_dict(curves=True), allow_nan=False))
    assert {*METRICS, "voc07", "voc12", "per_class", "absent_classes", "images_per_second"} <= set(values)
    for name in METRICS:
        assert values[name] == getattr(evaluation, name)
    first = values["per_class"][0]
    assert first["name"] == "cat" and first["label"] == 1 and first["ap50"] == evaluation.per_class[0].ap50
    assert set(first["best_f1"]) == {"f1", "precision", "recall", "score_threshold"}
    assert first["curve"]["recall"] == evaluation.curves["cat"].recall.tolist()
    assert "curve" not in evaluation.to_dict()["per_class"][0]
    text = text_of(evaluation.table())
    cat = evaluation.per_class[0]
    cells = text[text.index("cat") :].split()[:10]
    best = cat.best_f1
    figures = (cat.ap, cat.ap50, cat.voc07, cat.voc12, best.f1, best.precision, best.recall, best.score_threshold)
    assert cells == ["cat", str(cat.ground_truths), *(f"{figure:.3f}" for figure in figures)]
    assert "mean of 3" in text and f"{evaluation.voc07:.3f}" in text and "12.3 images/s" in text
    assert f"{evaluation.ignored} ignored" in text
    summary = text_of(evaluation.summary())
    assert all(f"{getattr(evaluation, name):.3f}" in summary for name in METRICS if getattr(evaluation, name))


def test_coco_results_give_same_figures_in_pycocotools():
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from ssd_fast.datasets import to_coco

    data, detections = random_case(3, images=10)
    results = json.loads(json.dumps(coco_results(detections, data)))
    assert set(results[0]) == {"image_id", "category_id", "bbox", "score", "file_name", "category"}
    assert all(result["file_name"] == f"{result['image_id'] - 1}.png" for result in results)
    assert {(result["category_id"], result["category"]) for result in results} == {(1, "cat"), (2, "dog"), (3, "owl")}
    with contextlib.redirect_stdout(io.StringIO()):
        truths = COCO()
        truths.dataset = to_coco(data)
        truths.createIndex()
        evaluated = COCOeval(truths, truths.loadRes(results), "bbox")
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
    evaluation = evaluate_detections(detections, data)
    ours = [-1 if getattr(evaluation, name) is None else getattr(evaluation, name) for name in METRICS]
    assert ours == pytest.approx(evaluated.stats.tolist(), abs=1e-12)


DATA = dataset([(SMALL, 1)], [(LARGE, 2)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"boxes": [(0, 0, float("nan"), 1)]},
            r"image 1 \(1.png\): detection 0: expected a finite box, got \[0",
        ),
        ({"boxes": [(0, 0, float("inf"), 1)]}, "expected a finite box"),
        ({"boxes": [(9, 0, 3, 1)]}, "expected a box x1 <= x2, y1 <= y2, got"),
        ({"boxes": [(0, 9, 3, 1)]}, "expected a box x1 <= x2, y1 <= y2, got"),
        ({"scores": [float("nan")]}, "expected a finite score, got nan"),
        ({"labels": [0]}, "expected a label in 1..3, got 0"),
        ({"labels": [4]}, "expected a label in 1..3, got 4"),
        ({"labels": [1, 1]}, r"labels \[k\], got \[1, 4\], \[1\] and \[2\]"),
        ({"boxes": [(0, 0, 1)]}, r"expected boxes \[k, 4\].*got \[1, 3\]"),
    ],
)
def test_faulty_detections_are_refused(change, message):
    good = found((SMALL, 1, 0.5))
    with pytest.raises(ValueError, match=message):
        evaluate_detections([good, good | {name: np.array(values) for name, values in change.items()}], DATA)


def test_faulty_detection_is_named_by_index():
    boxes = [SMALL, LARGE, (0, 0, 5, float("nan"))]
    with pytest.raises(ValueError, match=r"image 0 \(0.png\): detection 2: expected a finite box"):
        evaluate_detections([found(*((box, 1, 0.5) for box in boxes)), found()], DATA)


def test_evaluate_detections_refuses_other_inputs():
    with pytest.raises(ValueError, match="one dict for each of the 2 images, got 1"):
        evaluate_detections([found()], DATA)
    with pytest.raises(TypeError, match=r"expected a list of dicts.*got str"):
        evaluate_detections("detections", DATA)
    with pytest.raises(TypeError, match=r"image 0 .*got a dict of boxes"):
        evaluate_detections([{"boxes": []}, found()], DATA)
    with pytest.raises(TypeError, match=r"image 1 .*got int"):
        evaluate_detections([found(), 3], DATA)
    with pytest.raises(ValueError, match="at least one image, got none"):
        evaluate_detections([], SimpleNamespace(samples=(), classes=("cat",)))
    with pytest.raises(ValueError, match=r"got 2 images without any \(besides 1 ignored\)"):
        evaluate_detections([found(), found()], dataset([], [(LARGE, 1, True)]))
    with pytest.raises(ValueError, match=r"classes that the detector knows \(it lacks 1\)"):
        evaluate_detections([found()], dataset([(LARGE, 1)]), missing=("cat",))
    with pytest.raises(ValueError, match="missing: expected classes of cat, dog, owl, got 'lion'"):
        evaluate_detections([found(), found()], DATA, missing=("dog", "lion"))


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("pycocotools", "evaluate_detections([{'boxes': [], 'scores': [], 'labels': []}], data)"),
        ("matplotlib", "plot(None, 'x.png')"),
    ],
)
def test_missing_package_is_named(module, call):
    script = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "import numpy as np\n"
        "from ssd_fast.datasets.dataset import DetectionDataset, Sample\n"
        "from ssd_fast.evaluation import Evaluation, evaluate_detections\n"
        "plot = Evaluation.plot\n"
        "s = Sample('x', 'x', (9, 9), np.ones((1, 4), 'float32'), np.ones(1, 'int64'), np.zeros(1, bool))\n"
        f"data = DetectionDataset([s], ('cat',))\n{call}"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    extra = {"pycocotools": "train", "matplotlib": "bench"}[module]
    assert f"pip install ssd_fast[{extra}]" in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("ImportError")


def test_import_of_ssd_fast_imports_no_evaluation():
    script = "import sys, ssd_fast; print([m for m in sys.modules if 'coco' in m or 'matplotlib' in m or 'evalu' in m])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "[]"
