"""Click probabilities from histories."""

from skmars.ctr.din import DINClassifier

__all__ = ["DINClassifier"]
