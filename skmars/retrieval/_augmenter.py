"""The estimator: low-active users borrow from look-alikes."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skmars.data import Impressions
from skmars.data._activity import UserActivity, is_high, is_low, thresholds
from skmars.data._checks import check_columns, require_impressions
from skmars.data._folds import EVERYBODY, mark_own, user_folds
from skmars.retrieval._borrowing import Rule
from skmars.retrieval._embeddings import has_embedding
from skmars.retrieval._explain import explanation
from skmars.retrieval._retrieve import (
    DonorPool,
    Settings,
    collect_donors,
    joined,
    nothing_borrowed,
    retrieve,
    user_vectors,
    with_support,
)
from skmars.utils._base import ImpressionsTransformerMixin, SkmarsMixin, with_callbacks
from skmars.utils._ids import Lookup
from skmars.utils._progress import as_tasks, report


class SequenceRetrievalAugmenter(SkmarsMixin, ImpressionsTransformerMixin, BaseEstimator):
    r"""Let low-active users borrow history from the high-active users most like them.

    Section 3.4 of the MARS paper. A row whose user is low-active is compared with all
    donors (Eq. 15); of the history of the most similar one, the items that are relevant
    (Eq. 16, 17) are put to the left of the row's own history (Eq. 18):

    .. math::
        d(u) &= \arg\max_{v \in \text{donors}} \cos(e_u - \bar e,\; e_v - \bar e) \quad (15) \\
        s_i &= \cos(e_u - \bar e,\; e_i - \bar e_I) \quad (16) \\
        \tilde S_{d(u)} &= [\, i \in S_{d(u)} : s_i \ge \theta \,] \quad (17) \\
        S'_u &= [\, \tilde S_{d(u)};\; S_u \,] \quad (18)

    Besides, columns tell how look-alikes of every row interacted with its target (see
    `n_lookalikes`).

    Both spaces are centred before the cosine, as means of many items are nearly parallel
    otherwise: users by the donors' mean :math:`\bar e`, item embeddings by the mean of
    the catalogue :math:`\bar e_I`. So :math:`s_i` asks whether an item departs from the average
    item in the direction in which the user departs from the average donor. Cosines are rounded
    to six decimals, so that equal ones are equal; a zero vector (no embedding) has cosine 0.

    Parameters
    ----------
    strategy : {"filter", "most_similar", "kth", "dp"}, default="filter"
        What is borrowed.

        - ``"filter"``: the items with :math:`s_i \ge \theta` of the `n_neighbors` most similar
          donors.
        - ``"most_similar"``: their whole histories.
        - ``"kth"``: the whole history of the donor of rank `n_neighbors`, and of no other.
        - ``"dp"``: of each of the `n_neighbors` donors the subsequence that matches the user's
          own history best, in order (see Notes).
    theta : float, default=0.1
        Least relevance of a borrowed item ("filter") or least cosine of a matched pair ("dp"),
        between -1 and 1; other strategies don't use it. Anything above 1 (up to 1.1)
        borrows nothing; "filter" with -1 is "most_similar" (if `max_borrowed` is None).
    n_neighbors : int, default=1
        Number of donors of a row; for "kth", the rank of its only donor. Where there are
        fewer, all of them.
    user_representation : {"history", "embedding"}, default="history"
        What makes users look alike, :math:`e_u` of Eq. 15.

        - ``"history"``: the mean of the centred unit vectors of the history's items. Every item
          counts the same, and what all items have in common does not count.
        - ``"embedding"``: the user embedding of `X`: that of the aligner (Eq. 13, as printed), or
          the column `user_embedding`.

        Each stands in where there is nothing for the other.
    item_representation : {"features", "embedding"}, default="features"
        What stands for an item wherever items are compared.

        - ``"features"``: its modality features side by side, each at unit length, item factors
          among them. In training rows they know nothing of the row's own click.
        - ``"embedding"``: its embedding in the aligned space (as the paper has it). The network
          that makes it was trained on the clicks of these very rows, and remembers them where
          items are rare: on labels of chance look-alikes then seem to know the clicks of training
          rows (see Notes).

        Each stands in where the catalogue lacks the other.
    relevance : {"target", "user", "both"}, default="target"
        What :math:`s_i` compares a donor's item with: the embedding of the row's target item,
        the user's embedding (Eq. 16 as printed), or both (the mean of the two cosines). "user"
        and "both" need user and item embeddings of the same space. What is borrowed for the
        target answers the question that the row asks: what did look-alikes do with such items?
    low_quantile, high_quantile : float, default=0.3, 0.7
        Users are low-active up to, and high-active from, these quantiles of activity (by linear
        interpolation, as `numpy.quantile`). Both ends are inclusive, so that all who tie at a
        threshold are in; who would be both is low-active.
    max_length : int, default=200
        Borrowed and own items together. Own items are never dropped: those beyond
        `max_length` merely leave no room. What does not fit is cut from the left.
    max_borrowed : int, default=None
        Most items that a row may borrow: those with the largest :math:`s_i` for "filter" (among
        equals, those nearer to the own history), those nearest to the own history for the
        other strategies. Their order is kept. None for no limit but `max_length`.
    n_lookalikes : int, default=50
        Number of look-alikes (the most similar donors) of every row, also where nothing is
        borrowed. How they interacted with the row's target becomes context, the look-alike
        features: ``donor_popularity``, how many of all donors touched the target by then, and
        ``lookalike_support``, how many of the look-alikes did compared with that; where histories
        carry feedback ``donor_approval`` and ``lookalike_approval`` too, how often they liked it
        (see Notes). 0 adds no columns, as the paper has none.
    activity : {"row", "user"}, default="row"
        What the quantiles are over: the histories of all rows, or (as the paper has it) the
        longest history of each user. A row is low-active by its own history in either case, so
        that the early rows of a user who became active later borrow, too: how active a user is
        going to be is not known at the moment of the row.
    respect_time : bool, default=True
        If impressions and donors have times, borrow only events strictly before the impression,
        and only from donors who have one. An event of unknown time is not borrowed, and an
        impression of which no time is known borrows nothing. Without times there is no
        restriction. (A donor's *embedding* is that of their whole history in `fit`.)
    neighbors : {"auto", "exact", "hnsw", "nndescent"} or estimator, default="auto"
        How donors are searched. "exact" is a blocked matrix product, "hnsw" needs faiss and
        "nndescent" pynndescent (extra ``ann``). "auto" is exact up to 50,000 donors, and "hnsw"
        beyond if faiss is installed. Any estimator with `fit` and `kneighbors` will do; it is
        cloned and fitted to centred unit vectors, on which Euclidean order is cosine order. An
        index only names candidates, their cosines are computed exactly.
    cv : int, default=5
        Number of folds of users. In `fit_transform` a row's donors are those of the other folds,
        so that nothing that is borrowed or counted comes from the row's own user (counts that leave
        out just the user would tell the click the other way round). Users are assigned by a hash
        of their id, in all steps alike; where rows come from an aligner, its `cv` holds.
    n_jobs : int, default=None
        Threads of the search. Results don't depend on it, unless an approximate index is built.
    verbose : int, default=0
        1 prints what was borrowed after each `transform`, 2 also how far it is.

    Attributes
    ----------
    low_threshold_, high_threshold_ : float
        Activity up to which a row is low-active, and from which a user is high-active.
    n_donors_ : int
        Number of donors.
    donor_ids_ : ndarray of shape (`n_donors_`,)
        Their user ids, in order.
    donor_embedding_ : ndarray of shape (`n_donors_`, n_components), float32
        Their centred user vectors, at unit length.
    donor_history_ : Sequences of `n_donors_` rows
        Their longest histories, in codes of `item_ids_`.
    item_ids_ : ndarray of shape (n_items,)
        Item ids of the catalogue of `fit`.
    user_center_, item_center_ : ndarray of shape (n_components,), float64
        What is subtracted before a cosine; `item_center_` is None if items have no embedding.
    n_features_in_ : int
        Number of columns of the rows of `fit`.
    feature_names_in_ : ndarray of str
        Their names.

    See Also
    --------
    SteinAligner : Makes item factors and embeddings.
    DINClassifier : Takes own and borrowed histories.

    Notes
    -----
    *Donors* come from the rows of `fit`: every high-active user lends the longest history among
    their rows (the first such row). A user never borrows from themselves. Equally similar donors
    rank by user id.

    *Several donors*: the least similar one stands leftmost, the most similar next to the own
    history; within a donor the order is chronological.

    *Item embeddings* in the equations are the vectors that `item_representation` names. Without a
    user embedding ``user_representation="embedding"`` takes their mean over the history (Eq. 13
    without context). A row whose user vector is zero (an empty history) has nothing by which to
    tell a look-alike, and borrows nothing.

    *Whose clicks a space knows*: an aligner learns its network and its embeddings of ids from the
    clicks of all rows. On labels of chance (histories of likes, ten epochs) ``lookalike_support``
    then told the clicks of training rows with an AUC of 0.60, and so did the similarity of
    borrowed items; 0.5 is right. Features with item factors of other folds had 0.51 and 0.47
    (``benchmarks.tell``). On small shops classifiers relied on it, and fell below those without
    look-alikes.

    *Support and approval*: a look-alike counts by ``exp((s - s_1) / 0.1)``, with `s` their
    similarity and `s_1` that of the most similar, so that `n_lookalikes` may be generous. Of `k`
    look-alikes `c` touched the target, of all `N` donors `C` did; then ``lookalike_support =
    log((c + 3) / (k C / N + 3))``, and ``donor_popularity = log((C + 3) / (A + 3))``, where `A` is
    the mean of `C` over all items. Of those whose opinion is known `l` liked it and `d` did not,
    of all donors the share `q`, and of all items the share `r`; ``lookalike_approval`` is
    ``logit((l + 5 q) / (l + d + 5)) - logit(q)``, and ``donor_approval`` is
    ``logit(q) - logit(r)``. What donors did later than the row does not count.

    *Training rows*: ``fit(X).transform(X)`` does not equal ``fit_transform(X)``, as with
    scikit-learn's :class:`~sklearn.preprocessing.TargetEncoder`: in `transform` a row has
    all donors, in `fit_transform` those of other folds than its user (see `cv`). What is trained
    on these rows next must have the latter, as it has in a `Pipeline`.

    *"dp"* maximises the summed cosine of an order-preserving matching between own items a and
    the donor's items b, by the recurrence ``D[i, j] = max(D[i-1, j], D[i, j-1], D[i-1, j-1] +
    cos(a_i, b_j))``, the last only where the cosine is at least theta, and positive. Among equally
    good matchings, reading back from the end, a match comes before skipping the own item, and
    that before skipping the donor's.

    *Each row is treated by itself*: what it borrows depends on the row and on `fit`, never on the
    other rows. Items known from `fit` keep the embedding they had there. Borrowed items that the
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
    >>> augmenter.donor_ids_
    array(['bob', 'cid'], dtype=object)
    >>> augmenter.explain(X)[["user_id", "donor_id", "item_id", "similarity"]]
      user_id donor_id  item_id  similarity
    0     ann      bob        2         1.0
    1     ann      bob        1         1.0
    2     ann      bob        1         1.0
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "strategy": [StrOptions({"filter", "most_similar", "kth", "dp"})],
        "theta": [Interval(Real, -1, 1.1, closed="both")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "user_representation": [StrOptions({"history", "embedding"})],
        "item_representation": [StrOptions({"features", "embedding"})],
        "relevance": [StrOptions({"user", "target", "both"})],
        "low_quantile": [Interval(Real, 0, 1, closed="both")],
        "high_quantile": [Interval(Real, 0, 1, closed="both")],
        "max_length": [Interval(Integral, 1, None, closed="left")],
        "max_borrowed": [Interval(Integral, 1, None, closed="left"), None],
        "n_lookalikes": [Interval(Integral, 0, None, closed="left")],
        "activity": [StrOptions({"user", "row"})],
        "respect_time": ["boolean"],
        "neighbors": [
            StrOptions({"auto", "exact", "hnsw", "nndescent"}),
            HasMethods(["fit", "kneighbors"]),
        ],
        "cv": [Interval(Integral, 2, 100, closed="both")],
        "n_jobs": [Integral, None],
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
        low_quantile: float = 0.3,
        high_quantile: float = 0.7,
        max_length: int = 200,
        max_borrowed: int | None = None,
        n_lookalikes: int = 50,
        activity: str = "row",
        respect_time: bool = True,
        neighbors: Any = "auto",
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

    @with_callbacks
    def fit(self, X: Any, y: Any = None) -> SequenceRetrievalAugmenter:
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
        TypeError
            If `X` is neither impressions nor a table of them.
        ValueError
            If a parameter is out of range, there is nothing to compare users by, embeddings are
            not finite or of different spaces.

        Warns
        -----
        UserWarning
            If nobody can borrow, because there is no low-active user with a history, or no
            donor.
        """
        context = self._init_callback_context()
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        self._fit(self._checked(X))
        context.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes=self._fitted_attributes
        )
        return self

    @with_callbacks
    def fit_transform(self, X: Any, y: Any = None) -> Any:
        """Fit, then let the same rows borrow from users of other folds (see `cv`).

        Callbacks see how far that is.

        Parameters
        ----------
        X, y
            As in `fit`.

        Returns
        -------
        Impressions
            As of `transform`; ``fold`` holds the fold of each row's user.
        """
        X = self._checked(X)
        groups = self._fold_groups(X)
        context = self._init_callback_context(max_subtasks=len(groups))
        context.call_on_fit_task_begin(estimator=self, X=X, y=y)
        donors = self._fit(X)
        augmented = self._out_of_fold(X, groups, donors, context)
        context.call_on_fit_task_end(
            estimator=self, X=X, y=y, reconstruction_attributes=self._fitted_attributes
        )
        return augmented

    def _checked(self, X: Any) -> Impressions:
        self._check_parameters()
        X = require_impressions(X, estimator_name=type(self).__name__)
        if len(X) == 0:
            raise ValueError(f"{type(self).__name__} needs at least one row to fit, X has none.")
        return X

    def _fit(self, X: Impressions) -> Impressions:
        """Return the row of each donor whose history is lent."""
        active, row = UserActivity.of(X)
        counted = active.longest if self.activity == "user" else X.history.length
        low, high = thresholds(counted, self.low_quantile, self.high_quantile)
        lends = is_high(active.longest, low, high) & (active.longest > 0)
        donors = X[row[lends]]
        pool = self._collect(donors, EVERYBODY)
        self._check_spaces(pool)

        check_columns(self, X, reset=True)
        self.low_threshold_, self.high_threshold_ = low, high
        self.n_donors_ = len(pool)
        self.donor_ids_, self.donor_history_ = pool.ids, pool.history
        self.donor_embedding_, self.user_center_ = pool.units, pool.center
        self.item_ids_, self.item_center_ = pool.items.catalog.ids, pool.items.center
        self._activity, self._pool = active, pool
        self._donor_of_user = np.append(
            Lookup(pool.ids, "the donors")(active.ids, "user_id of the rows of fit"), np.int32(-1)
        )
        empty = X[:0]
        if self.n_lookalikes:
            empty = with_support(empty, np.zeros((4, 0)), pool)
        self._columns_out = empty.with_borrowed(nothing_borrowed(pool)).columns
        self._warn_if_idle(X)
        return donors[np.isin(donors.user_ids, pool.ids)]

    def _collect(self, donors: Impressions, fold: int) -> DonorPool:
        """Make the pool of these donors, as the rows of a fold see items and users."""
        seen = np.full(len(donors), fold, dtype=np.int8)
        donors = donors.with_catalog(donors.catalog.in_fold(fold)).with_fold(seen)
        return collect_donors(
            donors, self.user_representation, self.item_representation, self.neighbors, self.n_jobs
        )

    def _n_folds(self, X: Impressions) -> int:
        return len(X.catalog.folds) or self.cv

    def _fold_groups(self, X: Impressions) -> list[tuple[int, int, NDArray[np.int64]]]:
        """Return the rows of each fold of users, apart where they see items and users otherwise.

        Each group is the fold without which the space of its rows was made (or none, negative),
        the fold of its users, and its rows.
        """
        fold = user_folds(X.users, self._n_folds(X))[X.user]
        space = fold if X.fold is None else np.maximum(X.fold, EVERYBODY)
        kinds, kind = np.unique(np.stack([space, fold]), axis=1, return_inverse=True)
        return [
            (int(seen), int(k), np.flatnonzero(kind == i)) for i, (seen, k) in enumerate(kinds.T)
        ]

    def _out_of_fold(
        self,
        X: Impressions,
        groups: list[tuple[int, int, NDArray[np.int64]]],
        donors: Impressions,
        context: Any,
    ) -> Impressions:
        """Let each row borrow from donors of other folds, in the space of its own fold."""
        fold = user_folds(X.users, self._n_folds(X))
        parts = []
        for seen, k, rows in groups:
            pool = self._collect(donors[fold[donors.user] != k], seen)
            part = X[rows].with_catalog(X.catalog.in_fold(seen))
            nobody = np.full(len(rows), -1, dtype=np.int32)
            parts.append((rows, self._retrieve(part, nobody, pool, context)))
        return joined(X, parts, self._pool).with_fold(fold[X.user] if X.fold is None else X.fold)

    def transform(self, X: Any) -> Any:
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
        ValueError
            If `X` lacks the user embedding or a context column of `fit`, or its items are in
            another space than in `fit` (the aligner was fitted again since, say).
        """
        return self._transform(X)

    def explain(self, X: Any, frame: str | None = None) -> Any:
        """Tell what each row borrows, from whom and why.

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
            have them, `feedback` and `timestamp` of the donor's event.
        """
        return explanation(self._transform(X), frame)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the columns of the output as a frame, the borrowed ones last.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        return np.array(self._columns_out, dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        return tags

    def _transform(self, X: Any) -> Impressions:
        check_is_fitted(self)
        self._check_parameters()
        X = require_impressions(X, estimator_name=type(self).__name__)
        check_columns(self, X, reset=False)
        self._check_spaces(self._pool)
        active = self._activity
        themselves = self._donor_of_user[active.codes(X)]  # -1 takes the last entry: no donor
        return mark_own(self._retrieve(X, themselves, self._pool), active.outlasts(X))

    def _retrieve(
        self, X: Impressions, themselves: NDArray[np.int32], pool: DonorPool, context: Any = None
    ) -> Impressions:
        """Let rows borrow from a pool, but not from `themselves`, their number in it or -1."""
        began = time.perf_counter()
        name = type(self).__name__
        settings = Settings(
            Rule(self.strategy, float(self.theta), self.n_neighbors, self.max_borrowed),
            self.relevance,
            self.max_length,
            bool(self.respect_time),
            self.n_lookalikes,
            self.n_jobs,
        )

        def watch(blocks: list[range]) -> Iterator[range]:
            for block in as_tasks(blocks, "retrieve", "block", self, context):
                yield block
                line = f"[{name}] searched {block.stop} of {blocks[-1].stop} histories"
                report(line, self.verbose > 1, logging.DEBUG)

        low = np.flatnonzero(is_low(X.history.length, self.low_threshold_))
        augmented = retrieve(X, low, themselves, pool, settings, watch)
        length = augmented.borrowed.length  # type: ignore[union-attr]
        report(
            f"[{name}] {np.count_nonzero(length)} of {len(X)} rows borrowed "
            f"{length.sum()} items in {time.perf_counter() - began:.1f} s",
            self.verbose,
        )
        return augmented

    def _fitted_attributes(self) -> dict[str, Any]:
        private = ("_activity", "_pool", "_donor_of_user", "_columns_out")
        return {k: v for k, v in vars(self).items() if k.endswith("_") or k in private}

    def _check_parameters(self) -> None:
        self._validate_params()
        if self.low_quantile > self.high_quantile:
            raise ValueError(
                f"low_quantile={self.low_quantile} must not exceed "
                f"high_quantile={self.high_quantile}."
            )

    def _check_spaces(self, pool: DonorPool) -> None:
        """Check that there are the embeddings that Eq. 16 compares."""
        units = pool.items.units
        if units is None and self.strategy in ("filter", "dp"):
            raise ValueError(
                f"strategy={self.strategy!r} compares items, but the catalogue of fit has neither "
                "an embedding nor features. Put an aligner or encoder before this step, build the "
                "catalogue with features, or use strategy='most_similar'."
            )
        if units is None or len(pool) == 0 or self.relevance == "target":
            return
        if units.shape[1] != pool.units.shape[1]:
            raise ValueError(
                f"relevance={self.relevance!r} compares users with items, but user embeddings have "
                f"{pool.units.shape[1]} columns and item vectors {units.shape[1]}. Set "
                "item_representation='embedding' if both come from an aligner, or "
                "relevance='target'."
            )

    def _warn_if_idle(self, X: Impressions) -> None:
        """Say so if transform will be the identity."""
        reason = None
        low, high = self.low_threshold_, self.high_threshold_
        if self.n_donors_ == 0:
            reason = (
                f"there is no donor: users are low-active up to {low:g} items and high-active "
                f"from {high:g}, and no user with an embedding is high-active only. Lower "
                "low_quantile or high_quantile"
            )
        elif self.strategy == "kth" and self.n_neighbors > self.n_donors_:
            reason = (
                f"there are {self.n_donors_} donors only, and strategy='kth' asks for the one of "
                f"rank n_neighbors={self.n_neighbors}. Lower n_neighbors"
            )
        elif low < 1:
            empty = np.flatnonzero(X.history.length == 0)[:1]
            vectors = user_vectors(X[empty], self._pool.items, self._pool.users)
            if not has_embedding(vectors).any():
                reason = (
                    "only rows without any history are low-active, which have nothing by which "
                    "to tell a look-alike. Raise low_quantile"
                )
        if reason is not None:
            warnings.warn(
                f"{type(self).__name__} will borrow nothing: {reason}.", UserWarning, stacklevel=4
            )
