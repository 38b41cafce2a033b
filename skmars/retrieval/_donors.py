"""The pool of donors: whose items are borrowed, how they are searched, and how they are counted."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions, Sequences
from skmars.data._activity import UserActivity, is_high, thresholds
from skmars.data._checks import require_impressions
from skmars.data._folds import EVERYBODY
from skmars.retrieval._ann import NeighborIndex, fit_index
from skmars.retrieval._embeddings import ItemSpace, ItemView, user_vectors
from skmars.retrieval._users import Users
from skmars.utils._folder import read_folder, write_folder
from skmars.utils._ids import Lookup, kind_of
from skmars.utils._units import Vectors, center_of, centred_units, has_embedding

if TYPE_CHECKING:
    from narwhals.typing import IntoDataFrame

_AUGMENTER, _KIND = "SequenceRetrievalAugmenter", "pool"


@dataclass(frozen=True)
class PoolSettings:
    """The parameters of `SequenceRetrievalAugmenter` that decide what a pool holds."""

    user_representation: str
    item_representation: str
    center: bool
    activity: str
    low_quantile: float
    high_quantile: float


@dataclass(frozen=True, eq=False)
class DonorPool:
    """The users from whom others borrow, and all that a search among them needs: one unit.

    A pool never changes. `SequenceRetrievalAugmenter.fit` makes one, `pool_`;
    `DonorPool.build` makes one of any rows, such as those of users whom the fit did not see, and
    `SequenceRetrievalAugmenter.with_pool` gives it to the augmenter. All attributes belong
    together: don't replace one of them alone.

    Attributes
    ----------
    ids : ndarray of shape (n_donors,)
        User ids, ascending.
    history : Sequences of n_donors rows
        The longest history of each, in codes of `items`.
    units : ndarray of shape (n_donors, n_components), float32
        Their user vectors, centred, at unit length.
    center : ndarray of shape (n_components,), float64
        Mean of their user vectors, the user centre of Eq. 15; zeros with ``center=False``.
    items : ItemSpace
        Ids, vectors and centre of the items (Eq. 16).
    users : Users
        All users with a history, donors or not, who are compared for the look-alike features.
    first_event : ndarray of shape (n_donors,), float64, or None
        Time of each donor's first event, in seconds; None without times.
    low_threshold, high_threshold : float
        Activity up to which a row is low-active, and from which a user is high-active.
    index : estimator with `kneighbors`, or None
        Over `units`; None searches exactly.
    user_kind : {"units", "embedding", "vectors"}
        What a user vector is: the mean of centred unit vectors of the history's items, the user
        embedding of the rows, or the mean of the item vectors as they are.
    settings : PoolSettings
        The parameters that the pool was made with.
    fold : int
        The fold of users without whom features were made, -1 for those of everybody.

    See Also
    --------
    SequenceRetrievalAugmenter : Borrows from a pool.

    Examples
    --------
    >>> from skmars import SequenceRetrievalAugmenter, make_multimodal_ctr
    >>> from skmars.retrieval import DonorPool
    >>> X, y, truth = make_multimodal_ctr(60, 40, random_state=0, return_truth=True)
    >>> X = X.with_catalog(X.catalog.with_embedding(truth.item_factors))
    >>> some = X.user % 2 == 0
    >>> augmenter = SequenceRetrievalAugmenter().fit(X[some])
    >>> pool = DonorPool.build(augmenter, X)
    >>> pool
    DonorPool(20 donors, 40 items, low-active up to 2, high-active from 4)
    >>> augmenter.n_donors_, augmenter.with_pool(pool).n_donors_
    (15, 20)
    """

    ids: NDArray[Any]
    history: Sequences
    units: Vectors
    center: NDArray[np.float64]
    items: ItemSpace
    users: Users
    first_event: NDArray[np.float64] | None
    low_threshold: float
    high_threshold: float
    index: NeighborIndex | None
    user_kind: str
    settings: PoolSettings
    fold: int = EVERYBODY

    @classmethod
    def build(
        cls,
        augmenter: Any,
        X: Impressions | IntoDataFrame,
        *,
        thresholds: tuple[float, float] | None = None,
    ) -> DonorPool:
        """Make the pool of the high-active users of some rows, as `fit` does.

        Parameters
        ----------
        augmenter : SequenceRetrievalAugmenter
            Its parameters say how. It need not be fitted, and stays as it is.
        X : Impressions, pandas.DataFrame, polars.DataFrame or pyarrow.Table
            Rows of any users, as the steps before the augmenter transform them. Of each user the
            longest history counts (of equally long ones the first).
        thresholds : tuple of two floats, default=None
            The activity up to which rows are low-active, and that from which users are
            high-active (`low_threshold_` and `high_threshold_` of a fitted augmenter). None
            computes both, as `fit` does, for which `X` must have *all* rows. Pass them if `X` has
            the longest history of each user alone.

        Returns
        -------
        DonorPool

        Raises
        ------
        TypeError
            If `augmenter` is no `SequenceRetrievalAugmenter`, or `X` no table of impressions.
        ValueError
            If `X` has no row, `thresholds` are no two ascending numbers, there is nothing to
            compare users by, or as in `fit`.

        Warns
        -----
        UserWarning
            If nobody can borrow, because there is no low-active row with a history, or no donor.
        """
        settings_of = getattr(augmenter, "_pool_settings", None)
        if settings_of is None or isinstance(augmenter, type):
            raise TypeError(
                f"augmenter must be a {_AUGMENTER}, got {augmenter!r}. In a pipeline of make_mars "
                "it is the step 'augment'."
            )
        settings = settings_of()
        rows = rows_to_fit(X)
        given = None if thresholds is None else _checked_thresholds(thresholds)
        pool, _ = build_pool(
            rows, UserActivity.of(rows), settings, augmenter.neighbors, augmenter.n_jobs, given
        )
        warn_if_nothing_is_borrowed(rows, pool, stacklevel=3)
        return pool

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the pool to a folder, from which `load` maps it into memory.

        Parameters
        ----------
        path : str or path-like
            Where nothing is yet, or an earlier pool, which stays unless the new one is complete.

        Raises
        ------
        TypeError
            If the index is none that can be stored: not "exact", "hnsw", or a registered one (see
            `skmars.persistence`).
        OSError
            If the folder can't be written, or something else is there.
        ImportError
            If a package is missing: ``pip install "skmars[serving]"``.
        """
        write_folder(path, _KIND, self)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> DonorPool:
        """Read a pool that `save` wrote.

        Nothing is computed again: its arrays, the index among them, are mapped into memory, which
        all processes of a machine share. The folder must stay as it is.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        DonorPool

        Raises
        ------
        OSError
            If there is no such folder, or it can't be read.
        ValueError
            If it holds something else, or anything in it has changed since it was written.
        ImportError
            If a package is missing: ``pip install "skmars[serving]"``.
        """
        pool = read_folder(path, _KIND)
        if not isinstance(pool, cls):
            raise ValueError(f"{path} holds a {type(pool).__name__}, not a {cls.__name__}.")
        return pool

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self)} donors, {len(self.items.ids)} items, low-active up "
            f"to {self.low_threshold:g}, high-active from {self.high_threshold:g})"
        )

    def user_vectors(self, X: Impressions, items: ItemView) -> Vectors:
        """Return the vector of each row's user, made as those of the donors were.

        That is from features without the users of the pool's fold, whatever the fold of the row.
        `items` is the view of the catalogue of `X` in the space of the pool's items.
        """
        if X.fold is not None or self.fold != EVERYBODY:
            X = X.with_fold(np.full(len(X), self.fold, dtype=np.int8))
        return user_vectors(X, items, self.user_kind)

    @cached_property
    def donor_of_user(self) -> NDArray[np.int32]:
        """Return which donor each of the users is, -1 for none, and behind them -1 for nobody."""
        donor = Lookup(self.ids, "user_id of the donors")(self.users.ids, "user_id of the pool")
        return np.append(donor, np.int32(-1))

    @cached_property
    def last_first_event(self) -> float:
        """Time from which on every donor has an event."""
        assert self.first_event is not None
        return float(self.first_event.max(initial=-np.inf))

    def __getstate__(self) -> dict[str, Any]:
        # Cached properties are computed again faster than they are read.
        fields = self.__dataclass_fields__
        return {name: value for name, value in vars(self).items() if name in fields}


