"""Check the model that a user gives to `patch`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

from .box_coder import coder_spec
from .postprocess import FusedPostprocess

__all__ = ["POSTPROCESS", "check_model", "import_torchvision", "torchvision_ssd"]

POSTPROCESS = "postprocess_detections"
_ATTRIBUTES = ("score_thresh", "nms_thresh", "detections_per_img", "topk_candidates", "box_coder")
_TRAINING_ATTRIBUTES = ("proposal_matcher", "neg_to_pos_ratio", "transform", "backbone", "head", "anchor_generator")


def torchvision_ssd(op: str) -> Any:
    """Import torchvision's class SSD."""
    return import_torchvision(op, "models.detection.ssd").SSD


def import_torchvision(op: str, module: str) -> Any:
    """Import a module of torchvision."""
    try:
        return import_module(f"torchvision.{module}")
    except ImportError as error:
        raise ImportError(
            f"{op}: torchvision is not installed or does not load ({error}); pip install ssd_fast[torchvision]"
        ) from error


def check_model(model: Any, op: str) -> None:
    """Check that a model is an SSD whose methods `patch` can replace.

    Raises:
        TypeError: as patch.
        AttributeError: as patch.
        ImportError: as patch.
    """
    ssd, name = torchvision_ssd(op), type(model).__name__
    if not isinstance(model, ssd):
        hint = ""
        for attribute in ("module", "_orig_mod"):  # DataParallel and similar; torch.compile
            if isinstance(getattr(model, attribute, None), ssd):
                hint = f"; it wraps one: {op}(model.{attribute})"
        if isinstance(model, torch.jit.ScriptModule):
            hint = f", a scripted model; {op} cannot change compiled code"
        raise TypeError(f"{op}: model: expected a torchvision SSD (SSD300, SSDlite), got {name}{hint}")
    for attribute in (*_ATTRIBUTES, *_TRAINING_ATTRIBUTES):
        if not hasattr(model, attribute):
            raise AttributeError(f"{op}: model: {name} has no attribute {attribute!r}")
    own = model.__dict__.get(POSTPROCESS)
    foreign = own is not None and not isinstance(own, FusedPostprocess)
    if foreign or getattr(type(model), POSTPROCESS) is not getattr(ssd, POSTPROCESS):
        raise TypeError(f"{op}: model: {name} has its own {POSTPROCESS}, which {op} would bypass")
    coder_spec(model.box_coder, op)
