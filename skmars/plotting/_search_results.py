"""What `cv_results_` of a search says of some of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def candidates_with(
    cv_results: Mapping[str, Any], names: tuple[str, ...], metric: str
) -> tuple[NDArray[np.intp], list[dict[str, Any]], NDArray[np.float64]]:
    """Return the candidates that set all of `names`, their parameters and mean test scores.

    Parameters
    ----------
    cv_results : dict
        The ``cv_results_`` of `GridSearchCV` or another search of scikit-learn.
    names : tuple of str
        Parameters.
    metric : str
        Name of the score; "score" unless the search had several.

    Raises
    ------
    TypeError
        If `cv_results` is not such a dict.
    ValueError
        If a parameter was not searched over, or there is no such score.
    """
    if not isinstance(cv_results, Mapping) or "params" not in cv_results:
        raise TypeError(
            "cv_results must be the cv_results_ of a fitted search (GridSearchCV, say), got "
            f"{type(cv_results).__name__}. Pass search.cv_results_."
        )
    if f"mean_test_{metric}" not in cv_results:
        prefix = "mean_test_"
        there = [key.removeprefix(prefix) for key in cv_results if key.startswith(prefix)]
        raise ValueError(f"metric={metric!r} is no score of the search; it has {there}.")
    params = cv_results["params"]
    for name in names:
        if not any(name in candidate for candidate in params):
            searched = sorted({key for candidate in params for key in candidate})
            raise ValueError(f"{name!r} was not searched over; the search has {searched}.")
    chosen = np.flatnonzero([all(name in candidate for name in names) for candidate in params])
    if len(chosen) == 0:
        raise ValueError(f"No candidate of the search sets all of {list(names)}.")
    scores = np.asarray(cv_results[f"mean_test_{metric}"], dtype=np.float64)[chosen]
    if np.isnan(scores).all():
        raise ValueError(f"All candidates failed: mean_test_{metric} is NaN throughout.")
    return chosen, [params[i] for i in chosen], scores


def score_label(metric: str) -> str:
    """Return what to call a score on an axis."""
    return "test score" if metric == "score" else f"{metric} (test)"
