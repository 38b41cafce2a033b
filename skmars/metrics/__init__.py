"""Scores for clicks, embeddings and retrieval, and paired tests."""

from skmars.metrics._embedding import alignment_score, effective_rank, uniformity_score
from skmars.metrics._preservation import SimilarityPreservation, similarity_preservation
from skmars.metrics._ranking import gauc_score, relative_improvement
from skmars.metrics._retrieval import retrieval_precision_at_k, retrieval_recall_at_k
from skmars.metrics._significance import PairedTest, delong_test, gauc_bootstrap_test
from skmars.metrics._top_k import (
    hit_rate_at_k,
    mrr_at_k,
    ndcg_at_k,
    precision_at_k,
    ranking_at_k,
    recall_at_k,
)

__all__ = [
    "PairedTest",
    "SimilarityPreservation",
    "alignment_score",
    "delong_test",
    "effective_rank",
    "gauc_bootstrap_test",
    "gauc_score",
    "hit_rate_at_k",
    "mrr_at_k",
    "ndcg_at_k",
    "precision_at_k",
    "ranking_at_k",
    "recall_at_k",
    "relative_improvement",
    "retrieval_precision_at_k",
    "retrieval_recall_at_k",
    "similarity_preservation",
    "uniformity_score",
]