def rows_to_fit(X: Any) -> Impressions:
    """Return impressions of which there is at least one."""
    rows = require_impressions(X, estimator_name=_AUGMENTER)
    if len(rows) == 0:
        raise ValueError(f"{_AUGMENTER} needs at least one row to fit, X has none.")
    return rows


def _checked_thresholds(given: Any) -> tuple[float, float]:
    try:
        low, high = (float(value) for value in given)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"thresholds must be two numbers, got {given!r}. Pass (low_threshold_, "
            "high_threshold_) of a fitted augmenter."
        ) from error
    if not 0 <= low <= high < np.inf:
        raise ValueError(
            "thresholds must be two lengths of histories, the lower one first, got "
            f"({low:g}, {high:g})."
        )
    return low, high


def build_pool(
    X: Impressions,
    users: tuple[UserActivity, NDArray[np.int64]],
    settings: PoolSettings,
    neighbors: str | NeighborIndex,
    n_jobs: int | None,
    given: tuple[float, float] | None = None,
) -> tuple[DonorPool, Impressions]:
    """Return the pool of some rows, and of each user with a history the row with the longest.

    `users` is what ``UserActivity.of(X)`` returns; `given` are the thresholds of activity, which
    are computed from the rows otherwise.
    """
    active, row = users
    if given is None:
        counted = active.longest if settings.activity == "user" else X.history.length
        given = thresholds(counted, settings.low_quantile, settings.high_quantile)
    rows = X[row[active.longest > 0]]
    return collect_pool(rows, EVERYBODY, settings, neighbors, n_jobs, given), rows


