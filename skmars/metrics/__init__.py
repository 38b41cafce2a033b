"""Scores for clicks, embeddings and retrieval, and paired tests."""

from skmars.metrics._embedding import alignment_score, effective_rank, uniformity_score
from skmars.metrics._preservation import SimilarityPreservation, similarity_preservation
from skmars.metrics._ranking import gauc_score, relative_improvement
from skmars.metrics._retrieval import retrieval_precision_at_k, retrieval_recall_at_k
from skmars.metrics._significance import PairedTest, delong_test, gauc_bootstrap_test

__all__ = [
    "PairedTest",
    "SimilarityPreservation",
    "alignment_score",
    "delong_test",
    "effective_rank",
    "gauc_bootstrap_test",
    "gauc_score",
    "relative_improvement",
    "retrieval_precision_at_k",
    "retrieval_recall_at_k",
    "similarity_preservation",
    "uniformity_score",
]
