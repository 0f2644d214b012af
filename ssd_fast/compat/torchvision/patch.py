"""patch: a torchvision SSD's matching, loss and postprocess by the kernels of this package."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from .box_coder import coder_spec
from .postprocess import FusedPostprocess
from .training import FusedForward, FusedLoss

__all__ = ["patch", "patched", "unpatch"]

Model = TypeVar("Model", bound=torch.nn.Module)

# Instance attributes that hide the methods of the class. A subclass's own forward or compute_loss is not hidden.
_POSTPROCESS = "postprocess_detections"
_ATTRIBUTES = ("score_thresh", "nms_thresh", "detections_per_img", "topk_candidates", "box_coder")
_TRAINING_ATTRIBUTES = ("proposal_matcher", "neg_to_pos_ratio", "transform", "backbone", "head", "anchor_generator")


class _Unpatched:
    """What torch.jit.script compiles instead of the patched model: a shallow copy with torchvision's methods."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self) -> Any:
        return _remove(copy.copy(self.model))


class _Replica:
    """What DataParallel makes of the patched model: a replica whose methods are its own, not the original's."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self) -> Any:
        replica = type(self.model)._replicate_for_data_parallel(self.model)
        for method, fused in _FUSED.items():
            if isinstance(replica.__dict__.get(method), fused):
                object.__setattr__(replica, method, fused(replica))
        return replica


_FUSED: dict[str, type] = {
    _POSTPROCESS: FusedPostprocess,
    "compute_loss": FusedLoss,
    "forward": FusedForward,
    "__prepare_scriptable__": _Unpatched,
    "_replicate_for_data_parallel": _Replica,
}


def patch(model: Model) -> Model:
    """Replaces what a torchvision SSD does around its network by our kernels; returns the same model.

    In eval mode: the postprocess, by ssd_fast.postprocess. In training: the matching, which then makes no matrix of
    IoUs, and the loss, by ssd_fast.match and multibox_loss. The model is called as before and returns the same dicts
    in the same order; parameters and state_dict are untouched. Its thresholds, its matcher's threshold, its box coder's
    weights and its anchors are read at every call, so they may change. A patched model can be pickled, deep-copied and
    patched again; torch.jit.script compiles torchvision's own methods.

    Args:
        model: a torchvision.models.detection.ssd.SSD, which SSD300 and SSDlite are, or a subclass that keeps its
            postprocess. A subclass's own forward or compute_loss, and another matcher than SSDMatcher, stay in use. Of
            a wrapper (DataParallel, torch.compile) patch the model inside.

    Returns:
        model.

    Precision:
        Boxes, scores and losses are computed in float32 and stay so. Float16 and bfloat16 heads are widened first,
        where torchvision rounds its boxes, by up to an eighth of a pixel (float16 at 300 pixels). Stays: torchvision's
        own methods run for a float64 model, which computes and returns float64, and while topk_candidates or
        detections_per_img is below 1.

    Ties:
        Equal scores: lower class, then lower default box; equally hard negatives: the lower default box; torchvision
        leaves both undefined.

    Grad:
        As torchvision's, of losses and, where gradients are enabled in eval mode, of scores and boxes.

    Syncs:
        In eval mode once a batch, to trim the results; in training once a batch, to check the ground truth, and with an
        anchor generator that is not torchvision's once an image. torchvision: several times an image.

    Raises:
        TypeError: no SSD, a subclass or instance with its own postprocess, another box coder, a scripted model.
        AttributeError: an attribute is missing.
        ImportError: torchvision is not installed. The model when called in training: GroundTruthError (a ValueError,
            here an AssertionError too, as torchvision's) for a degenerate or non-finite box or a label that is no
            class, naming image, index and values.
        ValueError: neg_to_pos_ratio is not a whole number. When called in eval mode: ValueError: score_thresh or
            nms_thresh is not finite, or nms_thresh is negative.

    Differs:
        With more than P / (1 + neg_to_pos_ratio) positives torchvision runs out of negatives and counts positives
        twice; we do not. Ground truths of label 0 are refused.

    Source:
        torchvision.models.detection.ssd.SSD
    """
    _check_model(model, "patch")
    ssd = _torchvision_ssd("patch")
    for method, fused in _FUSED.items():
        is_original = getattr(type(model), method, None) is getattr(ssd, method, None)
        if is_original and method not in model.__dict__:
            object.__setattr__(model, method, fused(model))
    return model


def unpatch(model: Model) -> Model:
    """Gives a model that `patch` changed its own methods back; leaves any other SSD as it is. Returns the model.

    Raises:
        TypeError: no torchvision SSD.
        ImportError: torchvision is not installed.
    """
    if not isinstance(model, _torchvision_ssd("unpatch")):
        raise TypeError(f"unpatch: model: expected a torchvision SSD, got {type(model).__name__}")
    return _remove(model)


@contextmanager
def patched(model: Model) -> Iterator[Model]:
    """`with patched(model): ...`: patched inside, afterwards as before.

    Raises:
        as patch.
    """
    was_patched = isinstance(getattr(model, "__dict__", {}).get(_POSTPROCESS), FusedPostprocess)
    patch(model)
    try:
        yield model
    finally:
        if not was_patched:
            unpatch(model)


def _remove(model: Any) -> Any:
    for method, fused in _FUSED.items():
        if isinstance(model.__dict__.get(method), fused):
            del model.__dict__[method]
    return model


def _torchvision_ssd(op: str) -> Any:
    """torchvision's class SSD."""
    try:
        from torchvision.models.detection.ssd import SSD
    except ImportError as error:
        raise ImportError(
            f"{op}: torchvision is not installed or does not load ({error}); pip install ssd_fast[torchvision]"
        ) from error
    return SSD


def _check_model(model: Any, op: str) -> None:
    ssd, name = _torchvision_ssd(op), type(model).__name__
    if not isinstance(model, ssd):
        hint = ""
        for attribute in ("module", "_orig_mod"):  # DataParallel and its kind; torch.compile
            if isinstance(getattr(model, attribute, None), ssd):
                hint = f"; it wraps one: {op}(model.{attribute})"
        if isinstance(model, torch.jit.ScriptModule):
            hint = f", a scripted model; {op} cannot change compiled code"
        raise TypeError(f"{op}: model: expected a torchvision SSD (SSD300, SSDlite), got {name}{hint}")
    for attribute in (*_ATTRIBUTES, *_TRAINING_ATTRIBUTES):
        if not hasattr(model, attribute):
            raise AttributeError(f"{op}: model: {name} has no attribute {attribute!r}")
    own = model.__dict__.get(_POSTPROCESS)
    foreign = own is not None and not isinstance(own, FusedPostprocess)
    if foreign or getattr(type(model), _POSTPROCESS) is not getattr(ssd, _POSTPROCESS):
        raise TypeError(f"{op}: model: {name} has a {_POSTPROCESS} of its own, which {op} would bypass")
    coder_spec(model.box_coder, op)
