"""Eq. 15-18, slowly and obviously: plain loops over rows, donors and items.

Written from the paper and the docstring of the estimator, not from its code. Everything is
keyed by ids, and every cosine is a sum of its own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skmars import Impressions


def mean(vectors: list[list[float]]) -> list[float]:
    there = [v for v in vectors if any(v)]
    if not there:
        return [0.0] * len(vectors[0])
    return [math.fsum(column) / len(there) for column in zip(*there)]


def centred_unit(vector: list[float], center: list[float]) -> list[float]:
    if not any(vector):
        return [0.0] * len(vector)
    centred = [a - b for a, b in zip(vector, center)]
    norm = math.sqrt(math.fsum(a * a for a in centred))
    if norm <= 1e-12 * math.sqrt(math.fsum(a * a for a in center)):
        return [0.0] * len(vector)
    return [float(np.float32(a / norm)) for a in centred]


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b))


def cosine(*products: float) -> float:
    return round(max(-1.0, min(1.0, sum(products) / len(products))), 6)


class Table:
    """The rows of impressions as plain dictionaries."""

    def __init__(self, X: Impressions) -> None:
        ids = X.catalog.ids.tolist()
        rows = range(len(X))
        embedding = X.user_embedding
        self.vectors = (
            None
            if X.catalog.embedding is None
            else dict(zip(ids, X.catalog.embedding.astype(float).tolist()))
        )
        self.rows: list[dict[str, Any]] = []
        for r in rows:
            at = range(X.history.start[r], X.history.start[r] + X.history.length[r])
            self.rows.append(
                {
                    "user": X.user_ids[r],
                    "target": X.item_ids[r],
                    "time": None if X.time is None else X.time[r],
                    "events": [
                        {
                            "item": ids[X.history.items[k]],
                            "time": None if X.history.time is None else X.history.time[k],
                            "feedback": None
                            if X.history.feedback is None
                            else X.history.feedback[k],
                        }
                        for k in at
                    ],
                    "embedding": None if embedding is None else embedding[r].astype(float).tolist(),
                }
            )


def quantile(values: list[int], q: float) -> float:
    return float(np.quantile(values, q))


class Reference:
    """`SequenceRetrievalAugmenter`, with its parameters as keywords."""

    def __init__(self, **parameters: Any) -> None:
        from skmars import SequenceRetrievalAugmenter

        self.__dict__.update({**SequenceRetrievalAugmenter().get_params(), **parameters})

    def fit(self, X: Impressions) -> Reference:
        table = Table(X)
        self.vectors = table.vectors
        self.item_center = self.center_of(list(self.vectors.values()))
        best: dict[Any, dict[str, Any]] = {}
        for row in table.rows:
            current = best.get(row["user"])
            if current is None or len(row["events"]) > len(current["events"]):
                best[row["user"]] = row
        self.active = {user: len(row["events"]) for user, row in best.items()}
        per_row = [len(row["events"]) for row in table.rows]
        counted = list(self.active.values()) if self.activity == "user" else per_row
        self.low = quantile(counted, self.low_quantile)
        high = quantile(counted, self.high_quantile)
        self.donors = []
        for user in sorted(best):
            row, n = best[user], self.active[user]
            vector = self.user_vector(row)
            if n >= high and not n <= self.low and n > 0 and any(vector):
                self.donors.append({"user": user, "events": row["events"], "vector": vector})
        if self.donors:
            self.user_center = self.center_of([d["vector"] for d in self.donors])
        for donor in self.donors:
            donor["unit"] = centred_unit(donor["vector"], self.user_center)
        return self

    def center_of(self, vectors: list[list[float]]) -> list[float]:
        return mean(vectors) if self.center else [0.0] * len(vectors[0])

    def user_vector(self, row: dict[str, Any]) -> list[float]:
        if row["embedding"] is not None and self.user_representation == "embedding":
            return row["embedding"]
        of_item = self.unit if self.user_representation == "history" else self.vector
        vectors = [of_item(e["item"]) for e in row["events"]]
        if not vectors:
            return [0.0] * len(self.item_center)
        return [float(np.float32(a)) for a in mean(vectors)]

    def vector(self, item: Any) -> list[float]:
        known = self.vectors.get(item)
        if known is not None:
            return known
        if self.their_vectors is not None:
            return self.their_vectors[item]
        return [0.0] * len(self.item_center)

    def unit(self, item: Any) -> list[float]:
        return centred_unit(self.vector(item), self.item_center)

    def transform(self, X: Impressions) -> list[list[tuple[Any, ...]]]:
        """Return of each row the borrowed (item, donor, s_i, donor similarity, feedback, time)."""
        table = Table(X)
        self.their_vectors = table.vectors
        return [self.borrow(row) for row in table.rows]

    def borrow(self, row: dict[str, Any]) -> list[tuple[Any, ...]]:
        n_own = len(row["events"])
        if n_own > self.low or not self.donors:
            return []
        user = centred_unit(self.user_vector(row), self.user_center)
        if not any(user):
            return []

        def permitted(event: dict[str, Any]) -> bool:
            if not self.respect_time or row["time"] is None or event["time"] is None:
                return True
            return event["time"] < row["time"]

        ranking = []  # Eq. 15
        for number, donor in enumerate(self.donors):
            if donor["user"] != row["user"] and any(permitted(e) for e in donor["events"]):
                ranking.append((-cosine(dot(user, donor["unit"])), number))
        ranking.sort()
        ranking = ranking[: 1 if self.strategy == "most_similar" else self.n_neighbors]

        borrowed = []
        for negative, number in reversed(ranking):
            donor = self.donors[number]
            events = [e for e in donor["events"] if permitted(e)]
            scored = [(e, self.relevance_of(e["item"], user, row["target"])) for e in events]
            if self.strategy == "filter":  # Eq. 17
                scored = [(e, s) for e, s in scored if s >= self.theta]
            if self.strategy == "dp":
                own = [e["item"] for e in row["events"]][-self.max_length :]
                used = self.matching(own, [e["item"] for e in events])
                scored = [pair for k, pair in enumerate(scored) if k in used]
            for e, s in scored:
                borrowed.append((e["item"], donor["user"], s, -negative, e["feedback"], e["time"]))
        if self.max_borrowed is not None:
            places = range(len(borrowed))
            if self.strategy == "filter":
                places = sorted(places, key=lambda k: (borrowed[k][2], k))
            kept = set(list(places)[-self.max_borrowed :])
            borrowed = [b for k, b in enumerate(borrowed) if k in kept]
        room = self.max_length - min(n_own, self.max_length)
        return borrowed[max(0, len(borrowed) - room) :]

    def relevance_of(self, item: Any, user: list[float], target: Any) -> float:  # Eq. 16
        unit, products = self.unit(item), []
        if self.relevance in ("user", "both"):
            products.append(dot(user, unit))
        if self.relevance in ("target", "both"):
            products.append(dot(self.unit(target), unit))
        return cosine(*products)

    def similarity(self, a: Any, b: Any) -> int:
        c = cosine(dot(self.unit(a), self.unit(b)))
        return round(c * 10**6) if c >= self.theta and c > 0 else 0

    def matching(self, own: list[Any], theirs: list[Any]) -> set[int]:
        c = [[self.similarity(a, b) for b in theirs] for a in own]
        return best_matching(c)


def best_matching(c: list[list[int]]) -> set[int]:
    """Fill the table of the recurrence cell by cell, read it back from the end."""
    n, m = len(c), len(c[0]) if c else 0
    D = [[0] * (m + 1) for _ in range(n + 1)]
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            D[i][j] = max(D[i - 1][j], D[i][j - 1])
            if c[i - 1][j - 1] > 0:
                D[i][j] = max(D[i][j], D[i - 1][j - 1] + c[i - 1][j - 1])
    used, i, j = set(), n, m
    while i > 0 and j > 0:
        if c[i - 1][j - 1] > 0 and D[i][j] == D[i - 1][j - 1] + c[i - 1][j - 1]:
            used.add(j - 1)
            i, j = i - 1, j - 1
        elif D[i][j] == D[i - 1][j]:
            i -= 1
        else:
            j -= 1
    return used


def best_sum(c: list[list[int]]) -> int:
    """Try every order-preserving matching: brute force, for tiny tables."""
    n, m = len(c), len(c[0]) if c else 0

    def search(i: int, j: int) -> int:
        best = 0
        for a in range(i, n):
            for b in range(j, m):
                if c[a][b] > 0:
                    best = max(best, c[a][b] + search(a + 1, b + 1))
        return best

    return search(0, 0)
