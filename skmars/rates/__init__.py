"""Click rates of users and items as features, and the simplest models that use them."""

from skmars.rates._classifiers import ClickRateClassifier, PopularityClassifier
from skmars.rates._encoder import ClickRateEncoder

__all__ = ["ClickRateClassifier", "ClickRateEncoder", "PopularityClassifier"]
