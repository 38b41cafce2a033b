"""Modality features and clicks -> one space in which items and users meet."""

from skmars.alignment._aligner import SteinAligner

__all__ = ["SteinAligner"]
