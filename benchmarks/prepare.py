"""How a benchmark runs a step by hand, as a `Pipeline` would."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from skmars import Impressions


def prepared(
    step: Any, rows: Iterable[Impressions], y: np.ndarray | None = None
) -> tuple[Impressions, ...]:
    """Fit a step to the first rows, and return all rows as it makes them.

    The first rows, those to train on, are made by `fit_transform`, so that none has a feature that
    was made with its own click; the others are made by `transform`.

    Parameters
    ----------
    step : transformer or Pipeline
    rows : iterable of Impressions
    y : ndarray or None
        Clicks of the first rows.
    """
    train, *others = rows
    return step.fit_transform(train, y), *map(step.transform, others)
