"""Rows with the labels and weights of a fit, and which of them are held out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import column_or_1d

from skmars.data import Impressions
from skmars.data._checks import LARGEST, check_sample_weight, check_target
from skmars.data._folds import OWN
from skmars.data._holdout import SHARE, hold_out
from skmars.utils._base import STEPS_AN_EPOCH
from skmars.utils._on_disk import Disk, blocks, computed, taken

# From this many rows of an array on, early_stopping="auto" holds some out.
AUTO_EARLY_STOPPING = 1000
# Between these, batch_size="auto" aims at STEPS_AN_EPOCH.
LEAST_ROWS, MOST_ROWS = 64, 512


R = TypeVar("R")


@dataclass(frozen=True)
class LabelledRows(Generic[R]):
    """Rows (Impressions, an array or EncodedRows) with labels and weights; None are all alike."""

    X: R
    y: NDArray[np.float32]  # 0 and 1
    count: NDArray[np.float64] | None = None  # how often a row counts (`sample_weight`)
    weight: NDArray[np.float64] | None = None  # the same, times the weight of the row's class

    def __len__(self) -> int:
        return len(self.y)


Data = LabelledRows[Any]


def select(data: Data, rows: NDArray[np.int64]) -> Data:
    """Return some of the rows."""
    disk = disk_of(data.X)
    count = None if data.count is None else taken(data.count, rows, disk)
    weight = None if data.weight is None else taken(data.weight, rows, disk)
    return LabelledRows(data.X[rows], taken(data.y, rows, disk), count, weight)


def has_borrowed(X: Any) -> bool:
    """Return whether a row has borrowed items."""
    borrowed = X.borrowed if isinstance(X, Impressions) else None
    return borrowed is not None and bool(borrowed.length.any())


def without_borrowed(data: Data) -> Data:
    """Return the rows as if nothing had been borrowed."""
    return replace(data, X=data.X.with_borrowed(None))


def disk_of(X: Any) -> Disk | None:
    """Return where arrays of many rows of `X` are put; None for memory."""
    return X._disk if isinstance(X, Impressions) else None


def weighed(
    data: Data,
    sample_weight: ArrayLike | None,
    class_weight: Mapping[Any, float] | str | None,
    classes: NDArray[Any],
) -> Data:
    """Attach weights; rows of weight zero are left out."""
    if sample_weight is not None:
        count = check_sample_weight(sample_weight, data.y, data.y)
        kept = np.flatnonzero(count)
        data = replace(data, count=count)
        if len(kept) < len(data):
            data = select(data, kept)
    if class_weight is None:
        return replace(data, weight=data.count)
    if isinstance(class_weight, str):
        # "balanced", as if rows were repeated: it is weights that are counted, not rows.
        total = np.zeros(2)
        for rows in blocks(len(data)):
            of_rows = None if data.count is None else data.count[rows]
            total += np.bincount(data.y[rows].astype(np.int64), of_rows, minlength=2)
        of_class = np.divide(total.sum(), 2 * total, out=np.ones(2), where=total > 0)
    else:
        of_class = _class_weights(class_weight, classes)

    def weight(block: slice) -> NDArray[np.float64]:
        of_row = of_class[data.y[block].astype(np.int64)]
        return of_row if data.count is None else of_row * data.count[block]

    return replace(data, weight=computed(len(data), weight, disk_of(data.X)))


def _class_weights(class_weight: Mapping[Any, float], classes: NDArray[Any]) -> NDArray[np.float64]:
    unknown = [c for c in class_weight if c not in classes.tolist()]
    if unknown:
        raise ValueError(
            f"class_weight names the class {unknown[0]!r}, but y has {classes.tolist()}."
        )
    of_class = [class_weight.get(c, 1.0) for c in classes.tolist()]
    for value in of_class:
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not (is_number and 1 / LARGEST <= value <= LARGEST):
            raise ValueError(
                f"class_weight={class_weight!r}: weights are numbers from {1 / LARGEST:g} to "
                f"{LARGEST:g}. To leave a class out, leave its rows out."
            )
    return np.array(of_class, dtype=np.float64)


def split(
    data: Data, holdout: str, fraction: float | str, random_state: np.random.RandomState, name: str
) -> tuple[Data, Data | None]:
    """Hold out rows, see `hold_out`; of an array, some of each class. None if that fails."""
    if isinstance(data.X, Impressions):
        parts = hold_out(data.X, data.y, holdout, fraction, random_state, name)
    else:
        n_held = np.ceil((SHARE if isinstance(fraction, str) else fraction) * len(data))
        parts = train_test_split(
            np.arange(len(data)),
            test_size=int(np.clip(n_held, 2, max(len(data) - 2, 2))),  # both classes in each part
            stratify=data.y,
            random_state=random_state,
        )
    return (data, None) if parts is None else (select(data, parts[0]), select(data, parts[1]))


def validation_rows(
    X: Impressions | NDArray[Any],
    y: ArrayLike,
    class_weight: Mapping[Any, float] | str | None,
    classes: NDArray[Any],
) -> Data:
    """Return rows for early stopping that the caller brings."""
    y01, _ = encode_target(y, classes, len(X), "y_val")
    if len(np.unique(y01)) < 2:
        raise ValueError("y_val holds only one class; early stopping needs both.")
    return weighed(LabelledRows(X, y01), None, class_weight, classes)


@contextmanager
def about_validation_rows() -> Iterator[None]:
    """Say of an error in the block that it is about X_val."""
    try:
        yield
    except ValueError as error:
        error.add_note(
            "This is about X_val, which must have gone through the same steps as X. A Pipeline "
            "sees to that with transform_input=['X_val']: see the user guide."
        )
        raise


def warn_of_own_answers(X: Impressions | NDArray[Any], name: str) -> None:
    """Say so if an earlier step has learnt from what became of the rows to be trained on."""
    n_own = 0
    if isinstance(X, Impressions) and X.fold is not None:
        n_own = int(np.count_nonzero(X.fold == OWN))
    if n_own:
        warnings.warn(
            f"{name} is trained on {n_own} rows of users whose later behaviour an earlier step has "
            "learnt, so that features of these rows know the click that is to be predicted. Let "
            "the earlier steps make them by fit_transform, as a Pipeline does, or fit those on "
            "rows before these.",
            UserWarning,
            stacklevel=6,
        )


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
    some = [part[~np.isin(part, classes)] for part in (y[rows] for rows in blocks(len(y)))]
    unknown = np.concatenate(some)
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
