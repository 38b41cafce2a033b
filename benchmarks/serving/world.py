"""A shop for benchmarks of serving: users with tastes, their events, and a fitted pipeline.

    python -m benchmarks.serving.world --donors 10000 100000 --cache /tmp/worlds

draws them and keeps them in a folder, so that other benchmarks begin at once. Aligner and
classifier are fitted briefly to a few of the users, since what they have learnt does not change
what a request costs; donors are as many as asked for. A folder holds what the present code has
fitted: delete it when an estimator has changed.
"""

from __future__ import annotations

import argparse
import time
from copy import copy
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from skmars import Impressions, ItemCatalog, make_mars
from skmars.data import Sequences
from skmars.data._user_histories import UserHistories
from skmars.utils._ragged import offsets

# Events of an ordinary user and of a donor, on average.
ORDINARY, DONOR = 22, 66
N_TASTES, N_FACTORS = 20, 64
DAY = 86_400.0
BEGIN, N_DAYS = 1.7e9, 90
# Users to whom aligner and classifier are fitted.
N_FITTED = 400
UNKNOWN_ITEM = 10**9


@dataclass(frozen=True)
class World:
    """Users, items and events, and a pipeline that is fitted to them.

    Attributes
    ----------
    histories : UserHistories
        The events of all users, liked items alone, with times; ``histories.catalog`` has the items
        as they come into the pipeline.
    is_donor : ndarray of shape (n_users,), bool
    pipeline : Pipeline
        Of `make_mars`, fitted.
    """

    histories: UserHistories
    is_donor: NDArray[np.bool_]
    pipeline: Pipeline

    @property
    def catalog(self) -> ItemCatalog:
        return self.histories.catalog

    def request(
        self,
        n_users: int = 1,
        n_candidates: int = 100,
        *,
        n_events: int | None = ORDINARY,
        unknown: bool = False,
        seed: int = 0,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw users, and candidates for each: ids of users and items, one a row.

        Parameters
        ----------
        n_users, n_candidates : int
        n_events : int or None, default=22
            How many events each user has; such users are low-active, so that they borrow. None
            takes any who is no donor.
        unknown : bool, default=False
            Whether the first candidate of each user is an item that nobody knows, of an id that
            is made of the seed.
        seed : int
        """
        rng = np.random.default_rng(seed)
        length = self.histories.events.length
        there = ~self.is_donor if n_events is None else length == n_events
        who = rng.choice(np.flatnonzero(there), n_users, replace=False)
        ids = self.catalog.parts[0].ids
        items = np.stack([rng.choice(ids, n_candidates, replace=False) for _ in who])
        if unknown:
            items[:, 0] = UNKNOWN_ITEM + seed
        return np.repeat(self.histories.users[who], n_candidates), items.ravel()

    def impressions(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> Impressions:
        """Return the rows of a request, as `UserHistories` makes them."""
        return self.histories.impressions(users, items)

    def log(self, users: slice | NDArray[Any] = slice(None), seed: int = 0) -> pd.DataFrame:
        """Return the events of some users as a log, and as many items that they did not click.

        Columns `user_id`, `item_id`, `timestamp` (seconds) and `clicked`, sorted by time.
        """
        rng = np.random.default_rng(seed)
        events = self.histories.events[users]
        at = events.positions()
        liked = pd.DataFrame(
            {
                "user_id": np.repeat(self.histories.users[users], events.length),
                "item_id": self.catalog.parts[0].ids[events.items[at]],
                "timestamp": events.time[at],  # type: ignore[index]
                "clicked": 1,
            }
        )
        ignored = liked.assign(
            item_id=rng.choice(self.catalog.parts[0].ids, len(liked)),
            timestamp=liked["timestamp"] + rng.uniform(0, 60, len(liked)),
            clicked=0,
        )
        return pd.concat([liked, ignored]).sort_values("timestamp", ignore_index=True)


def world(
    n_donors: int,
    n_items: int = 2000,
    dim: int = 256,
    *,
    n_ordinary: int | None = None,
    neighbors: str = "auto",
    seed: int = 0,
    cache: str | Path | None = None,
) -> World:
    """Draw a world, or read it from a folder where it is kept.

    Parameters
    ----------
    n_donors, n_items : int
    dim : int, default=256
        Length of the vectors by which items and users are compared, 64 item factors among them.
    n_ordinary : int, default=None
        Users who are no donors. None takes 7 for 3 donors, as by the default quantiles.
    neighbors : {"auto", "exact", "hnsw"}, default="auto"
        How the augmenter searches donors.
    seed : int
    cache : path, default=None
        Folder to keep worlds in.
    """
    n_ordinary = 7 * n_donors // 3 if n_ordinary is None else n_ordinary
    path = None
    if cache is not None:
        name = f"world-{n_donors}-{n_ordinary}-{n_items}-{dim}-{neighbors}-{seed}.joblib"
        path = Path(cache) / name
        if path.exists():
            read: World = joblib.load(path)
            return read
    made = _make(n_donors, n_ordinary, n_items, dim, neighbors, seed)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        joblib.dump(made, path)
    return made


def _make(
    n_donors: int, n_ordinary: int, n_items: int, dim: int, neighbors: str, seed: int
) -> World:
    rng = np.random.default_rng(seed)
    catalog, taste_of_item = draw_items(rng, n_items, dim - N_FACTORS)
    is_donor = rng.permutation(n_donors + n_ordinary) < n_donors
    histories = draw_events(rng, catalog, taste_of_item, is_donor)
    pipeline = make_mars(
        random_state=seed,
        align__max_iter=1,
        align__n_factors=N_FACTORS,
        augment__neighbors=neighbors,
        ctr__max_iter=2,
    )
    drawn = World(histories, is_donor, pipeline)
    some = rng.permutation(len(is_donor))[:N_FITTED]
    X, y = Impressions.from_log(drawn.log(some), catalog, label="clicked", duplicates="keep")
    pipeline.fit(X, y)
    # The same steps, and donors of all users: what they know of themselves is one row each.
    now = everybody(histories)
    for _, step in pipeline.steps[:2]:
        now = step.transform(now)
    pipeline.named_steps["augment"].fit(now)
    return drawn


def draw_items(
    rng: np.random.Generator, n_items: int, n_features: int
) -> tuple[ItemCatalog, NDArray[np.int64]]:
    """Draw items with a taste each, and vectors that are alike for items of one taste."""
    taste = np.arange(n_items) % N_TASTES
    vectors = rng.normal(size=(N_TASTES, n_features))[taste]
    vectors += rng.normal(size=vectors.shape)
    ids = np.sort(rng.choice(100 * n_items, n_items, replace=False))
    return ItemCatalog(ids, features={"text": vectors.astype(np.float32)}), taste


def draw_events(
    rng: np.random.Generator,
    catalog: ItemCatalog,
    taste_of_item: NDArray[np.int64],
    is_donor: NDArray[np.bool_],
) -> UserHistories:
    """Draw what users did: mostly items of their taste, few of which are popular, in 90 days."""
    n_users, n_items = len(is_donor), len(catalog)
    length = np.where(
        is_donor,
        DONOR // 2 + 8 + rng.poisson(DONOR - DONOR // 2 - 8, n_users),
        np.minimum(1 + rng.poisson(ORDINARY, n_users), DONOR // 2),
    )
    user = np.repeat(np.arange(n_users, dtype=np.int32), length)
    taste = rng.integers(N_TASTES, size=n_users)[user]
    astray = rng.random(len(user)) < 0.2
    taste[astray] = rng.integers(N_TASTES, size=np.count_nonzero(astray))
    n_each = np.bincount(taste_of_item, minlength=N_TASTES)
    rank = (n_each[taste] * rng.random(len(user)) ** 2).astype(np.int64)
    items = (rank * N_TASTES + taste).astype(np.int32)  # the items of a taste, see `draw_items`
    assert items.max(initial=0) < n_items
    moment = rng.random(len(user)) * N_DAYS * DAY
    # Sorted user after user; all of one user lies within a span of its own.
    moment = np.sort(user * (N_DAYS * DAY) + moment) - user * (N_DAYS * DAY)
    events = Sequences(
        items, offsets(length)[:-1], length.astype(np.int32), time=BEGIN + np.maximum(moment, 0.0)
    )
    ids = 1000 + 7 * np.arange(n_users)
    return UserHistories(catalog, ids, events, BEGIN + N_DAYS * DAY + 1)


def everybody(histories: UserHistories) -> Impressions:
    """Return one row a user, whose history is all that they have done."""
    events = histories.events
    n_users = len(histories.users)
    return Impressions(
        histories.catalog,
        histories.users,
        np.arange(n_users, dtype=np.int32),
        events.items[events.start + events.length - 1],
        events,
        time=np.full(n_users, histories.now),
    )


def searched_exactly(pipeline: Pipeline) -> Pipeline:
    """Return the pipeline with the same donors, who are compared without an index."""
    augmenter = copy(pipeline.named_steps["augment"])
    augmenter.pool_ = replace(augmenter.pool_, index=None)
    steps = [(name, augmenter if name == "augment" else step) for name, step in pipeline.steps]
    return Pipeline(steps)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--donors", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--neighbors", default="auto")
    parser.add_argument("--cache", help="folder to keep worlds in")
    options = parser.parse_args(arguments)
    for n_donors in options.donors:
        began = time.process_time()
        made = world(
            n_donors,
            options.items,
            options.dim,
            neighbors=options.neighbors,
            cache=options.cache,
        )
        augmenter = made.pipeline.named_steps["augment"]
        print(
            f"{augmenter.n_donors_} donors of {len(made.is_donor)} users, "
            f"{len(made.histories.events.items)} events, low-active up to "
            f"{augmenter.low_threshold_:g}: {time.process_time() - began:.0f} CPU seconds",
            flush=True,
        )


if __name__ == "__main__":
    # What is kept names the module of its classes, which must not be "__main__".
    import_module("benchmarks.serving.world").main()
