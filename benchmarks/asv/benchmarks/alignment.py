"""SteinAligner."""

from __future__ import annotations

from typing import Any, ClassVar

from .common import N_USERS, Transformer, impressions


class Aligner(Transformer):
    """The causal pass, and the row-by-row form on a tenth of the users."""

    param_names: ClassVar[list[str]] = ["causal"]
    params: ClassVar[list[Any]] = [[True, False]]

    def data(self, causal: bool) -> tuple[Any, Any]:
        return impressions(N_USERS if causal else max(10, N_USERS // 10))

    def estimator(self, causal: bool) -> Any:
        from skmars import SteinAligner

        return SteinAligner(64, id_dim=32, causal=causal, max_iter=2, random_state=0, device="cpu")

    def time_user_embedding(self, causal: bool) -> None:
        _ = self.fitted.transform(self.X).user_embedding

    def track_alignment(self, causal: bool) -> float:
        return float(self.fitted.alignment_)

    track_alignment.unit = "cosine"  # type: ignore[attr-defined]
