"""Retrieval: low-active users borrow history from the high-active users most similar to them."""

from skmars.retrieval._ann import HNSWNeighbors, NNDescentNeighbors
from skmars.retrieval._augmenter import SequenceRetrievalAugmenter
from skmars.retrieval._donors import DonorPool
from skmars.retrieval._neighbors import CosineNeighbors

__all__ = [
    "CosineNeighbors",
    "DonorPool",
    "HNSWNeighbors",
    "NNDescentNeighbors",
    "SequenceRetrievalAugmenter",
]
