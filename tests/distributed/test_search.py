"""Searches on a cluster give what one process gives, and the rows travel once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from skmars import Impressions, LeaveLastOut
from skmars.distributed import parallel_backend
from tests.distributed.shop import known, unfitted

GRID = {"augment__theta": [-1.0, 0.9], "ctr__embedding_dim": [4, 8]}


def test_search(cluster: Any, log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = known(log)
    search = GridSearchCV(unfitted(), GRID, cv=LeaveLastOut(), scoring="neg_log_loss", refit=False)
    expected = search.fit(X, y).cv_results_["mean_test_score"]
    pickled = []

    def counting(self: Impressions, protocol: int) -> Any:
        pickled.append(len(self))
        return object.__reduce_ex__(self, protocol)

    monkeypatch.setattr(Impressions, "__reduce_ex__", counting)
    with parallel_backend(n_jobs=2):
        found = search.fit(X, y).cv_results_["mean_test_score"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert len(set(expected)) == 4
    assert pickled == [len(X)]


def test_more_jobs_than_cpus(cluster: Any) -> None:
    with pytest.raises(ValueError, match="n_jobs must be from 1 to 3"), parallel_backend(4):
        pass
