"""Each argument of the calls around the ops with each odd value: it works, or the error names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import ssd_fast
from helpers import adapter_inputs as inputs
from helpers.odd_values import ODD, is_promised
from ssd_fast import BoxCoderSpec, Detector, LossSpec, MatcherSpec, Preset, SSDCriterion, load_detector
from ssd_fast.compat import amdegroot, lufficc, nvidia, opencv, qfgaohao
from ssd_fast.evaluation import detect_dataset
from ssd_fast.models import load_network, load_weights, make_network, save_weights, ssd_tiny
from ssd_fast.models.ssdlite320_mobilenet_v3_large import SSDLite320MobileNetV3Large

pytestmark = pytest.mark.usefixtures("one_thread")

PRESET = ssd_fast.preset("torchvision_ssd300_vgg16")
BOXES = torch.tensor([[0.0, 0.0, 8.0, 8.0], [1.0, 1.0, 9.0, 9.0]])
RATIOS = [[2], [2]]


class Net(torch.nn.Module):
    """As much of a network as qfgaohao's Predictor needs."""


def tiny_detector() -> Detector:
    return Detector(ssd_tiny(2, (32, 32)))


def criterion(**changed: Any) -> Any:
    sound = {"default_boxes": BOXES, "coder": BoxCoderSpec(), "matcher": MatcherSpec(), "loss": LossSpec()}
    return SSDCriterion(**{**sound, **changed})


def prior_box(**changed: Any) -> Any:
    return amdegroot.PriorBox({**inputs.amdegroot_cfg(True), **changed}).forward()


def lufficc_prior_box(**changed: Any) -> Any:
    cfg = inputs.lufficc_cfg()
    for name, value in changed.items():
        vars(cfg.INPUT if name == "IMAGE_SIZE" else cfg.MODEL.PRIORS)[name] = value
    return lufficc.PriorBox(cfg)()


def lufficc_detections(**changed: Any) -> Any:
    cfg = inputs.lufficc_cfg()
    vars(cfg.TEST).update(changed)
    return lufficc.PostProcessor(cfg)((inputs.scores(), inputs.boxes()))


def detection_out(**changed: Any) -> Any:
    blobs = np.zeros((1, 4), np.float32), np.zeros((1, 2), np.float32), np.zeros((1, 2, 4), np.float32)
    sound = {"num_classes": 2, "nms_threshold": 0.5, "keep_top_k": 5}
    names = ("mbox_loc", "mbox_conf", "mbox_priorbox")
    return opencv.detection_out(**{**dict(zip(names, blobs, strict=True)), **sound, **changed})


def nms_boxes(**changed: Any) -> Any:
    sound = {"bboxes": [[0, 0, 8, 8]], "scores": [0.5], "score_threshold": 0.1, "nms_threshold": 0.5}
    return opencv.nms_boxes(**{**sound, **changed})


def nms_boxes_batched(**changed: Any) -> Any:
    sound = {"bboxes": [[0, 0, 8, 8]], "scores": [0.5], "class_ids": [1], "score_threshold": 0.1, "nms_threshold": 0.5}
    return opencv.nms_boxes_batched(**{**sound, **changed})


def detect(**changed: Any) -> Any:
    sound = {"num_classes": inputs.COLUMNS, "bkg_label": 0, "top_k": 9, "conf_thresh": 0.1, "nms_thresh": 0.5}
    priors = amdegroot.PriorBox(inputs.amdegroot_cfg(True)).forward()
    made = amdegroot.Detect(**{**sound, **changed})
    return made if "num_classes" in changed else made(inputs.deltas(), inputs.scores(), priors)


def multibox_loss(**changed: Any) -> Any:
    sound = {"num_classes": 5, "overlap_thresh": 0.5, "bkg_label": 0, "neg_pos": 3}
    ignored = {"prior_for_matching": True, "neg_mining": True, "neg_overlap": 0.5, "encode_target": False}
    return amdegroot.MultiBoxLoss(**{**ignored, **sound, **changed})


def loss_forward(**changed: Any) -> Any:
    sound = {"predictions": (inputs.deltas(), inputs.logits(), torch.ones(inputs.ROWS, 4)), "targets": []}
    return multibox_loss()(**{**sound, **changed})


def predictor(**changed: Any) -> Any:
    return qfgaohao.Predictor(Net(), **{"size": 8, "device": "cpu", **changed})


def predictor_postprocess(**changed: Any) -> Any:
    return predictor().postprocess(inputs.scores()[0], inputs.boxes()[0], **changed)


def match_prior(**changed: Any) -> Any:
    sound = {"center_form_priors": BOXES, "center_variance": 0.1, "size_variance": 0.2, "iou_threshold": 0.5}
    return qfgaohao.MatchPrior(**{**sound, **changed})


def qfgaohao_loss(**changed: Any) -> Any:
    sound = {"neg_pos_ratio": 3}
    return qfgaohao.MultiboxLoss(
        BOXES, 0.5, center_variance=0.1, size_variance=0.2, device=None, **{**sound, **changed}
    )


