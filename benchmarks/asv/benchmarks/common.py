"""What the benchmarks share: abstract classes whose methods asv times in each concrete class.

SKMARS_ASV_USERS scales the data (default: 1000 users, about 20,000 rows).
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

N_USERS = int(os.environ.get("SKMARS_ASV_USERS", "1000"))
N_ITEMS = 500
WIDTHS = {"text": 64, "image": 32}


@lru_cache
def impressions(n_users: int = N_USERS) -> tuple[Any, Any]:
    """Draw impressions with planted look-alikes, whose catalogue has modality features.

    The features are the planted factors, noisy and mixed: what an encoder would make of the
    content, without its cost.
    """
    from skmars import make_multimodal_ctr

    X, y, truth = make_multimodal_ctr(n_users, N_ITEMS, random_state=0, return_truth=True)
    rng = np.random.default_rng(0)
    factors = np.asarray(truth.item_factors, dtype=np.float64)
    features = {
        name: factors @ rng.normal(size=(factors.shape[1], width))
        + 0.5 * rng.normal(size=(len(factors), width))
        for name, width in WIDTHS.items()
    }
    return X.with_catalog(X.catalog.with_features(features)), y


class Estimator(ABC):
    """Times `fit`; what it learnt is there for the other methods."""

    timeout = 600
    number = 1
    param_names: ClassVar[list[str]] = []
    params: ClassVar[list[Any]] = []

    @abstractmethod
    def data(self, *parameters: Any) -> tuple[Any, Any]:
        """Return X and y."""

    @abstractmethod
    def estimator(self, *parameters: Any) -> Any:
        """Return the estimator, not fitted."""

    def setup(self, *parameters: Any) -> None:
        """Fit once: imports and caches of the first call are not what is timed."""
        self.X, self.y = self.data(*parameters)
        self.fitted = self.estimator(*parameters).fit(self.X, self.y)

    def time_fit(self, *parameters: Any) -> None:
        self.estimator(*parameters).fit(self.X, self.y)

    def peakmem_fit(self, *parameters: Any) -> None:
        self.estimator(*parameters).fit(self.X, self.y)


class Transformer(Estimator):
    """Times `transform` too, and `fit_transform`, which makes the rows to train on."""

    def time_fit_transform(self, *parameters: Any) -> None:
        self.estimator(*parameters).fit_transform(self.X, self.y)

    def time_transform(self, *parameters: Any) -> None:
        self.fitted.transform(self.X)

    def peakmem_transform(self, *parameters: Any) -> None:
        self.fitted.transform(self.X)


class Classifier(Estimator):
    """Times `predict_proba` too, and tracks the AUC of rows that `fit` did not see."""

    def setup(self, *parameters: Any) -> None:
        """Hold out the last rows of all users, which are test rows."""
        from skmars import leave_last_out

        X, y = self.data(*parameters)
        train, _, test = leave_last_out(X)
        self.X, self.y, self.X_test, self.y_test = X[train], y[train], X[test], y[test]
        self.fitted = self.estimator(*parameters).fit(self.X, self.y)

    def time_predict_proba(self, *parameters: Any) -> None:
        self.fitted.predict_proba(self.X)

    def peakmem_predict_proba(self, *parameters: Any) -> None:
        self.fitted.predict_proba(self.X)

    def track_auc(self, *parameters: Any) -> float:
        from sklearn.metrics import roc_auc_score

        return float(roc_auc_score(self.y_test, self.fitted.predict_proba(self.X_test)[:, 1]))

    track_auc.unit = "AUC"  # type: ignore[attr-defined]
