"""The whole way from impressions to click probabilities, and what people do with it."""

from skmars.pipeline._compare import compare
from skmars.pipeline._comparison import Comparison
from skmars.pipeline._explain import Explanation, explain
from skmars.pipeline._mars import make_mars
from skmars.pipeline._recommend import recommend
from skmars.pipeline._update import update

__all__ = ["Comparison", "Explanation", "compare", "explain", "make_mars", "recommend", "update"]
