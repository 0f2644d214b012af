"""compat.opencv against OpenCV itself, run in the tests, and against recordings of OpenCV 4.14 in tests/golden."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from helpers import adapter_inputs as inputs
from helpers import goldens
from helpers.checks import unmodified
from ssd_fast.compat.opencv import detection_out

cv2 = pytest.importorskip("cv2", reason="OpenCV, which is compared with, is not installed")

BLOBS = ("mbox_loc", "mbox_conf", "mbox_priorbox")
DEFAULTS: dict[str, Any] = {"num_classes": inputs.COLUMNS, "nms_threshold": 0.45, "keep_top_k": 200}


def blobs(images: int = inputs.IMAGES) -> list[np.ndarray]:
    """Return mbox_loc, mbox_conf and mbox_priorbox; every third row has other variances."""
    priors = inputs.boxes()[0].numpy().reshape(-1)
    variances = np.tile(np.float32([0.1, 0.1, 0.2, 0.2]), inputs.ROWS)
    variances[::3] *= 0.5
    loc, conf = inputs.deltas().numpy()[:images], inputs.scores().numpy()[:images]
    return [loc.reshape(images, -1), conf.reshape(images, -1), np.stack((priors, variances))[None]]


def by_opencv(given: list[np.ndarray], **options: Any) -> np.ndarray:
    """Run the layer DetectionOutput on one thread."""
    options = {"share_location": "true", "background_label_id": 0, "code_type": "CENTER_SIZE"} | options
    nms = f"nms_param {{ nms_threshold: {options.pop('nms_threshold')} top_k: {options.pop('top_k', -1)} }}"
    shapes = dict(zip(BLOBS, (blob.shape for blob in given), strict=True))
    text = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        f"{' '.join(f'dim: {side}' for side in shape)} }} }} }}\n"
        for name, shape in shapes.items()
    )
    bottoms = " ".join(f'bottom: "{name}"' for name in BLOBS)
    parameters = " ".join(
        f"{key}: {str(value).lower() if value in (True, False) else value}" for key, value in options.items()
    )
    parameters = parameters.replace("code_type: center_size", "code_type: CENTER_SIZE")
    text += (
        f'layer {{ name: "out" type: "DetectionOutput" {bottoms} top: "out" '
        f"detection_output_param {{ {parameters} {nms} }} }}\n"
    )
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        net = cv2.dnn.readNetFromCaffe(bytearray(text.encode()))
        for name, blob in zip(BLOBS, given, strict=True):
            net.setInput(blob, name)
        return net.forward().copy()
    finally:
        cv2.setNumThreads(threads)


def assert_same_rows(actual: np.ndarray, expected: np.ndarray) -> None:
    """Check for equal shape, order and padding, and for images, labels and scores equal bit for bit."""
    assert type(actual) is np.ndarray and actual.dtype == np.float32 and actual.shape == expected.shape
    np.testing.assert_array_equal(actual[..., :3], expected[..., :3])
    np.testing.assert_allclose(actual[..., 3:], expected[..., 3:], rtol=1e-6, atol=1e-6)


CASES: dict[str, dict[str, Any]] = {
    "padded": {"confidence_threshold": 0.3, "keep_top_k": 300, "nms_threshold": 0.2},
    "full": {"keep_top_k": 150},
    "top_k": {"top_k": 30, "keep_top_k": 400, "confidence_threshold": 0.01},
    "all": {"top_k": 0, "keep_top_k": 2000, "confidence_threshold": 0.01},
    "clip": {"clip": True, "nms_threshold": 0.6, "confidence_threshold": 0.1},
    "background": {"background_label_id": 3, "confidence_threshold": 0.1},
}


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_detection_out_equals_opencv(case, images):
    options = DEFAULTS | CASES[case]
    given = blobs(images)
    expected = by_opencv(given, **options)
    rows = expected[0, 0][expected[0, 0, :, 2] > 0]
    assert (len(rows) < expected.shape[2]) == (case in ("padded", "top_k", "all"))
    assert len(rows) > 40 and len(np.unique(rows[:, 1])) == inputs.COLUMNS - 1
    with unmodified(given):
        assert_same_rows(detection_out(*given, **options), expected)


def test_detection_out_excludes_score_equal_to_threshold():
    """A score equal to the threshold is not a detection; nor is a score of 0 with the default threshold of 0."""
    given = blobs(1)
    score = float(np.sort(given[1].reshape(-1, inputs.COLUMNS)[:, 1:].ravel())[-25])
    for threshold in (score, 0.0):
        given[1][0, 5::40] = 0
        options = DEFAULTS | {"confidence_threshold": threshold, "keep_top_k": 3000}
        expected = by_opencv(given, **options)
        assert expected[0, 0, expected[0, 0, :, 2] > 0, 2].min() > threshold
        assert_same_rows(detection_out(*given, **options), expected)


def test_detection_out_variance_encoded_in_target():
    given = blobs()
    given[0], given[2] = given[0] * np.float32(0.1), given[2][:, :1].copy()
    options = DEFAULTS | {"variance_encoded_in_target": True, "keep_top_k": 100}
    assert_same_rows(detection_out(*given, **options), by_opencv(given, **options))


def test_detection_out_without_detections():
    options = DEFAULTS | {"confidence_threshold": 2.0, "keep_top_k": 7}
    actual = detection_out(*blobs(), **options)
    assert_same_rows(actual, by_opencv(blobs(), **options))
    assert actual.shape == (1, 1, 14, 7) and not actual.any()


def test_detection_out_keeps_all():
    """keep_top_k = -1, which corrupts OpenCV's memory, gives the rows of a large keep_top_k, without padding."""
    rows = detection_out(*blobs(), **(DEFAULTS | {"keep_top_k": -1, "confidence_threshold": 0.1}))
    padded = by_opencv(blobs(), **(DEFAULTS | {"keep_top_k": 3000, "confidence_threshold": 0.1}))
    assert_same_rows(rows, padded[:, :, padded[0, 0, :, 2] > 0])
    assert (detection_out(*blobs(), **(DEFAULTS | {"background_label_id": -1}))[0, 0, :, 1] == 0).any()