def nvidia_boxes(**changed: Any) -> Any:
    sound = {"fig_size": 64, "feat_size": [4, 2], "steps": [16, 32], "scales": [9, 20, 40], "aspect_ratios": RATIOS}
    return nvidia.Encoder(nvidia.DefaultBoxes(**{**sound, **changed}))


def nvidia_decode(**changed: Any) -> Any:
    encoder = nvidia_boxes()
    rows = encoder.nboxes
    return encoder.decode_batch(torch.zeros(1, 4, rows), torch.zeros(1, 3, rows), **changed)


def nvidia_decode_single(**changed: Any) -> Any:
    sound = {"criteria": 0.5, "max_output": 3, "max_num": 9}
    return nvidia_boxes().decode_single(torch.zeros(5, 4), torch.zeros(5, 3), **{**sound, **changed})


def detector_call(**changed: Any) -> Any:
    return tiny_detector()(torch.zeros(3, 8, 8), **changed)


class Empty:
    """A dataset without images."""

    classes, samples = (), ()

    def __len__(self) -> int:
        return 0


def empty_dataset(**changed: Any) -> Any:
    return detect_dataset(tiny_detector(), Empty(), **changed)


CALLS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "preset": (ssd_fast.preset, ("name",)),
    "make_network": (lambda **given: make_network(**{"name": "ssd_tiny", "num_classes": 2, **given}), ("name",)),
    "ssd_tiny": (lambda **given: ssd_tiny(**{"num_classes": 2, **given}), ("num_classes", "sides")),
    "conv4_3_norm": (lambda **given: make_network("ssd300_vgg16", 2, **given), ("conv4_3_norm",)),
    "reduced_tail": (lambda **given: SSDLite320MobileNetV3Large(2, **given), ("reduced_tail",)),
    "from_preset": (SSDCriterion.from_preset, ("preset",)),
    "from_dict": (Preset.from_dict, ("fields",)),
    "SSDCriterion": (criterion, ("default_boxes", "coder", "matcher", "loss", "policy")),
    "Detector": (
        lambda **given: Detector(**{"network": ssd_tiny(2, (32, 32)), **given}),
        ("network", "preset", "tile", "overlap"),
    ),
    "Detector classes": (lambda **given: Detector(ssd_tiny(2, (32, 32)), **given), ("classes",)),
    "a detector": (detector_call, ("score_threshold",)),
    "load_detector": (lambda **given: load_detector(**given), ("name_or_path", "device")),
    "load_network": (load_network, ("path",)),
    "load_weights": (lambda **given: load_weights(**{"model": Net(), "path": "x.pth", **given}), ("model", "path")),
    "load_weights layout": (lambda **given: load_weights(Net(), "x.pth", **given), ("layout", "exclude")),
    "save_weights": (lambda **given: save_weights(**{"model": Net(), "path": "x", **given}), ("model", "path")),
    "detect_dataset": (empty_dataset, ("batch_size",)),
    "amdegroot.PriorBox": (
        prior_box,
        tuple(name for name in inputs.amdegroot_cfg(True) if name not in ("name", "clip")),
    ),
    "amdegroot.PriorBox cfg": (lambda cfg: amdegroot.PriorBox([] if isinstance(cfg, dict) else cfg), ("cfg",)),
    "amdegroot.Detect": (detect, ("num_classes", "bkg_label", "top_k", "conf_thresh", "nms_thresh")),
    "amdegroot.MultiBoxLoss": (multibox_loss, ("num_classes", "overlap_thresh", "bkg_label", "neg_pos")),
    "amdegroot.MultiBoxLoss()": (loss_forward, ("predictions", "targets")),
    "lufficc.PriorBox": (
        lufficc_prior_box,
        ("IMAGE_SIZE", "FEATURE_MAPS", "STRIDES", "MIN_SIZES", "MAX_SIZES", "ASPECT_RATIOS"),
    ),
    "lufficc.MultiBoxLoss": (lufficc.MultiBoxLoss, ("neg_pos_ratio",)),
    "lufficc.PostProcessor": (lufficc_detections, ("MAX_PER_IMAGE", "CONFIDENCE_THRESHOLD", "NMS_THRESHOLD")),
    "qfgaohao.MatchPrior": (match_prior, ("center_form_priors", "center_variance", "size_variance", "iou_threshold")),
    "qfgaohao.MultiboxLoss": (qfgaohao_loss, ("neg_pos_ratio",)),
    "qfgaohao.Predictor": (predictor, ("size", "nms_method", "iou_threshold", "filter_threshold", "candidate_size")),
    "qfgaohao.Predictor.postprocess": (predictor_postprocess, ("top_k", "prob_threshold", "width", "height")),
    "nvidia.DefaultBoxes": (
        nvidia_boxes,
        ("fig_size", "feat_size", "steps", "scales", "aspect_ratios", "scale_xy", "scale_wh"),
    ),
    "nvidia.Encoder.decode_batch": (nvidia_decode, ("criteria", "max_output")),
    "nvidia.Encoder.decode_single": (nvidia_decode_single, ("criteria", "max_output", "max_num")),
    "opencv.nms_boxes": (nms_boxes, ("bboxes", "scores", "score_threshold", "nms_threshold", "eta", "top_k")),
    "opencv.nms_boxes_batched": (
        nms_boxes_batched,
        ("bboxes", "scores", "class_ids", "score_threshold", "nms_threshold", "eta", "top_k"),
    ),
    "opencv.detection_out": (
        detection_out,
        (
            *("mbox_loc", "mbox_conf", "mbox_priorbox", "num_classes", "nms_threshold", "keep_top_k", "top_k", "eta"),
            *("confidence_threshold", "background_label_id", "share_location", "code_type"),
        ),
    ),
}

