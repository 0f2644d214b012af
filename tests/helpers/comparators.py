"""The comparison of two detectors as an assertion."""

from __future__ import annotations

from typing import Any

from ssd_fast.compat.torchvision.differences import Candidates, Comparison, Limits
from ssd_fast.compat.torchvision.differences import compare_detections as compare

__all__ = ["Candidates", "Comparison", "Limits", "assert_same_detections", "compare"]


def assert_same_detections(
    actual: Any, expected: Any, limits: Limits, candidates: Candidates | None = None
) -> Comparison:
    """Assert that `compare` finds no difference, and return its result, whose excuses the test can count."""
    comparison = compare(actual, expected, limits, candidates)
    shown = "\n".join(comparison.differences[:10])
    assert not comparison.differences, f"{len(comparison.differences)} differences:\n{shown}"
    return comparison
