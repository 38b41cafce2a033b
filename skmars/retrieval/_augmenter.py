"""The estimator `SequenceRetrievalAugmenter`: parameters, validation and fitted attributes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from copy import copy
from functools import lru_cache
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.validation import check_is_fitted

from skmars.data import Impressions, Sequences
from skmars.data._activity import UserActivity, is_low
from skmars.data._checks import check_columns, require_impressions
from skmars.data._folds import mark_own
from skmars.data._frames import in_zone, make_frame
from skmars.retrieval._ann import HNSWNeighbors, NeighborIndex
from skmars.retrieval._assemble import Retrieved, assemble, retrieve
from skmars.retrieval._donors import (
    DonorPool,
    Own,
    PoolSettings,
    build_pool,
    check_interchangeable,
    collect_pool,
    rows_to_fit,
    warn_if_nothing_is_borrowed,
)
from skmars.retrieval._explain import borrowed_columns
from skmars.retrieval._neighbors import Searches, embedded_users, find_donors
from skmars.retrieval._out_of_fold import fold_groups, fold_of_users, join_groups
from skmars.retrieval._plan import Plan, Settings, make_plan
from skmars.utils._base import (
    ColumnsOutMixin,
    ImpressionsTransformerMixin,
    SkmarsMixin,
    all_or_nothing,
    require_fitted,
    with_callbacks,
)
from skmars.utils._blocks import in_threads
from skmars.utils._parameters import Number
from skmars.utils._progress import as_tasks, report
from skmars.utils._units import Vectors

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame
    from sklearn.callback import CallbackContext


class SequenceRetrievalAugmenter(
    SkmarsMixin, ColumnsOutMixin, ImpressionsTransformerMixin, BaseEstimator
):
    r"""Extend the histories of low-active users by items of the high-active users most like them.

    Section 3.4 of the MARS paper. The user of a low-active row is compared with all
    donors (Eq. 15); of the history of the most similar one, the items that are relevant
    (Eq. 16, 17) are put to the left of the row's own history (Eq. 18):

    .. math::
        d(u) &= \arg\max_{v \in \text{donors}} \cos(e_u - \bar e,\; e_v - \bar e) \quad (15) \\
        s_i &= \cos(e_u - \bar e,\; e_i - \bar e_I) \quad (16) \\
        \tilde S_{d(u)} &= [\, i \in S_{d(u)} : s_i \ge \theta \,] \quad (17) \\
        S'_u &= [\, \tilde S_{d(u)};\; S_u \,] \quad (18)

    Users are centred by the donors' mean :math:`\bar e`, items by the mean of the catalogue
    :math:`\bar e_I` (see `center`); by default, the target's vector takes the place of
    :math:`e_u` in Eq. 16 (see `relevance`). Besides, further context columns tell how look-alikes
    of every row interacted with its target (see `n_lookalikes`).

    Parameters
    ----------
    strategy : {"filter", "most_similar", "kth", "dp"}, default="filter"
        What is borrowed: the items of the `n_neighbors` most similar donors with
        :math:`s_i \ge \theta`; the whole history of the most similar donor; the whole histories of
        the `n_neighbors` most similar donors; or of each of these the subsequence that matches the
        user's own history best (see Notes).
    theta : float, default=0.1
        Least relevance of a borrowed item ("filter") or least cosine of a matched pair ("dp"),
        between -1 and 1; other strategies don't use it. Anything above 1 (up to 1.1)
        borrows nothing; "filter" with -1 is "kth" (if `max_borrowed` is None).
    n_neighbors : int, default=1
        Number of donors of a row (k of the paper's "kth"); where there are fewer, all of them.
        "most_similar" has one in any case.
    user_representation : {"history", "embedding"}, default="history"
        What makes users look alike, :math:`e_u` of Eq. 15: the mean of the centred unit vectors of
        the history's items, or the user embedding of `X` (that of the aligner, Eq. 13, as printed,
        or the column `user_embedding`). If the one can't be computed, the other is used.
    item_representation : {"features", "embedding"}, default="features"
        Vector of an item wherever items are compared: its modality features side by side, each
        at unit length, item factors among them; or its embedding in the aligned space (as
        printed), which leaks the clicks of the rows that it was trained on (see Notes).
        If the catalogue lacks the one, the other is used.
    relevance : {"target", "user", "both"}, default="target"
        What :math:`s_i` compares a donor's item with: the row's target item, the user (Eq. 16 as
        printed), or both (the mean of the two cosines). "user" and "both" need vectors of users and
        items of the same space.
    center : bool, default=True
        Whether to subtract the mean of the donors from users, and that of the catalogue from items,
        before their cosines (Eq. 15, 16; in "history" and "dp", too). Means of many items are
        nearly parallel otherwise, so that everybody is like everybody, and theta filters nothing.
        False is as printed.
    low_quantile, high_quantile : float, default=0.3, 0.7
        Rows are low-active up to, and users high-active from, these quantiles of activity (by
        linear interpolation). Both ends are inclusive, so that all who tie at a threshold are in;
        who would be both is low-active.
    max_length : int, default=200
        Borrowed and own items together. Own items are never dropped: those beyond
        `max_length` merely leave no room. What does not fit is cut from the left.
    max_borrowed : int, default=None
        Most items that a row may borrow: those with the largest :math:`s_i` for "filter" (among
        equals, those nearer to the own history), those nearest to the own history for the
        other strategies. Their order is kept. None for no limit but `max_length`.
    n_lookalikes : int, default=200
        Most users, the latest who touched a row's target before the row, with whom its user is
        compared. Any user of `fit` with a history may be one of them, not donors alone. How many
        touched the target, and how alike they are, becomes context, the look-alike features:
        ``item_popularity``, how many touched the target by then, and ``lookalike_support``, whether
        they are more like the row's user than others are; where histories carry feedback, also
        ``item_approval`` and ``lookalike_approval``: how often they liked it. 0 adds no columns, as
        the paper has none.
    activity : {"row", "user"}, default="row"
        What the quantiles are over: the histories of all rows, or (as printed) the longest history
        of each user. A row is low-active by its own history in either case: how active a user is
        going to be is not known at the moment of the row.
    respect_time : bool, default=True
        If impressions and donors have times, borrow only events strictly before the impression,
        and only from donors who have one. An event of unknown time is not borrowed, and an
        impression of which no time is known borrows nothing. (A donor's *vector* is that of their
        whole history in `fit`.)
    neighbors : {"auto", "exact", "hnsw", "nndescent"} or estimator, default="auto"
        How donors are searched. "exact" is a blocked matrix product, "hnsw" needs faiss and
        "nndescent" pynndescent (extra ``ann``). "auto" is exact up to 50,000 donors, and "hnsw"
        beyond if faiss is installed. Any estimator with `fit` and `kneighbors` will do; it is
        cloned and fitted to centred unit vectors, on which Euclidean order is cosine order. An
        index only names candidates, their cosines are computed exactly.
    cv : int, default=5
        Number of folds of users. In `fit_transform` a row's donors are those of the other folds
        (see Notes). Where rows come from an aligner, its `cv` holds.
    n_jobs : int, default=None
        Threads, each of which searches, borrows and counts for a block of histories; None for as
        many as BLAS has (``OPENBLAS_NUM_THREADS``, say). Results don't depend on it, unless an
        approximate index is built. An index of your own is asked by one thread.
    verbose : int, default=0
        1 prints how many items were borrowed after each `transform`, 2 also the progress.

    Attributes
    ----------
    pool_ : DonorPool
        The donors and all that a search among them needs. The attributes below are of it.
    low_threshold_, high_threshold_ : float
        Activity up to which a row is low-active, and from which a user is high-active.
    n_donors_ : int
        Number of donors.
    donor_ids_ : ndarray of shape (`n_donors_`,)
        Their user ids, in order.
    donor_embedding_ : ndarray of shape (`n_donors_`, n_components), float32
        Their user vectors, centred (see `center`), at unit length.
    donor_history_ : Sequences of `n_donors_` rows
        Their longest histories, in codes of `item_ids_`.
    item_ids_ : ndarray of shape (n_items,)
        Item ids of the catalogue of `fit`.
    user_center_, item_center_ : ndarray of shape (n_components,), float64
        What is subtracted before a cosine, zeros with ``center=False``; `item_center_` is None if
        items have no vectors.
    n_features_in_, feature_names_in_ : int, ndarray of str
        Number and names of the columns of the rows of `fit`.

    See Also
    --------
    DonorPool : Donors of other rows than those of `fit`, for `with_pool`.
    SteinAligner : Makes item factors and embeddings.
    DINClassifier : Takes own and borrowed histories.

    Notes
    -----
    *Donors* are the high-active users of `fit`, each with the longest history among their rows. A
    user never borrows from themselves. Cosines are rounded to six decimals; donors as similar as
    each other rank by user id. The most similar one stands next to the own history; within a donor
    the order is chronological. A row whose user vector is zero (an empty history) can't be compared
    with donors, and borrows nothing.

    *Training rows*: in `transform` a row has all donors, in `fit_transform` those of other folds
    than its user, or else counts would leak its click (as with scikit-learn's
    :class:`~sklearn.preprocessing.TargetEncoder`). Look-alikes are compared by item factors that
    are made of the users of these other folds alone: those of the catalogue are, in all folds, in a
    basis to which the row's user contributed. What is borrowed leaks clicks even so with
    ``item_representation="embedding"``, a space that was trained on them: on random labels, how
    similar it was to the target told those of training rows with an AUC of 0.60, where 0.5 is right
    (``python -m benchmarks.tell --histories positive``).

    *"dp"* maximises the summed cosine of an order-preserving matching between own items a and
    the donor's items b, by the recurrence ``D[i, j] = max(D[i-1, j], D[i, j-1], D[i-1, j-1] +
    cos(a_i, b_j))``, the last only where the cosine is at least theta, and positive.

    *Each row is treated by itself*: what it borrows depends on the row and on `fit`, never on the
    other rows. Items known from `fit` keep the vector they had there. Borrowed items that the
    catalogue of `X` lacks are added to it, known by id and embedding alone. Whatever `X` had
    borrowed before is replaced.

    References
    ----------
    "MARS: Modality-Aligned Retrieval for Sequence Augmented CTR Prediction",
    arXiv 2509.01184, section 3.4 (Eq. 15-18) and section 4.4 (strategies).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from skmars.data import Impressions, ItemCatalog
    >>> from skmars.retrieval import SequenceRetrievalAugmenter
    >>> catalog = ItemCatalog([1, 2, 3, 4], embedding=np.array(
    ...     [[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]]))
    >>> X = Impressions.from_frame(pd.DataFrame({
    ...     "user_id": ["ann", "bob", "cid"],
    ...     "item_id": [3, 4, 2],
    ...     "history": [[1], [2, 1, 1], [4, 3, 3]],
    ... }), catalog)
    >>> augmenter = SequenceRetrievalAugmenter(relevance="user").fit(X)
    >>> augmenter.explain(X)[["user_id", "donor_id", "item_id", "similarity"]]
      user_id donor_id  item_id  similarity
    0     ann      bob        2         1.0
    1     ann      bob        1         1.0
    2     ann      bob        1         1.0
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "strategy": [StrOptions({"filter", "most_similar", "kth", "dp"})],
        "theta": [Number(Real, -1, 1.1, closed="both")],
        "n_neighbors": [Number(Integral, 1, None, closed="left")],
        "user_representation": [StrOptions({"history", "embedding"})],
        "item_representation": [StrOptions({"features", "embedding"})],
        "relevance": [StrOptions({"user", "target", "both"})],
        "center": ["boolean"],
        "low_quantile": [Number(Real, 0, 1, closed="both")],
        "high_quantile": [Number(Real, 0, 1, closed="both")],
        "max_length": [Number(Integral, 1, None, closed="left")],
        "max_borrowed": [Number(Integral, 1, None, closed="left"), None],
        "n_lookalikes": [Number(Integral, 0, None, closed="left")],
        "activity": [StrOptions({"user", "row"})],
        "respect_time": ["boolean"],
        "neighbors": [
            StrOptions({"auto", "exact", "hnsw", "nndescent"}),
            HasMethods(["fit", "kneighbors"]),
        ],
        "cv": [Number(Integral, 2, 100, closed="both")],
        "n_jobs": [Number(Integral, None, None, closed="neither"), None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        strategy: str = "filter",
        *,
        theta: float = 0.1,
        n_neighbors: int = 1,
        user_representation: str = "history",
        item_representation: str = "features",
        relevance: str = "target",
        center: bool = True,
        low_quantile: float = 0.3,
        high_quantile: float = 0.7,
        max_length: int = 200,
        max_borrowed: int | None = None,
        n_lookalikes: int = 200,
        activity: str = "row",
        respect_time: bool = True,
        neighbors: str | NeighborIndex = "auto",
        cv: int = 5,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.strategy = strategy
        self.theta = theta
        self.n_neighbors = n_neighbors
        self.user_representation = user_representation
        self.item_representation = item_representation
        self.relevance = relevance
        self.center = center
        self.low_quantile = low_quantile
        self.high_quantile = high_quantile
        self.max_length = max_length
        self.max_borrowed = max_borrowed
        self.n_lookalikes = n_lookalikes
        self.activity = activity
        self.respect_time = respect_time
        self.neighbors = neighbors
        self.cv = cv
        self.n_jobs = n_jobs
        self.verbose = verbose

    @all_or_nothing
    @with_callbacks
    def fit(self, X: Impressions | IntoDataFrame, y: object = None) -> SequenceRetrievalAugmenter:
        """Find the thresholds of activity and collect the donors.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
            With user embeddings or with embeddings (or features) of the items.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter is out of range, there is nothing to compare users by, or embeddings are
            not finite or of different spaces.

        Warns
        -----
        UserWarning
            If nobody can borrow, because there is no low-active row with a history, or no donor.
        """
        context = self._init_callback_context()
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        self._fit(self._checked(X))
        context.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes=self._fitted_attributes
        )
        return self

    @all_or_nothing
    @with_callbacks
    def fit_transform(self, X: Impressions | IntoDataFrame, y: object = None) -> Impressions:
        """Fit, then let the same rows borrow from users of other folds (see `cv`).

        Parameters
        ----------
        X, y
            As in `fit`.

        Returns
        -------
        Impressions
            As of `transform`; ``fold`` holds the fold of each row's user.
        """
        rows = self._checked(X)
        groups = fold_groups(rows, self.cv)
        context = self._init_callback_context(max_subtasks=len(groups))
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        everybody = self._fit(rows)
        activity = self.low_threshold_, self.high_threshold_
        fold, parts = fold_of_users(rows, self.cv), []
        for group in groups:
            seen = rows.catalog.in_fold(group.feature_fold)
            pool = collect_pool(
                everybody[fold[everybody.user] != group.fold],
                group.feature_fold,
                self.pool_.settings,
                self.neighbors,
                self.n_jobs,
                activity,
                self.pool_.items if seen is rows.catalog else None,
            )
            part = rows[group.rows].with_catalog(seen)
            parts.append(self._retrieve(part, Own.nobody(len(part)), pool, context))
        augmented = join_groups(rows, groups, parts, self.donor_ids_)
        context.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes=self._fitted_attributes
        )
        return augmented.with_fold(fold[rows.user] if rows.fold is None else rows.fold)

    def _checked(self, X: Impressions | IntoDataFrame) -> Impressions:
        self._check_parameters()
        return rows_to_fit(X)

    def _pool_settings(self) -> PoolSettings:
        """Return the parameters that decide what a pool holds, checked."""
        self._check_parameters()
        return PoolSettings(**{k: getattr(self, k) for k in PoolSettings.__dataclass_fields__})

    def _fit(self, X: Impressions) -> Impressions:
        """Set the fitted attributes; return of each user the row with the longest history."""
        users = UserActivity.of(X)
        pool, rows = build_pool(X, users, self._pool_settings(), self.neighbors, self.n_jobs)
        check_columns(self, X, reset=True)
        self.pool_, self._activity = pool, users[0]
        nothing = self._plan(X[:0], Own.nobody(0), pool)
        self._columns_out = assemble(nothing, ()).columns
        warn_if_nothing_is_borrowed(X, pool, stacklevel=6)  # past `fit` and its decorators
        return rows

    def transform(self, X: Impressions | IntoDataFrame) -> Impressions:
        """Put borrowed items to the left of short histories, and add look-alike features.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table

        Returns
        -------
        Impressions
            The same rows; ``borrowed`` holds what each borrows, from whom, and with which
            similarity, and ``context`` the look-alike features (see `n_lookalikes`).

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `fit` was not called before.
        TypeError
            If ids of users or items are strings and those of `fit` integers, or the other way
            round.
        ValueError
            If `X` lacks the user embedding or a context column of `fit`, or its items are in
            another space than in `fit` (the aligner was fitted again since, say).
        """
        rows, own = self._fitted_rows(X)
        augmented = self._retrieve(rows, own, self.pool_)
        return mark_own(augmented, own.has_later_events(rows, self.pool_, not self.n_lookalikes))

    def _fitted_rows(self, X: Impressions | IntoDataFrame) -> tuple[Impressions, Own]:
        """Return the rows, and who in the pool is the own user of each."""
        require_fitted(self, "pool_")
        # Parameters may have been set since the fit.
        given = {name: getattr(self, name) for name in Settings.__dataclass_fields__}
        try:
            _check_settings(**given)
        except TypeError:  # what can't be remembered, such as a list
            self._check_parameters()
        rows = require_impressions(X, estimator_name=type(self).__name__)
        check_columns(self, rows, reset=False)
        return rows, Own.of(rows, self.pool_)

    def with_pool(self, pool: DonorPool) -> Any:
        """Return an augmenter that borrows from another pool, of other users or later events.

        Parameters
        ----------
        pool : DonorPool
            Made with the parameters of this fit, of rows that the steps before it transformed.

        Returns
        -------
        SequenceRetrievalAugmenter
            A fitted copy, whose thresholds are those of the pool; this augmenter stays as it is.

        Raises
        ------
        TypeError
            If `pool` is no `DonorPool`.
        ValueError
            If the pool has vectors of another space (the aligner was fitted again since, say),
            was made with other parameters, or has no times or feedback where the fit had some. The
            message tells what differs.
        """
        check_is_fitted(self)
        if not isinstance(pool, DonorPool):
            raise TypeError(
                f"pool must be a DonorPool, got {pool!r}. DonorPool.build(augmenter, X) makes one, "
                "DonorPool.load(path) reads one."
            )
        check_interchangeable(self.pool_, pool)
        other = copy(self)
        other.pool_ = pool
        return other

    def updated(self, X: Impressions | IntoDataFrame, y: object = None) -> Any:
        """Return an augmenter whose donors and thresholds are those of all rows up to now.

        It is fitted to them anew, which is cheap: nothing is trained. See `skmars.update`.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
            All rows, those of the fit and later ones, as the steps before this one now make them.
        y : ignored

        Returns
        -------
        SequenceRetrievalAugmenter
            A fitted copy; this augmenter stays as it is.

        Raises
        ------
        ValueError
            If `X` lacks rows of a user whom the fit knew, or as in `fit`.
        """
        check_is_fitted(self)
        rows = require_impressions(X, estimator_name=type(self).__name__)
        check_columns(self, rows, reset=False)
        self._activity.check_goes_on(rows, type(self).__name__)
        return copy(self).fit(rows)

    def explain(self, X: Impressions | IntoDataFrame, frame: str | None = None) -> IntoDataFrame:
        """Return a table of what each row borrows, from whom and why.

        Parameters
        ----------
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
            As for `transform`.
        frame : {"pandas", "polars", "pyarrow"}, default=None
            Kind of table; None takes the first of these that is installed.

        Returns
        -------
        pandas.DataFrame, polars.DataFrame or pyarrow.Table
            One line a borrowed item, in the order in which they stand to the left of the own
            history. Columns `row` (number in `X`), `user_id`, `donor_id`, `donor_similarity`
            (Eq. 15), `item_id`, `title`, `similarity` (:math:`s_i`, Eq. 16), and, where donors
            have them, `feedback` and `timestamp` of the donor's event: a datetime in the zone of
            the times of `X`, or of UTC, if these are seconds since 1970.

        See Also
        --------
        skmars.explain : Explains a whole pipeline, also why a row borrows nothing.
        """
        rows = self.transform(X)
        return in_zone(make_frame(borrowed_columns(rows), frame), "timestamp", rows._zone)

    @property
    def low_threshold_(self) -> float:
        return self.pool_.low_threshold

    @property
    def high_threshold_(self) -> float:
        return self.pool_.high_threshold

    @property
    def n_donors_(self) -> int:
        return len(self.pool_)

    @property
    def donor_ids_(self) -> NDArray[Any]:
        return self.pool_.ids

    @property
    def donor_history_(self) -> Sequences:
        return self.pool_.history

    @property
    def donor_embedding_(self) -> Vectors:
        return self.pool_.units

    @property
    def user_center_(self) -> NDArray[np.float64]:
        return self.pool_.center

    @property
    def item_ids_(self) -> NDArray[Any]:
        return self.pool_.items.ids

    @property
    def item_center_(self) -> NDArray[np.float64] | None:
        return self.pool_.items.center

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    def _plan(
        self, X: Impressions, own: Own, pool: DonorPool, everybody: bool = False, **changes: Any
    ) -> Plan:
        """Return how rows borrow; `everybody` does, not only those who are low-active."""
        given = {name: getattr(self, name) for name in Settings.__dataclass_fields__}
        settings = Settings(**{**given, **changes})
        low = is_low(X.history.length, pool.low_threshold) | everybody
        return make_plan(X, low, own, pool, settings)

    def _retrieve(
        self,
        X: Impressions,
        own: Own,
        pool: DonorPool,
        context: CallbackContext | None = None,
    ) -> Impressions:
        """Let rows borrow from a pool, and be compared with its users, except with themselves."""
        began = time.perf_counter()
        name = type(self).__name__
        plan = self._plan(X, own, pool)

        def of(searches: Searches) -> Retrieved:
            return retrieve(plan, searches[0], find_donors(plan, *searches))

        # Of other indices it is not known that threads may share them.
        shared = pool.index is None or isinstance(pool.index, HNSWNeighbors)
        blocks = ((block, embedded_users(plan, block)) for block in plan.blocks)
        with in_threads(of, blocks, self.n_jobs if shared else 1) as results:

            def found() -> Iterator[Retrieved]:
                for block in as_tasks(plan.blocks, "retrieve", "block", self, context):
                    yield next(results)
                    line = f"[{name}] searched {block.stop} of {len(plan.first_row)} histories"
                    report(line, self.verbose > 1, logging.DEBUG)

            augmented = assemble(plan, found())
        length = augmented.borrowed.length  # type: ignore[union-attr]
        report(
            f"[{name}] {np.count_nonzero(length)} of {len(X)} rows borrowed "
            f"{length.sum()} items in {time.perf_counter() - began:.1f} s",
            self.verbose,
        )
        return augmented

    def _fitted_attributes(self) -> dict[str, Any]:
        private = ("_activity", "_columns_out")
        return {k: v for k, v in vars(self).items() if k.endswith("_") or k in private}

    def _check_parameters(self) -> None:
        self._validate_params()
        if self.low_quantile > self.high_quantile:
            raise ValueError(
                f"low_quantile={self.low_quantile} must not exceed "
                f"high_quantile={self.high_quantile}."
            )


@lru_cache(maxsize=64, typed=True)
def _check_settings(**settings: Any) -> None:
    """Check parameters of `transform`, of which most calls have those of an earlier one."""
    SequenceRetrievalAugmenter(**settings)._check_parameters()
