"""What is predicted: rows, split, and whose histories are cut."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks.planted import low_active
from skmars import (
    Impressions,
    ItemCatalog,
    LeaveLastOut,
    load_movielens_1m,
    make_multimodal_ctr,
    make_small_shop,
)
from skmars.data import Sequences
from skmars.data._k_core import core_rows
from skmars.utils import _ragged as ragged

SCARCE = "scarce"  # the split of the scarcity curve
CUT_SHARE = 0.3  # of the users, whose histories it cuts
SCARCITY_TEST = 5  # its test impressions a user; the other split has one
KEPT = (0, 1, 2, 3, 5, 10, 20, None)
# Files of item ids alone, and the k of the k-core that is taken of them. The paper's Beauty is the
# 7-core of the published 5-core: 4,322 users, 2,423 items, 60,276 events. Its Toys is the 5-core.
AMAZON = {"amazon-ids": 1, "amazon-beauty": 7}
WHOLE = np.iinfo(np.int32).max  # kept of a history that is not cut


@dataclass(frozen=True)
class Source:
    """A data set as it was read.

    Attributes
    ----------
    X, y
        All rows.
    n_same : int
        So many rows in a row are one event: 2 with sampled negatives, else 1.
    content : bool
        Whether items have texts and images.
    """

    X: Impressions
    y: np.ndarray
    n_same: int
    content: bool


@dataclass(frozen=True)
class Problem:
    """Rows to train on, to choose by, and to look at once.

    Attributes
    ----------
    test : ndarray of int
        Rows whose AUC is reported.
    tests : dict of str to Impressions
        The test rows: "full" as they are, or "keep-k" with the last k items of their histories.
    low : mask over all users
        Who is low-active: the 30 % with the shortest histories in the training rows.
    """

    setting: str
    split: str
    X: Impressions
    y: np.ndarray
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    tests: dict[str, Impressions]
    low: np.ndarray
    content: bool

    def test_rows(self, name: str) -> dict[str, np.ndarray]:
        """Return what the report needs to know of some test rows."""
        user = self.X.user[self.test]
        return {
            "y": self.y[self.test].astype(np.int8),
            "user": user,
            "activity": self.tests[name].history.length,
            "low": self.low[user],
        }


def split_name(kept: int | None) -> str:
    """Name the split of the scarcity curve in which so many items are kept."""
    return f"keep-{'all' if kept is None else kept}"


def tests_of(split: str) -> list[str]:
    """Name the test rows of a split."""
    return [split_name(kept) for kept in KEPT] if split == SCARCE else ["full"]


def make_problem(
    source: Source, setting: str, split: str, seed: int, recent: int | None = None
) -> Problem:
    """Split the rows: "full" is leave-last-out, "scarce" that of the scarcity curve.

    `recent` leaves so many training events of each user, the latest; their histories stay whole.
    """
    events = source.X[:: source.n_same]
    n_test = 1 if split == "full" else SCARCITY_TEST
    folds = list(LeaveLastOut(n_test + 1).split(events))
    train, valid = folds[-1]
    test = np.sort(np.concatenate([rows for _, rows in folds[:n_test]]))
    train, valid, test = (rows_of(part, source.n_same) for part in (train, valid, test))
    X, tests = source.X, {"full": source.X[test]}
    if split == SCARCE:
        scarce, kept = drawn_lengths(X, source.n_same, seed)
        test = test[scarce[test]]
        tests = {split_name(k): cut_histories(X[test], WHOLE if k is None else k) for k in KEPT}
        X = cut_histories(X, kept)
    low = low_active(X, train)
    if recent is not None:
        train = train[_from_the_end(X.user[train]) < recent * source.n_same]
    return Problem(setting, split, X, source.y, train, valid, test, tests, low, source.content)


def _from_the_end(user: np.ndarray) -> np.ndarray:
    """Count how many later rows of the same user there are; rows stand user by user, in order."""
    _, count = np.unique(user, return_counts=True)
    return np.repeat(np.cumsum(count), count) - 1 - np.arange(len(user))


def rows_of(events: np.ndarray, n_same: int) -> np.ndarray:
    """Return the rows of these events."""
    return (events[:, None] * n_same + np.arange(n_same)).ravel()


def drawn_lengths(X: Impressions, n_same: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw users whose rows keep only the last items of their histories, and how many each keeps.

    Every length is among those of training, `WHOLE` too: a network does worse for users of whom
    it never saw such a row. Returns the rows of these users, and the items kept of all rows.
    """
    rng = np.random.RandomState(seed)
    drawn = np.zeros(len(X.users), dtype=bool)
    drawn[rng.permutation(len(drawn))[: round(CUT_SHARE * len(drawn))]] = True
    lengths = [WHOLE if k is None else k for k in KEPT]
    kept = np.repeat(rng.choice(lengths, len(X) // n_same), n_same)
    scarce = drawn[X.user]
    return scarce, np.where(scarce, kept, WHOLE)


def cut_histories(X: Impressions, kept: np.ndarray | int) -> Impressions:
    """Leave the last items of each row's history; a context column says whether it was cut."""
    kept = np.broadcast_to(np.asarray(kept, dtype=np.int32), len(X))
    known = {**X.context, "cut": (kept < WHOLE).astype(np.float64)}
    return replace(X, history=X.history.last(kept), context=known)  # type: ignore[arg-type]


def read(kind: str, data: Path | None, setting: str, users: int | None, seed: int) -> Source:
    """Read the data; only generated data are others for each seed."""
    history = "positive" if setting == "paper" else "all"
    if kind == "synthetic":
        X, y = make_multimodal_ctr(users or 500, history=history, random_state=seed)
        return Source(X, y, 1, True)
    if kind == "shop":
        X, y = make_small_shop(users or 600, history=history, random_state=seed)
        return Source(X, y, 1, True)
    if data is None:
        raise SystemExit(f"--data-kind {kind} needs --data PATH")
    return (
        _movielens(data, setting, users)
        if kind == "ml-1m"
        else _sequences(data, users, AMAZON[kind])
    )


@lru_cache(1)
def _movielens(data: Path, setting: str, users: int | None) -> Source:
    catalog, log = load_movielens_1m(data)
    if users:
        ids = log.user_id.unique()
        log = log[log.user_id.isin(ids[:: max(1, len(ids) // users)][:users])]
    history = "positive" if setting == "paper" else "all"
    times = {"time": "approximate_time", "order": "position"}  # of the Parquet files
    X, y = Impressions.from_log(log, catalog, label="liked", history=history, **times)
    return Source(X, y, 1, True)


@lru_cache(1)
def _sequences(path: Path, users: int | None, k: int) -> Source:
    """Read the k-core of lines of a user and the items bought; each event gets a negative.

    The negative is drawn uniformly from the items that the user never bought. It has the history
    of the event, and stands in the row after it.
    """
    lines = [np.array(line.split(), np.int64) for line in path.read_text().splitlines()]
    lines = _core(lines, k)
    if users:
        lines = lines[:: max(1, len(lines) // users)][:users]
    length = np.array([len(line) - 1 for line in lines])
    ids, items = np.unique(np.concatenate([line[1:] for line in lines]), return_inverse=True)
    user = np.repeat(np.arange(len(lines), dtype=np.int32), length)
    bought = np.sort(user.astype(np.int64) * len(ids) + items)
    if np.bincount(np.unique(bought) // len(ids)).max() == len(ids):
        raise SystemExit(f"{path}: a user bought all items, so that there is no negative to draw")
    rng = np.random.RandomState(0)
    negative = rng.randint(len(ids), size=len(items))
    while len(wrong := np.flatnonzero(np.isin(user * np.int64(len(ids)) + negative, bought))):
        negative[wrong] = rng.randint(len(ids), size=len(wrong))
    first = np.repeat(ragged.offsets(length)[:-1], length)
    history = Sequences(
        items.astype(np.int32),
        np.repeat(first, 2),
        np.repeat((np.arange(len(items)) - first).astype(np.int32), 2),
    )
    target = np.stack([items, negative], axis=1).ravel().astype(np.int32)
    users_ids = np.array([line[0] for line in lines])
    X = Impressions(ItemCatalog(ids), users_ids, np.repeat(user, 2), target, history)
    return Source(X, np.tile([1, 0], len(items)), 2, False)


def _core(lines: list[np.ndarray], k: int) -> list[np.ndarray]:
    """Leave the users and items of a k-core."""
    user = np.repeat(np.arange(len(lines)), [len(line) - 1 for line in lines])
    items = np.concatenate([line[1:] for line in lines])
    rows = core_rows(user, np.unique(items, return_inverse=True)[1], k)
    kept, begin = np.unique(user[rows], return_index=True)
    bought = np.split(items[rows], begin[1:])
    return [np.append(lines[u][:1], of_user) for u, of_user in zip(kept, bought)]
