"""Draw detections, the matches of training, and the stages of an SSD."""

from .detections import draw_detections
from .matches import draw_matches

__all__ = ["draw_detections", "draw_matches"]
