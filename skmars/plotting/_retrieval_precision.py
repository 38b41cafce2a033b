"""How many of the nearest k are the right ones, for each k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils.validation import _num_samples

from skmars.data._checks import require_impressions
from skmars.metrics import retrieval_precision_at_k
from skmars.plotting._figure import Display, neutral, require_step
from skmars.retrieval import SequenceRetrievalAugmenter
from skmars.retrieval._donors import user_units
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
            If `X` lacks what users are compared by, has no user but donors, or a user has no label.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        require_step(estimator, SequenceRetrievalAugmenter, cls)
        X = require_impressions(X, estimator_name=cls.__name__)
        X = X[ragged.longest(X.user, X.history.length)]
        X = X[~np.isin(X.user_ids, estimator.donor_ids_)]
        if len(X) == 0:
            raise ValueError("All users of X are donors; pass rows of low-active users, too.")
        query_ids, donor_ids = X.user_ids.tolist(), estimator.donor_ids_.tolist()
        unknown = [user for user in (*query_ids, *donor_ids) if user not in user_labels]
        if unknown:
            raise ValueError(
                f"user_labels lacks {len(unknown)} of the users (first: {unknown[0]!r})."
            )
        labels: dict[str, Any] = {
            "query_labels": [user_labels[user] for user in query_ids],
            "candidate_labels": [user_labels[user] for user in donor_ids],
        }
        name = type(estimator).__name__ if name is None else name
        queries, candidates = user_units(X, estimator.pool_), estimator.donor_embedding_
        return cls.from_embeddings(queries, candidates, **labels, k=k, name=name, ax=ax, **kwargs)

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
        ks = np.arange(1, min(MAX_K, n) + 1) if k is None else np.asarray(k)
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
        (self.line_,) = ax.plot(self.k, self.precision, label=name, **{"marker": "o", **kwargs})
        self.chance_level_ = None
        if plot_chance_level and self.chance_level is not None:
            self.chance_level_ = ax.axhline(
                self.chance_level, color=neutral(), linestyle=":", label="drawn at random"
            )
        ax.set(xlabel="k (candidates retrieved)", ylabel="precision@k (part that is relevant)")
        ax.set_ylim(bottom=0)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if ax.get_legend_handles_labels()[0]:
            ax.legend()
        return self
