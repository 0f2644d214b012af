"""Detectors: preprocessing, a network and the fused postprocess in one call."""

from .captured import CapturedDetector
from .detector import Detector
from .loading import load_detector

__all__ = ["CapturedDetector", "Detector", "load_detector"]
