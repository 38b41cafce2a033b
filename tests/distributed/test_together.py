"""Processes that train together get what one gets alone, but for rounding."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skmars import ItemCatalog, make_multimodal_ctr
from skmars.baselines import CL4SRec
from skmars.ctr._together import own_rows
from tests.ctr.impressions import din, lend, make_data
from tests.distributed.processes import Processes, fitted

X, y = make_data()
X, y = X[:60], y[:60]
LENT = lend(X)
WEIGHT = np.random.default_rng(0).integers(0, 4, len(X)).astype(float)
# A few rows a batch, so that some processes have none, or no history, or nothing borrowed.
FEW = {"batch_size": 5, "max_iter": 1}


@pytest.fixture(scope="module")
def processes(tmp_path_factory: Any) -> Iterator[Processes]:
    group = Processes(3, tmp_path_factory.mktemp("group"))
    yield group
    group.close()


def check_same(found: Any, expected: Any, rtol: float = 1e-8) -> None:
    state = expected._network.state_dict()
    for name, value in found._network.state_dict().items():
        np.testing.assert_allclose(value, state[name], rtol=rtol, atol=rtol, err_msg=name)
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=rtol)
    for scores in zip(found.validation_scores_ or [], expected.validation_scores_ or []):
        np.testing.assert_allclose(*scores, rtol=rtol)
    assert found.n_iter_ == expected.n_iter_


CASES: dict[str, tuple[dict, Any, dict]] = {
    "one batch": ({}, LENT, {}),
    "few rows": (FEW, X, {}),
    "few rows, borrowed": (FEW, LENT, {}),
    "few rows, weights": (FEW, LENT, {"sample_weight": WEIGHT}),
    "class weights": ({"class_weight": "balanced", "batch_size": 20}, LENT, {}),
    "no Dice": ({"activation": "prelu", **FEW}, LENT, {}),
    "softmax": ({"attention_normalization": "softmax", "borrowed": "marked", **FEW}, LENT, {}),
    "deep": ({"attention_units": (8, 6, 4), "hidden_units": (8, 6, 5), **FEW}, LENT, {}),
    "no hidden layer": ({"attention_units": (), "hidden_units": (), **FEW}, LENT, {}),
    "no penalty": ({"embedding_l2": 0.0, **FEW}, X, {}),
    "large penalty": ({"embedding_l2": 0.1, **FEW}, X, {}),
    "all rows": ({"early_stopping": False, "linear_context": ["hour"], **FEW}, X, {}),
    "column joins": ({"linear_context": ["hour"], **FEW}, X, {}),
    "stops early": ({"max_iter": 30, "n_iter_no_change": 1, "batch_size": 20}, X, {}),
    "one row a batch": ({"batch_size": 1, "max_iter": 1}, X[:12], {}),
}


@pytest.mark.parametrize("name", CASES)
def test_same_as_alone(processes: Processes, name: str) -> None:
    parameters, rows, arguments = CASES[name]
    labels = y[: len(rows)]
    expected = fitted(din(**parameters), rows, labels, together=False, **arguments)
    for found in processes(fitted, din(**parameters), rows, labels, together=True, **arguments):
        check_same(found, expected)


def test_attributes_and_features(processes: Processes) -> None:
    rows, labels = make_multimodal_ctr(n_users=30, n_items=20, random_state=0)
    rng = np.random.default_rng(0)
    n_items = len(rows.catalog)
    catalog = ItemCatalog(
        rows.catalog.ids,
        features={"vector": rng.normal(size=(n_items, 3)).astype(np.float32)},
        attributes={
            "price": rng.normal(size=n_items),
            "genre": [list(rng.choice(list("abc"), rng.integers(1, 3))) for _ in range(n_items)],
        },
    )
    rows = rows.with_catalog(catalog)
    model = din(batch_size=60, max_iter=2)
    expected = fitted(model, rows, labels, together=False)
    check_same(processes(fitted, model, rows, labels, together=True)[0], expected)


def test_arrays(processes: Processes) -> None:
    array = np.random.default_rng(0).normal(size=(200, 3))
    labels = (array[:, 0] > 0).astype(int)
    model = din(batch_size=50)
    expected = fitted(model, array, labels, together=False)
    check_same(processes(fitted, model, array, labels, together=True)[0], expected)


def test_goes_on(processes: Processes) -> None:
    """`partial_fit` and `warm_start` go on from a fit in one process, with its moments."""
    first = fitted(din(warm_start=True, max_iter=1), X[:40], y[:40], together=False)
    for partial in (True, False):
        given = pickle.loads(pickle.dumps(first)), LENT, y
        expected = fitted(*given, together=False, partial=partial)
        check_same(processes(fitted, first, LENT, y, together=True, partial=partial)[1], expected)


def test_same_bits(processes: Processes) -> None:
    """All processes have the same bits, and so does another fit with the same seed."""
    model = din(batch_size=10)
    found = [
        each
        for _ in range(2)
        for each in processes(fitted, model, LENT, y, together=True, dtype=torch.float32)
    ]
    state = found[0]._network.state_dict()
    for other in found[1:]:
        assert other.loss_curve_ == found[0].loss_curve_
        assert other.validation_scores_ == found[0].validation_scores_
        for name, value in other._network.state_dict().items():
            assert torch.equal(value, state[name]), name


def test_in_single_precision(processes: Processes) -> None:
    """After an epoch, parameters differ by rounding alone.

    Of a unit whose gradient is nearly zero, AdamW makes a part of a step of the rounding.
    """
    model = din(batch_size=20, max_iter=1)
    expected = fitted(model, LENT, y, together=False, dtype=torch.float32)
    found = processes(fitted, model, LENT, y, together=True, dtype=torch.float32)[0]
    pairs = zip(found._network.state_dict().values(), expected._network.state_dict().values())
    away = torch.cat([(a - b).abs().flatten() for a, b in pairs])
    assert away.max() < model.learning_rate
    assert (away < model.learning_rate / 100).double().mean() > 0.99


def test_needs_a_whole_batch(processes: Processes) -> None:
    with pytest.raises(ValueError, match="auxiliary=CL4SRec.* one process"):
        processes(fitted, din(auxiliary=CL4SRec()), X, y, together=True)


class _Rank:
    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


@given(st.lists(st.integers(1, 200), min_size=1, max_size=50), st.integers(1, 7))
def test_rows_are_divided(work: list[int], size: int) -> None:
    """Each row is of one process, and no part is larger than the mean by more than one row."""
    work_of = np.array(work)
    parts = [own_rows(work_of, _Rank(rank, size)) for rank in range(size)]  # type: ignore
    np.testing.assert_array_equal(
        np.concatenate([np.arange(len(work))[part] for part in parts]), np.arange(len(work))
    )
    for part in parts:
        assert work_of[part].sum() <= work_of.sum() / size + work_of.max()
