"""How many of the nearest k are the right ones, for each k."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import _num_samples

from skmars.metrics import retrieval_precision_at_k
from skmars.metrics._retrieval import checked_k, label_codes
from skmars.plotting._figure import Display, chance_line, label_axes, next_marker, require_step
from skmars.retrieval import SequenceRetrievalAugmenter
from skmars.retrieval._neighbors import donors_of_rows
from skmars.retrieval._plan import Plan
from skmars.utils import _ragged as ragged

MAX_K = 20


@dataclass(eq=False, repr=False, kw_only=True)
class RetrievalPrecisionDisplay(Display):
    """Precision@k: part of the k nearest candidates that is relevant.

    It is recommended to use :meth:`from_estimator` or :meth:`from_embeddings`. Draw several
    embeddings on the same axes to compare them.

    Parameters
    ----------
    k, precision : ndarray of shape (n_k,)
        How many candidates were retrieved, and which part of them is relevant, mean over queries.
    chance_level : float, default=None
        Precision of candidates that are drawn at random.
    name : str, default=None
        Name in the legend.

    Attributes
    ----------
    line_, chance_level_ : matplotlib Line2D
    ax_, figure_ : matplotlib Axes, Figure

    See Also
    --------
    skmars.metrics.retrieval_precision_at_k : The numbers.

    Examples
    --------
    Does a text find the picture of its item?

    >>> import numpy as np
    >>> from skmars.plotting import RetrievalPrecisionDisplay
    >>> rng = np.random.RandomState(0)
    >>> image = rng.normal(size=(50, 8))
    >>> text = image + rng.normal(size=(50, 8))
    >>> display = RetrievalPrecisionDisplay.from_embeddings(text, image, k=[1, 2, 5])
    >>> display.precision
    array([0.4  , 0.27 , 0.172])
    >>> round(display.chance_level, 3)
    0.02
    """

    k: NDArray[np.int64]
    precision: NDArray[np.float64]
    chance_level: float | None = None
    name: str | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: SequenceRetrievalAugmenter,
        X: Any,
        user_labels: Mapping[Any, Any],
        *,
        k: Sequence[int] | None = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Ask whether an augmenter finds donors of the user's own kind; return the display, drawn.

        Donors are searched as the augmenter does it: among those of its fit, never the user
        themselves, and, with ``respect_time``, only those with an event before the row.

        Parameters
        ----------
        estimator : fitted SequenceRetrievalAugmenter
            Its donors are the candidates.
        X : Impressions or table of impressions
            As the augmenter takes them. The users who are no donors are the queries, each with
            the longest history among their rows.
        user_labels : mapping of user id to int or str
            What makes a donor relevant: the planted group of synthetic data, or what is known
            of people (an occupation, a region). Of all users of `X` and all donors.
        k, name, ax, **kwargs
            As in `from_embeddings`; `name` is that of the class by default.

        Raises
        ------
        NotFittedError, TypeError
            If `estimator` is no fitted `SequenceRetrievalAugmenter`.
        ValueError
            If `X` lacks what users are compared by, has no user but donors, or a user has no
            label, or if no user has a relevant donor.

        Notes
        -----
        Users without a vector (those without history, for the most part), and those for whom no
        donor is relevant, are left out. Where a user may have fewer than `k` donors, precision is
        that of all of them.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        require_step(estimator, SequenceRetrievalAugmenter, cls)
        X, own = estimator._fitted_rows(X)
        rows = ragged.longest(X.user, X.history.length)
        rows = rows[own.donor[rows] < 0]
        if len(estimator.pool_) == 0:
            raise ValueError(
                "estimator has no donors. Fit it with a lower high_quantile, or on more users."
            )
        if len(rows) == 0:
            raise ValueError("All users of X are donors; pass rows of low-active users, too.")
        X, pool = X[rows], estimator.pool_
        query_ids, donor_ids = X.user_ids.tolist(), pool.ids.tolist()
        unknown = [user for user in (*query_ids, *donor_ids) if user not in user_labels]
        if unknown:
            raise ValueError(
                f"user_labels lacks {len(unknown)} of the users (first: {unknown[0]!r})."
            )
        n = len(donor_ids)
        ks = _up_to(n) if k is None else checked_k(k, n)
        label, donor_label = label_codes(
            [user_labels[user] for user in query_ids],
            [user_labels[user] for user in donor_ids],
            len(query_ids),
            n,
        )
        plan = estimator._plan(
            X, own[rows], pool, everybody=True, n_neighbors=int(ks.max()), max_length=sys.maxsize
        )
        donor, _ = donors_of_rows(plan)
        n_allowed, n_relevant = _candidates(plan, label, donor_label)
        scored = (donor[:, 0] >= 0) & (n_relevant > 0)
        if not scored.any():
            raise ValueError("No user of X has a relevant donor: no label occurs on both sides.")
        donor = donor[scored]
        relevant = (donor >= 0) & (donor_label[donor] == label[scored, None])
        found = np.cumsum(relevant, axis=1) / np.maximum(np.cumsum(donor >= 0, axis=1), 1)
        return cls(
            k=ks,
            precision=found.mean(axis=0)[ks - 1],
            chance_level=float((n_relevant / np.maximum(n_allowed, 1))[scored].mean()),
            name=type(estimator).__name__ if name is None else name,
        ).plot(ax, **kwargs)

    @classmethod
    def from_embeddings(
        cls,
        queries: ArrayLike,
        candidates: ArrayLike,
        *,
        query_labels: ArrayLike | None = None,
        candidate_labels: ArrayLike | None = None,
        k: Sequence[int] | None = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Search each query among the candidates by cosine, and return the display, drawn.

        Parameters
        ----------
        queries, candidates, query_labels, candidate_labels
            As in :func:`skmars.metrics.retrieval_precision_at_k`.
        k : sequence of int, default=None
            How many to retrieve; None takes 1 to 20, or to as many as there are.
        name, ax, **kwargs
            As in `plot`.
        """
        n = _num_samples(candidates)
        ks = np.asarray(_up_to(n) if k is None else k)
        # Who retrieves everything is as precise as who draws at random.
        labels = {"query_labels": query_labels, "candidate_labels": candidate_labels}
        found = retrieval_precision_at_k(queries, candidates, k=[*ks.tolist(), n], **labels)
        *precision, chance = np.asarray(found)
        display = cls(k=ks, precision=np.array(precision), chance_level=float(chance), name=name)
        return display.plot(ax, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        plot_chance_level: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Draw it, and return the display itself.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.
        name : str, default=None
            Name in the legend; None takes that of the display.
        plot_chance_level : bool, default=True
            Whether to draw the precision of random candidates.
        **kwargs
            Passed to matplotlib's `plot`.
        """
        ax = self._axes(ax)
        from matplotlib.ticker import MaxNLocator

        name = self.name if name is None else name
        style = {"marker": next_marker(ax), "label": name, **kwargs}
        (self.line_,) = ax.plot(self.k, self.precision, **style)
        self.chance_level_ = None
        if plot_chance_level and self.chance_level is not None:
            self.chance_level_ = chance_line(ax, self.chance_level, name, self.line_.get_color())
        label_axes(ax, "k (candidates retrieved)", "precision@k (share that is relevant)")
        ax.set_ylim(bottom=0)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if ax.get_legend_handles_labels()[0]:
            ax.legend()
        return self


def _up_to(n_candidates: int) -> NDArray[np.int64]:
    return np.arange(1, min(MAX_K, n_candidates) + 1)


def _candidates(
    plan: Plan, label: NDArray[np.int64], donor_label: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many donors each row may have, and how many of these have its label."""
    first_event = plan.pool.first_event
    if plan.before is None or first_event is None:
        n_relevant = np.bincount(donor_label, minlength=label.max() + 1)[label]
        return np.full(len(label), len(donor_label)), n_relevant
    n_relevant = np.zeros(len(label), dtype=np.int64)
    for group in np.unique(label):
        rows = label == group
        theirs = np.sort(first_event[donor_label == group])
        n_relevant[rows] = np.searchsorted(theirs, plan.before[rows])
    return np.searchsorted(np.sort(first_event), plan.before), n_relevant
