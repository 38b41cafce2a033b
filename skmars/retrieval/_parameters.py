"""What the parameters of `SequenceRetrievalAugmenter` may be."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions


class Number(Interval):
    """An interval of numbers; True and False are none."""

    def is_satisfied_by(self, value: object) -> bool:
        return not isinstance(value, bool | np.bool_) and bool(super().is_satisfied_by(value))


def _at_least(least: int | None) -> Number:
    return Number(Integral, least, None, closed="neither" if least is None else "left")


def _between(low: float, high: float, kind: type = Real) -> Number:
    return Number(kind, low, high, closed="both")


CONSTRAINTS: dict[str, list[Any]] = {
    "strategy": [StrOptions({"filter", "most_similar", "kth", "dp"})],
    "theta": [_between(-1, 1.1)],
    "n_neighbors": [_at_least(1)],
    "user_representation": [StrOptions({"history", "embedding"})],
    "item_representation": [StrOptions({"features", "embedding"})],
    "relevance": [StrOptions({"user", "target", "both"})],
    "low_quantile": [_between(0, 1)],
    "high_quantile": [_between(0, 1)],
    "max_length": [_at_least(1)],
    "max_borrowed": [_at_least(1), None],
    "n_lookalikes": [_at_least(0)],
    "activity": [StrOptions({"user", "row"})],
    "respect_time": ["boolean"],
    "neighbors": [
        StrOptions({"auto", "exact", "hnsw", "nndescent"}),
        HasMethods(["fit", "kneighbors"]),
    ],
    "cv": [_between(2, 100, Integral)],
    "n_jobs": [_at_least(None), None],
    "verbose": ["verbose"],
}


def check_order(low_quantile: float, high_quantile: float) -> None:
    """Raise ValueError if the quantiles are crossed."""
    if low_quantile > high_quantile:
        raise ValueError(
            f"low_quantile={low_quantile} must not exceed high_quantile={high_quantile}."
        )
