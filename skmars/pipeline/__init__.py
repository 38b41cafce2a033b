"""The whole way from impressions to click probabilities, and what people do with it."""

from skmars.pipeline._compare import compare
from skmars.pipeline._comparison import Comparison
from skmars.pipeline._mars import make_mars
from skmars.pipeline._recommend import recommend

__all__ = ["Comparison", "compare", "make_mars", "recommend"]
