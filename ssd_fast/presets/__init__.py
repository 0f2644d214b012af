"""Named SSD dialects: data only. A preset is here only if a test compares it with the project it is named after.

docs/dialects.md says with what each was compared, and how far they may differ.
"""

from __future__ import annotations

from .._checks import choice
from . import caffe, mmdetection, pytorch_ports, tensorflow, torchvision
from ._preset import Preset

__all__ = ["Preset", "list_presets", "preset"]

_PRESETS = {
    **torchvision.PRESETS,
    **caffe.PRESETS,
    **pytorch_ports.PRESETS,
    **mmdetection.PRESETS,
    **tensorflow.PRESETS,
}


def list_presets() -> list[str]:
    """The names that `preset` knows."""
    return list(_PRESETS)


def preset(name: str) -> Preset:
    """The specs of a named SSD dialect.

    Args:
        name: one of list_presets().

    Raises:
        ValueError: an unknown name; the message lists the known ones and says which is probably meant.
    """
    return _PRESETS[choice("preset", "name", name, list_presets())](name)