def collect_pool(
    X: Impressions,
    fold: int,
    settings: PoolSettings,
    neighbors: str | NeighborIndex,
    n_jobs: int | None,
    activity: tuple[float, float],
    items: ItemSpace | None = None,
) -> DonorPool:
    """Make the pool of these users, one row each, with features made without a fold's users.

    `activity` are the two thresholds, and `items` the space of the catalogue, if it is known.
    """
    X = X.with_catalog(X.catalog.in_fold(fold)).with_fold(np.full(len(X), fold, dtype=np.int8))
    if items is None:
        items = ItemSpace(X.catalog, settings.item_representation, settings.center)
    if items.vectors is not None and settings.user_representation == "history":
        kind = "units"
    elif X._embedding is not None or X._encoder is not None:
        kind = "embedding"
    else:
        kind = "vectors"
    if kind == "vectors" and items.vectors is None and len(X):
        raise ValueError(
            "there is nothing to compare users by: X has no user embedding, and its catalogue "
            "neither an embedding nor features. Put an aligner or encoder before this step, or "
            "build the catalogue with features."
        )
    view = items.view(X.catalog)
    donors = X[is_high(X.history.length, *activity)]
    found = user_vectors(donors, view, kind) if len(X) else np.zeros((0, 0), dtype=np.float32)
    known = has_embedding(found)
    donors, found = donors[known], found[known]
    center = center_of(found, settings.center)
    units, history = centred_units(found, center), donors.history.compact()
    return DonorPool(
        ids=donors.user_ids,
        history=history,
        units=units,
        center=center,
        items=items,
        users=Users.of(X, view, len(items.ids)),
        first_event=_first_event(history),
        low_threshold=activity[0],
        high_threshold=activity[1],
        index=fit_index(neighbors, units, n_jobs),
        user_kind=kind,
        settings=settings,
        fold=fold,
    )


def _first_event(history: Sequences) -> NDArray[np.float64] | None:
    """Return the time of each row's first event; no row is empty, and rows are compact."""
    if history.time is None or len(history) == 0:
        return None
    first: NDArray[np.float64] = np.minimum.reduceat(history.time, history.start)
    return first


