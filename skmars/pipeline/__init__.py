"""The whole way from impressions to click probabilities, and what people do with it."""

from skmars.pipeline._mars import make_mars

__all__ = ["make_mars"]