@pytest.mark.parametrize("photo", ["astronaut", "coffee"])
@pytest.mark.parametrize("setting", ["default", "loose", "tight"])
def test_detection_out_of_face_detector(photo, setting):
    """Real head outputs of res10_face_ssd, with 8892 default boxes."""
    golden = goldens.load("res10_face_ssd", photo)
    params, expected = golden[f"params__{setting}"], golden[f"detection_out__{setting}"]
    priors = np.stack((golden["mbox_priorbox"].reshape(-1), golden["mbox_priorbox_variance"].reshape(-1)))[None]
    actual = detection_out(
        golden["mbox_loc"].reshape(1, -1),
        golden["mbox_conf_softmax"].reshape(1, -1),
        priors,
        num_classes=2,
        nms_threshold=params["nms"],
        confidence_threshold=params["conf"],
        top_k=params["topk"],
        keep_top_k=params["keep"],
    )
    assert actual.shape == (1, 1, golden[f"detection_out_rows_incl_zero_pad__{setting}"], 7)
    assert_same_rows(actual[0, 0, : len(expected)], expected)
    assert not actual[0, 0, len(expected) :].any()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"share_location": False}, "share_location: expected True"),
        ({"code_type": "CORNER"}, "code_type: expected 'CENTER_SIZE', got 'CORNER'"),
        ({"eta": 0.9}, "eta: expected 1, got 0.9"),
        ({"nms_threshold": 0}, "nms_threshold: expected a positive number"),
        ({"keep_top_k": 0}, "keep_top_k: expected an int >= 1, or -1"),
        ({"num_classes": 4}, r"mbox_conf: expected 2 x 790 x 4 numbers, got \[2, 3950\]"),
        ({"background_label_id": 5}, "background_label_id: expected a column, got 5"),
    ],
)
def test_detection_out_rejects_options(options, message):
    with pytest.raises(ValueError, match=f"detection_out: {message}"):
        detection_out(*blobs(), **(DEFAULTS | options))


def test_detection_out_rejects_blobs():
    loc, conf, prior = blobs()
    with pytest.raises(TypeError, match="mbox_loc: expected a float32 NumPy array, got float64 array"):
        detection_out(loc.astype(np.float64), conf, prior, **DEFAULTS)
    with pytest.raises(ValueError, match=r"mbox_priorbox: expected \[1, 2, P \* 4\], got \[1, 1, 3160\]"):
        detection_out(loc, conf, prior[:, :1], **DEFAULTS)
    with pytest.raises(ValueError, match=r"mbox_loc: expected 2 x 790 x 4 numbers, got \[2, 3156\]"):
        detection_out(loc[:, :-4], conf, prior, **DEFAULTS)