@dataclass(frozen=True)
class Own:
    """Who is each row's own user: a row number of the donors, and one of all users; -1 for none."""

    donor: NDArray[np.int32]
    user: NDArray[np.int32]

    @classmethod
    def of(cls, X: Impressions, pool: DonorPool) -> Own:
        """Look up the users of rows in a pool."""
        user = pool.users.codes(X)
        return cls(pool.donor_of_user[user], user)

    def __getitem__(self, rows: NDArray[np.int64]) -> Own:
        return Own(self.donor[rows], self.user[rows])

    @classmethod
    def nobody(cls, n_rows: int) -> Own:
        """Return that no row's user is in the pool."""
        nobody = np.full(n_rows, -1, dtype=np.int32)
        return cls(nobody, nobody)

    def has_later_events(
        self, X: Impressions, pool: DonorPool, donors_alone: bool
    ) -> NDArray[np.bool_]:
        """Return for each row of `X` whether its user has a longer history in the pool.

        What the pool holds may then know whether the row was clicked.
        """
        later = np.zeros(len(X), dtype=bool)
        row = np.flatnonzero((self.donor if donors_alone else self.user) >= 0)
        later[row] = X.history.length[row] < pool.users.length[self.user[row]]
        return later


def user_units(X: Impressions, pool: DonorPool) -> Vectors:
    """Return the centred unit vector of each row's user, as it is compared with `pool.units`."""
    return centred_units(pool.user_vectors(X, pool.items.view(X.catalog)), pool.center)


def warn_if_nothing_is_borrowed(X: Impressions, pool: DonorPool, stacklevel: int) -> None:
    """Warn if none of the rows of which a pool was made can borrow, with reason and remedy."""
    reason = _why_nothing_is_borrowed(X, pool)
    if reason is not None:
        warnings.warn(
            f"{_AUGMENTER} will borrow nothing: {reason}.", UserWarning, stacklevel=stacklevel
        )


def _why_nothing_is_borrowed(X: Impressions, pool: DonorPool) -> str | None:
    low, high = pool.low_threshold, pool.high_threshold
    if len(pool) == 0:
        return (
            f"there is no donor: users are low-active up to {low:g} items and high-active "
            f"from {high:g}, and nobody with a vector is high-active only. Lower "
            "low_quantile or high_quantile"
        )
    empty = X[np.flatnonzero(X.history.length == 0)[:1]]
    if low < 1 and not has_embedding(user_units(empty, pool)).any():
        # Where X has one row a user, the longest, nobody's is empty.
        share = f" ({np.mean(X.history.length == 0):.0%} of the rows have none)" * len(empty)
        return (
            f"only rows without any history are low-active{share}, which can't be compared with "
            "donors. Raise low_quantile"
        )
    return None


def check_interchangeable(mine: DonorPool, other: DonorPool) -> None:
    """Raise ValueError, saying what differs, unless rows made for one pool suit the other."""
    facts = [_facts(pool) for pool in (mine, other)]
    differing = [
        f"{name} is {theirs!r} in the pool and {ours!r} in the fit"
        for (name, ours), theirs in zip(facts[0].items(), facts[1].values())
        if ours != theirs and None not in (ours, theirs)
    ]
    if not differing:
        n_changed, n_common = mine.items.changed(other.items)
        if n_changed:
            differing.append(
                f"the vectors of {n_changed} of {n_common} items have changed (the aligner or "
                "encoder was fitted again since, say)"
            )
    if differing:
        raise ValueError(
            f"pool does not suit this {_AUGMENTER}: {'; '.join(differing)}. Build the pool with "
            "DonorPool.build(augmenter, X), of rows that the steps before it transformed."
        )


def _facts(pool: DonorPool) -> dict[str, Any]:
    """Return what two pools must have in common to take each other's place; None where unknown."""
    items, there = pool.items, len(pool) > 0
    return {
        **vars(pool.settings),
        "what users are compared by": pool.user_kind,
        "what items are compared by": "nothing" if items.vectors is None else items.kind,
        "length of item vectors": None if items.vectors is None else items.vectors.shape[1],
        "length of user vectors": pool.units.shape[1] if there else None,
        "kind of user ids": kind_of(pool.users.ids) if len(pool.users) else None,
        "kind of item ids": kind_of(items.ids) if len(items.ids) else None,
        "having times": pool.history.time is not None,
        "having feedback": pool.history.feedback is not None,
    }
