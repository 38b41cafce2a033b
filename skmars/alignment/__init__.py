"""Learn, from modality features and clicks, one space of embeddings for items and users."""

from skmars.alignment._aligner import SteinAligner

__all__ = ["SteinAligner"]
