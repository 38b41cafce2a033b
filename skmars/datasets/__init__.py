"""Real impressions from the publishers' files, and generated ones whose truth is known."""

from skmars.datasets._amazon import fetch_amazon_reviews, load_amazon_reviews
from skmars.datasets._download import get_data_home
from skmars.datasets._generator import make_multimodal_ctr
from skmars.datasets._movielens import fetch_movielens_1m, load_movielens_1m
from skmars.datasets._shop import make_small_shop

__all__ = [
    "fetch_amazon_reviews",
    "fetch_movielens_1m",
    "get_data_home",
    "load_amazon_reviews",
    "load_movielens_1m",
    "make_multimodal_ctr",
    "make_small_shop",
]
