"""Learn, from modality features and clicks, one space of embeddings for items and users."""

from skmars.alignment._aligner import SteinAligner
from skmars.alignment._linear import LinearAligner
from skmars.alignment._preservation import modality_preservation

__all__ = ["LinearAligner", "SteinAligner", "modality_preservation"]
