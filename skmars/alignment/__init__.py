"""Modality features and clicks -> one space in which items and users meet."""

from skmars.alignment.aligner import SteinAligner

__all__ = ["SteinAligner"]
