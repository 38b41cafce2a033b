"""Rows, labels and weights of a fit, before they are read into numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import _check_sample_weight, column_or_1d

from skmars.data import Impressions
from skmars.data._checks import check_target
from skmars.data._holdout import SHARE, hold_out
from skmars.utils._base import STEPS_AN_EPOCH

# From this many rows of an array on, early_stopping="auto" holds some out.
AUTO_EARLY_STOPPING = 1000
# Between these, batch_size="auto" aims at STEPS_AN_EPOCH.
LEAST_ROWS, MOST_ROWS = 64, 512


@dataclass(frozen=True)
class Sample:
    """Rows with labels and weights; weights of None are all alike.

    Attributes
    ----------
    X : Impressions or ndarray
    y : ndarray of shape (n_rows,)
        0 and 1.
    count : ndarray of shape (n_rows,) or None
        How often a row counts (`sample_weight`).
    weight : ndarray of shape (n_rows,) or None
        The same, multiplied with the weight of the row's class.
    """

    X: Any
    y: NDArray[np.float32]
    count: NDArray[np.float64] | None = None
    weight: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: NDArray[Any]) -> Sample:
        count = None if self.count is None else self.count[rows]
        weight = None if self.weight is None else self.weight[rows]
        return Sample(self.X[rows], self.y[rows], count, weight)

    @classmethod
    def weighed(
        cls,
        X: Any,
        y: NDArray[np.float32],
        sample_weight: Any,
        class_weight: Any,
        classes: NDArray[Any],
    ) -> Sample:
        """Attach weights; rows of weight zero are left out."""
        count = None
        if sample_weight is not None:
            count = _check_sample_weight(
                sample_weight, y, dtype=np.float64, ensure_non_negative=True
            )
            if (count == 0).any():
                kept = np.flatnonzero(count)
                if len(np.unique(y[kept])) < len(np.unique(y)):
                    raise ValueError(
                        "sample_weight leaves rows of one class only: all rows of the other "
                        "class have weight zero."
                    )
                X, y, count = X[kept], y[kept], count[kept]
        if class_weight is None:
            return cls(X, y, count, count)
        code = y.astype(np.int64)
        if isinstance(class_weight, str):
            # "balanced", as if rows were repeated: it is weights that are counted, not rows.
            total = np.bincount(code, count, minlength=2)
            of_class = np.divide(total.sum(), 2 * total, out=np.ones(2), where=total > 0)
        else:
            unknown = [c for c in class_weight if c not in classes.tolist()]
            if unknown:
                raise ValueError(
                    f"class_weight names the class {unknown[0]!r}, but y has {classes.tolist()}."
                )
            of_class = np.array([class_weight.get(c, 1.0) for c in classes.tolist()])
        weight = of_class[code] if count is None else of_class[code] * count
        return cls(X, y, count, weight)

    @classmethod
    def validation(cls, X: Any, y: Any, class_weight: Any, classes: NDArray[Any]) -> Sample:
        """Rows for early stopping that the caller brings."""
        y, _ = encode_target(y, classes, len(X), "y_val")
        if len(np.unique(y)) < 2:
            raise ValueError("y_val holds only one class; early stopping needs both.")
        return cls.weighed(X, y, None, class_weight, classes)

    def split(
        self, holdout: str, fraction: float | str, random_state: np.random.RandomState, name: str
    ) -> tuple[Sample, Sample | None]:
        """Hold out rows, see `hold_out`; of an array, some of each class. None if that fails."""
        if isinstance(self.X, Impressions):
            parts = hold_out(self.X, self.y, holdout, fraction, random_state, name)
        else:
            parts = train_test_split(
                np.arange(len(self)),
                test_size=SHARE if isinstance(fraction, str) else fraction,
                stratify=self.y,
                random_state=random_state,
            )
        return (self, None) if parts is None else (self[parts[0]], self[parts[1]])


def encode_target(
    y: Any, classes: NDArray[Any] | None, n_rows: int, name: str
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Return `y` as 0.0 and 1.0, and the classes; one class in `y` is enough if both are known."""
    if classes is None or y is None:
        return check_target(y, n_rows, estimator_name=name)
    y = column_or_1d(y, warn=True)
    if len(y) != n_rows:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {n_rows} rows, y "
            f"has {len(y)} entries. Pass X and y of the same rows."
        )
    unknown = y[~np.isin(y, classes)]
    if len(unknown):
        raise ValueError(
            f"y has the label {unknown[:1].tolist()[0]!r}, which is not among the classes "
            f"{classes.tolist()}."
        )
    return (y == classes[1]).astype(np.float32), classes


def two_classes(classes: Any) -> NDArray[Any] | None:
    """Check the parameter `classes` of `partial_fit`."""
    if classes is None:
        return None
    distinct = np.unique(classes)
    if len(distinct) != 2:
        raise ValueError(
            f"classes must be the two classes of y, got {len(distinct)}: {distinct.tolist()}."
        )
    return distinct


def holds_out(early_stopping: bool | str, X: Any) -> bool:
    """Resolve the parameter `early_stopping`."""
    if early_stopping == "auto":
        return isinstance(X, Impressions) or len(X) >= AUTO_EARLY_STOPPING
    return bool(early_stopping)


def rows_a_step(batch_size: int | str, n_rows: int) -> int:
    """Resolve the parameter `batch_size`."""
    if isinstance(batch_size, str):
        return min(max(n_rows // STEPS_AN_EPOCH, LEAST_ROWS), MOST_ROWS)
    return batch_size
