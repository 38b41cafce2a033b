"""Click probabilities from histories."""

from skmars.ctr._din import DINClassifier

__all__ = ["DINClassifier"]
