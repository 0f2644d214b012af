"""Ground truth: its faults, the policy for them, and the packed form that the ops take."""

from .faults import Fault, GroundTruthError, GroundTruthWarning, Policy, Rules, find_faults

__all__ = ["Fault", "GroundTruthError", "GroundTruthWarning", "Policy", "Rules", "find_faults"]
