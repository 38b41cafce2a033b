"""Why rows borrow nothing, and the counts behind look-alike features, against slow loops."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from skmars import SequenceRetrievalAugmenter, explain

from .reference import Reference, Table, centred_unit, cosine, dot
from .test_against_reference import parameters, worlds
from .worlds import as_tuples, world


def permitted(reference: Reference, row: dict[str, Any], event: dict[str, Any]) -> bool:
    if not reference.respect_time or row["time"] is None or event["time"] is None:
        return True
    return event["time"] < row["time"]


def ranking(reference: Reference, row: dict[str, Any]) -> list[tuple[float, int]]:
    if not reference.donors:
        return []
    user = centred_unit(reference.user_vector(row), reference.user_center)
    if not any(user):
        return []
    return sorted(
        (-cosine(dot(user, donor["unit"])), number)
        for number, donor in enumerate(reference.donors)
        if donor["user"] != row["user"]
        and any(permitted(reference, row, e) for e in donor["events"])
    )


def reason_of(reference: Reference, row: dict[str, Any]) -> tuple[str, float]:
    """Return why a row borrows nothing, and the relevance of the best item below theta."""
    n, donors = len(row["events"]), reference.donors
    if reference.borrow(row):
        return "", np.nan
    if n > reference.low:
        return "not low-active", np.nan
    if n >= reference.max_length:
        return "no room left", np.nan
    if not donors:
        return "no donors", np.nan
    user = centred_unit(reference.user_vector(row), reference.user_center)
    if not any(user):
        return ("empty history" if n == 0 else "no vector"), np.nan
    if reference.respect_time and row["time"] == -np.inf:
        return "unknown time", np.nan
    found = ranking(reference, row)
    if not found:
        alone = [donor["user"] for donor in donors] == [row["user"]]
        return ("no other donor" if alone else "no earlier donor"), np.nan
    if reference.strategy != "filter":
        return "nothing reaches theta", np.nan
    return "nothing reaches theta", max(
        reference.relevance_of(event["item"], user, row["target"])
        for _, number in found[: reference.n_neighbors]
        for event in donors[number]["events"]
        if permitted(reference, row, event)
    )


def everybody(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the events of each user with a history, of the row with the longest one."""
    longest: dict[Any, dict[str, Any]] = {}
    for row in rows:
        known = longest.setdefault(row["user"], row)
        if len(row["events"]) > len(known["events"]):
            longest[row["user"]] = row
    return [row["events"] for row in longest.values() if row["events"]]


def touched(
    reference: Reference, row: dict[str, Any], users: list[list[dict[str, Any]]]
) -> dict[str, int]:
    """Count the users who touched the target before, by their first such event."""
    count = {"users": 0, "users_touched": 0, "users_liked": 0}
    for events in users:
        before = [e for e in events if permitted(reference, row, e)]
        count["users"] += bool(before)
        firsts = [e for e in before if e["item"] == row["target"]][:1]
        count["users_touched"] += len(firsts)
        count["users_liked"] += sum(e["feedback"] == 1 for e in firsts)
    return count


@settings(max_examples=60)
@given(worlds.filter(lambda world: world["n_events"] > 8), parameters)
def test_reasons_are_those_of_slow_loops(world_arguments, arguments) -> None:
    X = world(**world_arguments)
    train = X[np.arange(len(X)) % 4 != 3]
    k = 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        augmenter = SequenceRetrievalAugmenter(**arguments, n_lookalikes=k).fit(train)
    why = explain(augmenter, X, frame="pandas")
    reference = Reference(**arguments, n_lookalikes=k).fit(train)
    reference.transform(X[:0])
    reference.their_vectors = Table(X).vectors
    high = np.quantile(
        list(reference.active.values()) if reference.activity == "user" else train.history.length,
        reference.high_quantile,
    )
    users = everybody(Table(train).rows)
    borrowed = as_tuples(augmenter.transform(X))
    assert [tuple(row) for row in why.borrowed[["row", "item_id", "donor_id"]].to_numpy()] == [
        (i, item, donor) for i, events in enumerate(borrowed) for item, donor, *_ in events
    ]
    for i, row in enumerate(Table(X).rows):
        told = why.rows.iloc[i]
        reason, largest = reason_of(reference, row)
        n = len(row["events"])
        low = n <= reference.low
        assert told.activity == ("low" if low else "high" if n >= high else "middle")
        assert (told.history, told.n_borrowed, told.reason) == (n, len(borrowed[i]), reason)
        assert told.largest_similarity == pytest.approx(largest, abs=1e-6, nan_ok=True)
        if not reference.donors:
            continue
        searched = reason not in ("not low-active", "no room left")
        found = ranking(reference, row) if searched else []
        chosen = found[: 1 if reference.strategy == "most_similar" else reference.n_neighbors]
        assert told.donor_id == [reference.donors[number]["user"] for _, number in chosen]
        assert told.donor_similarity == pytest.approx([-s for s, _ in chosen], abs=1e-6)
        for name, count in touched(reference, row, users).items():
            if name != "users_liked" or train.history.feedback is not None:
                assert told[name] == count, name
    assert "No rows" in str(explain(augmenter, X[:0]))


def test_without_lookalike_features_there_are_no_counts() -> None:
    X = world(3)
    why = explain(SequenceRetrievalAugmenter(n_lookalikes=0).fit(X), X, frame="pandas")
    assert not [name for name in why.rows.columns if "lookalike" in name or "users" in name]
