"""Named SSD dialects, as data. A preset is here only if a test compares it with the project it is named after.

docs/dialects.md says what each was compared with, and by how much they may differ.
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
    """List the names that `preset` knows.

    Examples:
        >>> import ssd_fast
        >>> ssd_fast.list_presets()[:2]
        ['torchvision_ssd300_vgg16', 'torchvision_ssdlite320_mobilenet_v3_large']
        >>> len(ssd_fast.list_presets())
        25
    """
    return list(_PRESETS)


def preset(name: str) -> Preset:
    """Return the specs of a named SSD dialect.

    Args:
        name: one of list_presets().

    Raises:
        ValueError: the name is unknown; the message lists the known ones and suggests the nearest.

    Examples:
        >>> import ssd_fast
        >>> caffe = ssd_fast.preset("caffe_ssd300_voc")
        >>> caffe.default_boxes.num_boxes
        8732
        >>> caffe.matcher
        MatcherSpec(rule='bipartite', positive_threshold=0.5, positive_inclusive=True, negative_threshold=None,
                    claimed_twice='last', minimum_forced_iou=1e-06, ignored_coverage=0.5)
    """
    return _PRESETS[choice("preset", "name", name, list_presets())](name)
