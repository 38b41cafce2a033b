"""Answer requests with the events that a store keeps, and a fitted model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skmars.data import Impressions
from skmars.pipeline import explain, recommend
from skmars.pipeline._explain import Explanation
from skmars.serving.scoring._histories import ItemNumbers
from skmars.serving.scoring._request import Asked, Request, read_requests
from skmars.serving.scoring._served_rows import candidate_rows, served_rows
from skmars.serving.scoring._snapshot import Snapshot
from skmars.serving.store._store import EVENT, Store
from skmars.utils._ids import as_ids, check_same_kind
from skmars.utils._ragged import offsets

# Flag of an answer that was made without knowing what the user has done.
NO_HISTORY = "no_history"
NO_EVENTS = np.zeros(0, dtype=EVENT)

# The events of the user of each request, None where they could not be had.
UserEvents = Sequence[NDArray[Any] | None]
# The position of the store that the events are of: the same for all requests, or of each.
Position = int | None | Sequence[int | None]


@dataclass(frozen=True, eq=False)
class Answer:
    """Probabilities, and what they were made with.

    Attributes
    ----------
    probability : ndarray of shape (n_candidates,), float64
        Of a click on each candidate.
    position : int
        Position of the store: the events up to it were known. 0 where none were.
    versions : mapping of str to str
        Those of the snapshot.
    flags : tuple of str
        What was amiss: "no_history" where the events of the user could not be had.
    """

    probability: NDArray[np.float64]
    position: int
    versions: Mapping[str, str]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Recommendation:
    """The best items of a user, best first, and what they were chosen with.

    Attributes
    ----------
    item_ids : list of int or of str
    titles : list of str
    probability : ndarray of shape (n_items,), float64
    position, versions, flags
        As of `Answer`.
    """

    item_ids: list[Any]
    titles: list[str]
    probability: NDArray[np.float64]
    position: int
    versions: Mapping[str, str]
    flags: tuple[str, ...] = ()


class Scorer:
    """Answers requests: fetches what users have done from a store, and asks the model.

    Histories are made by the library's own definition, and probabilities by the pipeline itself,
    so that an answer equals what ``pipeline.predict_proba`` gives for a log of the same events.

    Parameters
    ----------
    store : Store
        Its method `histories` is called by `fetch` alone, and `item_ids` when an event has an item
        that was not there before.

    Notes
    -----
    `score` may be called from several threads. Who can't wait for a store calls `fetch` with a
    deadline of their own, and `answer` with what came of it.

    Examples
    --------
    >>> import pandas as pd
    >>> from skmars.serving import Request, Scorer, Snapshot
    >>> answers = Scorer(store).score(snapshot, [Request("ann", [5, 6])])  # doctest: +SKIP
    >>> answers[0].probability  # doctest: +SKIP
    array([0.41, 0.07])
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._numbers = ItemNumbers(store)

    def prepare(self, snapshot: Snapshot) -> None:
        """Check a snapshot, and do once what its first answer would wait for.

        Raises
        ------
        ValueError
            As of ``snapshot.check()``.
        TypeError
            If item ids of the store are strings and those of the model integers, or the other way
            round.
        """
        snapshot.check()
        self._numbers.read()
        self._numbers.codes(snapshot.catalog)

    def fetch(self, requests: Iterable[Request]) -> tuple[list[NDArray[Any]], int]:
        """Return the events of the user of each request, and the position of the store."""
        return self._store.histories([request.user_id for request in requests])

    def learn_items(self, events: Iterable[NDArray[Any]]) -> None:
        """Read from the store the ids of items of these events that are not known yet.

        `answer` does it otherwise. Whoever has a deadline for the store does it before.
        """
        largest = max((int(mine["item"].max()) for mine in events if len(mine)), default=-1)
        self._numbers.read(largest + 1)

    def score(self, snapshot: Snapshot, requests: Sequence[Request]) -> list[Answer]:
        """Return the probability of a click on each candidate of each request.

        Parameters
        ----------
        snapshot : Snapshot
        requests : sequence of Request
            They are predicted together.

        Returns
        -------
        list of Answer

        Raises
        ------
        TypeError, ValueError
            If a request does not fit the model: its ids are of another kind, a context column is
            missing, unknown or of another kind, or it has a time and the model has none.
        """
        return self.answer(snapshot, requests, *self.fetch(requests))

    def answer(
        self,
        snapshot: Snapshot,
        requests: Sequence[Request],
        events: UserEvents,
        position: Position,
    ) -> list[Answer]:
        """Do as `score`, with events that have been fetched.

        Parameters
        ----------
        snapshot : Snapshot
        requests : sequence of n_requests Request
        events : sequence of n_requests ndarrays of dtype `EVENT`, or None
            All events of the user of each request, in the order of arrival. None where they could
            not be had: the user is then scored without a history, and the answer is flagged.
        position : int, or sequence of n_requests int or None
            The position of the store that the events are of.

        Returns
        -------
        list of Answer

        Raises
        ------
        TypeError, ValueError
            As of `score`.
        """
        if not requests:
            return []
        asked = read_requests(requests, snapshot.model)
        X = candidate_rows(self._rows(snapshot, asked, events), asked)
        found = snapshot.pipeline.predict_proba(X)[:, 1] if len(X) else np.zeros(0)
        ends = offsets(asked.count).tolist()
        return [
            Answer(np.asarray(found[a:b], dtype=np.float64), at, snapshot.versions, flags)
            for a, b, (at, flags) in zip(ends[:-1], ends[1:], _known(events, position))
        ]

    def recommend(
        self,
        snapshot: Snapshot,
        request: Request,
        n: int = 10,
        *,
        candidates: int | None = None,
        exclude_seen: bool = True,
        fetched: tuple[UserEvents, Position] | None = None,
    ) -> Recommendation:
        """Return the `n` items that a user clicks most probably.

        Parameters
        ----------
        snapshot : Snapshot
        request : Request
            Its items are those to choose from; without any, all items of the model.
        n : int, default=10
        candidates : int, default=None
            So many items are chosen by cheap means first, see `skmars.recommend`; for requests
            without items.
        exclude_seen : bool, default=True
            Whether to leave out the items of the history.
        fetched : tuple, default=None
            Events and position, as for `answer`; None fetches them.

        Returns
        -------
        Recommendation

        Raises
        ------
        TypeError, ValueError
            As of `score` and `skmars.recommend`, or if a context column has one value a candidate.
        """
        events, position = self.fetch([request]) if fetched is None else fetched
        items, known = as_ids(request.item_ids, "item_ids", "value"), snapshot.catalog.parts[0].ids
        # Context is that of the user, so that a row has one value.
        row = replace(request, item_ids=known[:1])
        asked = read_requests([row], snapshot.model)
        X = replace(self._rows(snapshot, asked, events), context=asked.context)
        if len(items):
            check_same_kind(items, "item_ids", known, "the catalogue")
            X = X.with_catalog(X.catalog.extend(items))
        chosen: Any = items if len(items) else candidates
        found: Any = recommend(
            snapshot.pipeline,
            X,
            n,
            candidates=chosen,
            exclude_seen=exclude_seen,
            frame="pyarrow",
        )
        ((at, flags),) = _known(events, position)
        return Recommendation(
            found["item_id"].to_pylist(),
            found["title"].to_pylist(),
            np.asarray(found["probability"]),
            at,
            snapshot.versions,
            flags,
        )

    def explain(
        self,
        snapshot: Snapshot,
        request: Request,
        *,
        fetched: tuple[UserEvents, Position] | None = None,
    ) -> Explanation:
        """Tell what each candidate of a request borrows, from whom and why, or why nothing.

        Parameters
        ----------
        snapshot : Snapshot
        request : Request
        fetched : tuple, default=None
            Events and position, as for `answer`; None fetches them.

        Returns
        -------
        Explanation
            As of `skmars.explain`; its tables are pyarrow's.

        Raises
        ------
        TypeError, ValueError
            As of `score`; ValueError if the model has no `SequenceRetrievalAugmenter`.
        """
        events, _ = self.fetch([request]) if fetched is None else fetched
        asked = read_requests([request], snapshot.model)
        X = candidate_rows(self._rows(snapshot, asked, events), asked)
        return explain(snapshot.pipeline, X, frame="pyarrow")

    def _rows(self, snapshot: Snapshot, asked: Asked, events: UserEvents) -> Impressions:
        """Return one row a request, without context; its target is a placeholder."""
        known = [NO_EVENTS if mine is None else mine for mine in events]
        return served_rows(snapshot.model, self._numbers, asked, known)


def _known(events: UserEvents, position: Position) -> Iterable[tuple[int, tuple[str, ...]]]:
    """Yield the position and the flags of each request."""
    at = [position] * len(events) if position is None or isinstance(position, int) else position
    for mine, place in zip(events, at):
        yield (0, (NO_HISTORY,)) if mine is None else (int(place or 0), ())
