"""qfgaohao/pytorch-ssd: its priors, MatchPrior, MultiboxLoss and Predictor, by the kernels of this package.

Change the imports and leave the calls: `from ssd_fast.compat.qfgaohao import MatchPrior, MultiboxLoss, Predictor`.
"""

from .loss import MatchPrior, MultiboxLoss, generate_ssd_priors
from .predictor import Predictor

__all__ = ["MatchPrior", "MultiboxLoss", "Predictor", "generate_ssd_priors"]