# The name of an argument in the error where it differs: a field of the spec that the argument becomes, for example.
NAMES = {
    "min_dim": "image_size",
    "fig_size": "image_size",
    "feature_maps": "",  # or any list that then has too few entries
    "feat_size": "",
    "width": "width, height",
    "height": "width, height",
    "scale_xy": "scale_xy, scale_wh",
    "scale_wh": "scale_xy, scale_wh",
    "scales": "",
    "fields": "",
    "bboxes": "",
    "num_classes": "",
    "IMAGE_SIZE": "image_size",
    "FEATURE_MAPS": "",
    "STRIDES": "steps",
    "MIN_SIZES": "min_sizes",
    "MAX_SIZES": "max_sizes",
    "ASPECT_RATIOS": "aspect_ratios",
}


@pytest.mark.parametrize("call", CALLS)
def test_each_argument_takes_or_refuses_odd_values(call):
    function, arguments = CALLS[call]
    refused = 0
    for argument in arguments:
        for kind, value in ODD.items():
            try:
                function(**{argument: value})
            except (TypeError, ValueError, RuntimeError, FileNotFoundError) as error:
                assert is_promised(error, NAMES.get(argument, argument)) or _is_of_a_file(error), (
                    f"{call}: {argument}: {kind}: {error!r}"
                )
                refused += 1
    assert refused > 10 * len(arguments)


def _is_of_a_file(error: Exception) -> bool:
    suffix = ("is not a weight file: expected .safetensors", "must end in .safetensors")
    return isinstance(error, FileNotFoundError) or any(text in str(error) for text in suffix)


def test_configuration_without_entry_is_refused():
    with pytest.raises(KeyError, match="min_dim"):
        amdegroot.PriorBox({"a": 1})


def test_name_instead_of_preset_is_refused_with_hint():
    hint = r"expected a Preset, .*, got 'nvidia_ssd300_coco'; did you mean ssd_fast.preset\('nvidia_ssd300_coco'\)\?"
    with pytest.raises(TypeError, match=f"SSDCriterion.from_preset: preset: {hint}"):
        SSDCriterion.from_preset("nvidia_ssd300_coco")
    with pytest.raises(TypeError, match=f"Detector: preset: {hint}"):
        Detector(ssd_tiny(2, (32, 32)), preset="nvidia_ssd300_coco")


def test_misspelled_name_is_refused_with_suggestion():
    with pytest.raises(ValueError, match="did you mean 'amdegroot_ssd300_voc'"):
        ssd_fast.preset("amdegrot_ssd300_voc")
    with pytest.raises(ValueError, match="did you mean 'ssd300_vgg16'"):
        make_network("ssd_300_vgg16", 2)


def test_wrong_settings_of_torchvision_model_are_named():
    detection = pytest.importorskip("torchvision.models.detection", reason="the model is torchvision's")
    model = ssd_fast.patch(detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)).eval()
    image, box = torch.zeros(3, 32, 32), {"boxes": torch.tensor([[1.0, 1.0, 9.0, 9.0]]), "labels": torch.tensor([1])}
    for owner, attribute, wrong in (
        (model, "score_thresh", "high"),
        (model, "nms_thresh", None),
        (model.box_coder, "weights", (10.0, 10.0, 0.0, 5.0)),
        (model.box_coder, "weights", 5),
        (model.box_coder, "bbox_xform_clip", "none"),
    ):
        sound = getattr(owner, attribute)
        setattr(owner, attribute, wrong)
        with pytest.raises(
            ValueError, match=rf"postprocess_detections: model\.(box_coder\.)?{attribute}: expected .*, got"
        ):
            model([image])
        setattr(owner, attribute, sound)
    assert len(model([image])) == 1
    model.train()
    for owner, attribute, wrong in (
        (model, "neg_to_pos_ratio", float("nan")),
        (model.proposal_matcher, "high_threshold", "high"),
    ):
        sound = getattr(owner, attribute)
        setattr(owner, attribute, wrong)
        with pytest.raises(ValueError, match=rf"model\.(proposal_matcher\.)?{attribute}: expected .*, got"):
            model([image, image], [box, box])
        setattr(owner, attribute, sound)
