"""An objective of one's own, and what is said of one that is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator

from skmars.baselines import BASRec, CL4SRec

from .test_objectives import data, din

__all__ = ["data"]  # the fixture


class KnownShare:
    """Tells whether each row's target is in the user's history, from the interest of the user."""

    pretrains = False

    def __init__(self, weight: float, width: int, **parts):
        self.weight, self.width, self.epochs = weight, width, []
        self.module = torch.nn.Linear(width, 1)
        vars(self).update(parts)

    def begin_epoch(self, epoch, network, features):
        assert network.item_embedding(torch.arange(2), torch.arange(2), features).shape[0] == 2
        self.epochs.append(epoch)

    def draw(self, batch, random_state):
        bag = batch.history
        known = np.zeros(len(batch.target), dtype=np.float64)
        known[bag.row[bag.item == batch.target[bag.row]]] = 1
        return known + 0 * random_state.random_sample(len(known))

    def loss(self, network, batch, features, target, weight, seen, drawn):
        logit = self.module(seen.interest).squeeze(1)
        return self.weight * torch.nn.functional.binary_cross_entropy_with_logits(logit, drawn)


class KnownTargets(BaseEstimator):
    def __init__(self, weight=1.0, parts=None):
        self.weight, self.parts = weight, parts

    def objective(self, X, table_row, width, n_epochs):
        assert len(table_row) == len(X.catalog)
        self.loss_ = KnownShare(self.weight, width, **(self.parts or {}))
        return self.loss_


def test_an_objective_of_ones_own_is_trained(data):
    X, y = data
    auxiliary = KnownTargets()
    model = din(auxiliary=auxiliary, max_iter=3).fit(X, y)
    assert auxiliary.loss_.epochs == [0, 1, 2]
    before = torch.nn.Linear(auxiliary.loss_.width, 1)
    before.load_state_dict(auxiliary.loss_.module.state_dict())
    model.set_params(auxiliary__weight=2.0).fit(X, y)
    assert auxiliary.loss_.weight == 2.0
    assert not torch.equal(auxiliary.loss_.module.weight, before.weight)


@pytest.mark.parametrize(
    ("auxiliary", "message"),
    [
        (BASRec, r"auxiliary=BASRec is a class. Pass an object: auxiliary=BASRec\(\)"),
        (KnownTargets, r"auxiliary=KnownTargets is a class"),
        (
            KnownTargets(parts={"draw": None}),
            "auxiliary=KnownTargets made .*, whose draw is",
        ),
        (KnownTargets(parts={"loss": 3, "pretrains": "no"}), "whose loss, pretrains is missing or"),
        (KnownTargets(parts={"module": "linear"}), "whose module is missing or of the wrong type"),
        ("CL4SRec", "must be an object implementing 'objective'"),
        ({"objective": None}, "must be an object implementing 'objective'"),
        (True, "must be an object implementing 'objective'"),
    ],
    ids=str,
)
def test_what_is_no_objective(auxiliary, message, data):
    model = din(auxiliary=auxiliary)
    with pytest.raises(TypeError, match=message):
        model.fit(*data)
    assert not hasattr(model, "classes_")
    assert model.set_params(auxiliary=CL4SRec()).fit(*data).n_iter_ == model.max_iter


def test_an_objective_that_makes_nothing(data):
    class Nothing:
        def objective(self, X, table_row, width, n_epochs): ...

    with pytest.raises(TypeError, match="made the loss None, whose begin_epoch, draw, loss, "):
        din(auxiliary=Nothing()).fit(*data)
