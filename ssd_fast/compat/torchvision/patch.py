"""Patch a torchvision SSD: matching, loss and postprocess by the kernels of this package."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from .model import POSTPROCESS, check_model, torchvision_ssd
from .postprocess import FusedPostprocess
from .training import FusedForward, FusedLoss

__all__ = ["patch", "patched", "unpatch"]

Model = TypeVar("Model", bound=torch.nn.Module)


class _Unpatched:
    """Makes a shallow copy with torchvision's methods, which torch.jit.script compiles instead of the patched model."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self) -> Any:
        return _remove(copy.copy(self.model))


class _Replica:
    """Makes a replica of the patched model for DataParallel, whose methods are its own, not the original's."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self) -> Any:
        replica = type(self.model)._replicate_for_data_parallel(self.model)
        for method, fused in _FUSED.items():
            if isinstance(replica.__dict__.get(method), fused):
                object.__setattr__(replica, method, fused(replica))
        return replica


# Instance attributes that hide the methods of the class. A subclass's own forward or compute_loss is not hidden.
_FUSED: dict[str, type] = {
    POSTPROCESS: FusedPostprocess,
    "compute_loss": FusedLoss,
    "forward": FusedForward,
    "__prepare_scriptable__": _Unpatched,
    "_replicate_for_data_parallel": _Replica,
}


def patch(model: Model) -> Model:
    """Replace what a torchvision SSD does around its network with this package's kernels, and return the same model.

    In eval mode, ssd_fast.postprocess replaces the postprocess. In training, ssd_fast.match replaces the matching,
    which then makes no IoU matrix, and ssd_fast.multibox_loss replaces the loss. The model is called as before and
    returns the same dicts in the same order; parameters and state_dict are untouched. Its thresholds, its matcher's
    threshold, its box coder's weights and its anchors are read at every call, so they may change. A patched model can
    be pickled, deep-copied and patched again; torch.jit.script compiles torchvision's own methods.

    Args:
        model: a torchvision.models.detection.ssd.SSD, such as SSD300 and SSDlite, or a subclass that keeps its
            postprocess. A subclass's own forward or compute_loss, and another matcher than SSDMatcher, stay in use. For
            a wrapper (DataParallel, torch.compile), patch the model inside.

    Returns:
        The model.

    Precision:
        Boxes, scores and losses are computed and returned in float32. Float16 and bfloat16 heads are widened first,
        where torchvision rounds its boxes, by up to an eighth of a pixel (float16 at 300 pixels). torchvision's own
        methods still run for a float64 model, which computes and returns float64, and while topk_candidates or
        detections_per_img is below 1.

    Ties:
        Equal scores: the lower class comes first, then the lower default box; equally hard negatives: the lower
        default box. torchvision leaves both undefined.

    Grad:
        Like torchvision's, for losses and, where gradients are enabled in eval mode, for scores and boxes.

    Syncs:
        Once per batch in eval mode, to trim the results; once per batch in training, to check the ground truth, and
        once per image with an anchor generator that is not torchvision's. torchvision syncs several times per image.

    Raises:
        TypeError: not an SSD, a subclass or instance with its own postprocess, another box coder, or a scripted model.
        AttributeError: an attribute is missing.
        ImportError: torchvision is not installed.
        GroundTruthError: the model when called in training: a degenerate or non-finite box, or a label that is not a
            class; the message names image, index and values (a ValueError, here also an AssertionError like
            torchvision's).
        ValueError: the model when called: in training, neg_to_pos_ratio is not a whole number; in eval mode,
            score_thresh or nms_thresh is not finite, or nms_thresh is negative.

    Differs:
        With more than P / (1 + neg_to_pos_ratio) positives, torchvision runs out of negatives and counts positives
        twice; the patched model does not. Ground truths with label 0 are refused.

    Source:
        torchvision.models.detection.ssd.SSD

    Examples:
        >>> import torch
        >>> from ssd_fast.compat import patch
        >>> from torchvision.models.detection import ssdlite320_mobilenet_v3_large
        >>> model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2)
        >>> model = patch(model).eval()
        >>> (found,) = model([torch.zeros(3, 320, 320)])
        >>> sorted(found)
        ['boxes', 'labels', 'scores']
    """
    check_model(model, "patch")
    ssd = torchvision_ssd("patch")
    for method, fused in _FUSED.items():
        is_original = getattr(type(model), method, None) is getattr(ssd, method, None)
        if is_original and method not in model.__dict__:
            object.__setattr__(model, method, fused(model))
    return model


def unpatch(model: Model) -> Model:
    """Give a patched model its own methods back, leave any other SSD unchanged, and return the model.

    Raises:
        TypeError: not a torchvision SSD.
        ImportError: torchvision is not installed.

    Examples:
        >>> from ssd_fast.compat import patch, unpatch
        >>> from torchvision.models.detection import ssdlite320_mobilenet_v3_large
        >>> model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2)
        >>> unpatch(patch(model)) is model
        True
    """
    if not isinstance(model, torchvision_ssd("unpatch")):
        raise TypeError(f"unpatch: model: expected a torchvision SSD, got {type(model).__name__}")
    return _remove(model)


@contextmanager
def patched(model: Model) -> Iterator[Model]:
    """Patch a model inside a `with` block, and restore it afterwards.

    Raises:
        TypeError: as patch.
        AttributeError: as patch.
        ImportError: as patch.

    Examples:
        >>> from ssd_fast.compat import patched
        >>> from torchvision.models.detection import ssdlite320_mobilenet_v3_large
        >>> model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=2)
        >>> with patched(model):
        ...     model.postprocess_detections
        FusedPostprocess of SSD
    """
    check_model(model, "patched")
    was_patched = isinstance(getattr(model, "__dict__", {}).get(POSTPROCESS), FusedPostprocess)
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
