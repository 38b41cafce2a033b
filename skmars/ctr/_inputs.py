"""What a fit learns about its columns, so that later rows are read in the same way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from skmars.ctr._batches import N_FEEDBACK, UNKNOWN_FEEDBACK, Rows, count_items, cut
from skmars.data import Impressions, ItemCatalog
from skmars.data._checks import check_range
from skmars.data._columns import FACTORS, LOOKALIKES
from skmars.data._sequences import Sequences
from skmars.utils._ids import Lookup, joined

ALIGNED = "aligned"
# Columns that join the logit count up to so many standard deviations.
LARGEST_JOINING = 3.0


@dataclass
class Inputs:
    """Vocabularies and scales of the rows of a fit.

    Attributes
    ----------
    max_length : int
        Items of a history that are used, the last ones.
    borrowed : {"separate", "marked", "joint"}
        How borrowed items stand to the user's own.
    scaler : StandardScaler or None
        Of the numeric columns, None if there is none.
    numeric, categorical : list of str
        Names of the context columns.
    n_linear : int
        So many of the numeric ones, the last, join the logit after training.
    encoder : OrdinalEncoder or None
        Of the categorical columns; code -1 for unknown categories.
    category_counts : list of ndarray
        Rows of each category, with the unknown one in front.
    item_ids : ndarray or None
        Ids of the items of the fit, in the order of the embedding table; None without items.
    item_count : ndarray of shape (n_items + 1,)
        Times each item occurs in the rows of the fit, with the unknown item in front.
    feedback_count : ndarray of shape (3,)
        Times each feedback occurs among the history items.
    item_features : dict of str to int
        Width of each feature matrix that joins the item embedding.
    has_feedback, has_borrowed : bool
    """

    max_length: int = 0
    borrowed: str = "separate"
    numeric: list[str] = field(default_factory=list)
    categorical: list[str] = field(default_factory=list)
    n_linear: int = 0
    scaler: StandardScaler | None = None
    encoder: OrdinalEncoder | None = None
    category_counts: list[NDArray[np.int64]] = field(default_factory=list)
    item_ids: NDArray[Any] | None = None
    item_count: NDArray[np.int64] | None = None
    feedback_count: NDArray[np.int64] | None = None
    item_features: dict[str, int] = field(default_factory=dict)
    has_feedback: bool = False
    has_borrowed: bool = False
    # Catalogue ids and what `table_rows` answered for them last.
    _answer: tuple[NDArray[Any], NDArray[np.int64]] | None = None

    @property
    def has_items(self) -> bool:
        """Whether the rows have targets and histories, or are plain numbers."""
        return self.item_ids is not None

    @classmethod
    def of_array(cls, X: NDArray[Any], weight: NDArray[np.float64] | None) -> Inputs:
        """Learn the scales of a plain numeric array."""
        return cls(scaler=StandardScaler().fit(X, sample_weight=weight))

    @classmethod
    def of_impressions(
        cls,
        X: Impressions,
        weight: NDArray[np.float64] | None,
        *,
        max_length: int,
        borrowed: str,
        item_features: Any,
        linear_context: Any,
    ) -> Inputs:
        """Learn vocabularies and scales of impressions."""
        inputs = cls(max_length, borrowed)
        for name, column in X.context.items():
            (inputs.numeric if column.dtype.kind in "iuf" else inputs.categorical).append(name)
        linear = _linear_columns(inputs.numeric, inputs.categorical, linear_context)
        inputs.numeric = [name for name in inputs.numeric if name not in linear] + linear
        inputs.n_linear = len(linear)
        if inputs.numeric:
            inputs.scaler = StandardScaler().fit(inputs._numbers(X), sample_weight=weight)
        if inputs.categorical:
            inputs.encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
            codes = np.asarray(inputs.encoder.fit_transform(inputs._strings(X)), np.int64) + 1
            inputs.category_counts = [np.bincount(c) for c in codes.T]
        inputs.item_features = _feature_widths(X.catalog, item_features)
        inputs.has_borrowed = X.borrowed is not None and bool(X.borrowed.length.any())
        parts = [X.history, X.borrowed if inputs.has_borrowed else None]
        inputs.has_feedback = any(p is not None and p.feedback is not None for p in parts)
        inputs.item_ids = X.catalog.ids[:0]
        inputs.item_count = np.zeros(1, dtype=np.int64)
        inputs.feedback_count = np.zeros(N_FEEDBACK, dtype=np.int64)
        inputs.update(X)
        return inputs

    def update(self, X: Impressions) -> int:
        """Count the rows' items and append unknown ones to the vocabulary; return how many."""
        assert self.item_ids is not None
        assert self.item_count is not None
        assert self.feedback_count is not None
        history, borrowed = self._sequences(X)
        count = count_items(len(X.catalog), X.target, history, borrowed)
        seen = np.flatnonzero(count)
        row = Lookup(self.item_ids, "item_id of the rows of fit")(
            X.catalog.ids[seen], "item_id of X"
        )
        new = seen[row < 0]
        self.item_ids = joined(self.item_ids, X.catalog.ids[new])
        there = row >= 0
        self._answer = None
        self.item_count[row[there] + 1] += count[seen[there]]
        self.item_count = np.concatenate([self.item_count, count[new]])
        for part in (history, borrowed):
            if part is not None:
                self.feedback_count = self.feedback_count + _count_feedback(part)
        return len(new)

    def rows_of_array(self, X: NDArray[Any]) -> Rows:
        """Read the rows of a plain numeric array."""
        assert self.scaler is not None
        dense = np.asarray(self.scaler.transform(X))  # whatever `set_config` asks for
        check_range(dense, None, "is scaled to")
        return Rows(dense, np.zeros((len(X), 0), dtype=np.int64))

    def rows_of_impressions(self, X: Impressions) -> Rows:
        """Read the rows of impressions: items as table rows, numbers scaled, strings coded."""
        dense = np.zeros((len(X), 0))
        if self.scaler is not None and len(X):
            dense = np.array(self.scaler.transform(self._numbers(X)))
            check_range(dense, self.numeric, "is scaled to")
            # A weight that was learnt of small values must not decide a row by a large one.
            joins = dense[:, dense.shape[1] - self.n_linear :]
            np.clip(joins, -LARGEST_JOINING, LARGEST_JOINING, out=joins)
        categorical = np.zeros((len(X), len(self.categorical)), dtype=np.int64)
        if self.encoder is not None and len(X):
            categorical = np.asarray(self.encoder.transform(self._strings(X)), np.int64) + 1
        history, borrowed = self._sequences(X)
        return Rows(
            dense.astype(np.float32),
            categorical,
            table_row=self.table_rows(X.catalog),
            target=X.target,
            length=X.history.length,
            history=history,
            borrowed=borrowed,
            shift=_shift(X),
            merge=self.borrowed != "separate",
        )

    def table_rows(self, catalog: ItemCatalog) -> NDArray[np.int64]:
        """Return the embedding row of each item of a catalogue, 0 for unknown items."""
        assert self.item_ids is not None
        if self._answer is not None and self._answer[0] is catalog.ids:
            return self._answer[1]
        known = Lookup(self.item_ids, "item_id of the rows of fit")
        rows = known(catalog.ids, "item_id of X").astype(np.int64) + 1
        self._answer = (catalog.ids, rows)
        return rows

    def catalog_features(self, catalog: ItemCatalog) -> dict[str, NDArray[np.float32]]:
        """Return the feature matrices that join the item embedding, after checking them."""
        matrices = {}
        for name, width in self.item_features.items():
            matrix = _matrix(catalog, name)
            if matrix is None:
                raise ValueError(
                    f"The catalogue of X has no item features {name!r}, which DINClassifier was "
                    f"fitted with; it has {feature_names(catalog)}. Pass X through the steps that "
                    "made them, or attach them with catalog.with_features / with_embedding."
                )
            if matrix.shape[1] != width:
                raise ValueError(
                    f"Item features {name!r} have {matrix.shape[1]} columns in the catalogue of X, "
                    f"but had {width} when DINClassifier was fitted."
                )
            if not np.isfinite(matrix).all():
                raise ValueError(
                    f"Item features {name!r} of the catalogue contain NaN or infinity."
                )
            seen = [_matrix(fold, name) for fold in catalog.folds]
            if any(each is not matrix for each in seen):
                matrix = np.concatenate([matrix, *seen])  # type: ignore[list-item]
            matrices[name] = matrix
        return matrices

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_answer": None}

    def _sequences(self, X: Impressions) -> tuple[Sequences, Sequences | None]:
        # A pool, or a mark, for borrowed items that no borrowed item has trained adds noise.
        heed = self.has_borrowed or self.borrowed == "joint"
        return cut(X.history, X.borrowed if heed else None, self.max_length)

    def _numbers(self, X: Impressions) -> NDArray[np.float64]:
        for name in self.numeric:
            column = X.context[name]
            if column.dtype.kind not in "iufb":
                raise ValueError(
                    f"Context column {name!r} was numeric in fit, but is not in X "
                    f"(first value: {column[0]!r}). Convert it to numbers."
                )
        return np.column_stack([X.context[name].astype(np.float64) for name in self.numeric])

    def _strings(self, X: Impressions) -> NDArray[Any]:
        for name in self.categorical:
            if X.context[name].dtype.kind in "iuf":
                raise ValueError(
                    f"Context column {name!r} was categorical in fit, but is numeric in X. "
                    "Convert it to strings."
                )
        columns = [X.context[name].astype(str).astype(object) for name in self.categorical]
        return np.column_stack(columns)


def _linear_columns(numeric: list[str], categorical: list[str], names: Any) -> list[str]:
    if names is None:
        return []
    if names == "auto":
        return [name for name in numeric if name in LOOKALIKES]
    names = list(dict.fromkeys(names))
    for name in names:
        if name not in numeric:
            what = "is not numeric" if name in categorical else "X does not have"
            raise ValueError(
                f"linear_context names the context column {name!r}, which {what}; its numeric "
                f"context columns are {numeric}."
            )
    return names


def check_numbers(X: Impressions, names: Iterable[str]) -> None:
    """Check that the numeric ones of these context columns hold numbers of a sane size."""
    for name in names:
        column = X.context[name]
        if column.dtype.kind not in "iuf":
            continue
        bad = ~np.isfinite(column)
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(
                f"Context column {name!r} contains {_word(column[row])} in {bad.sum()} rows "
                f"(first: row {row}). Fill these values, or drop the rows."
            )
        check_range(column.astype(np.float64)[:, None], [name])


def _word(value: float) -> str:
    return "NaN" if np.isnan(value) else "infinity"


def _matrix(catalog: ItemCatalog, name: str) -> NDArray[np.float32] | None:
    return catalog.embedding if name == ALIGNED else catalog.features.get(name)


def _shift(X: Impressions) -> NDArray[np.int64] | None:
    """Return what the fold of each row adds to item codes; None where all folds are alike."""
    if X.fold is None:
        return None
    if not X.catalog.folds:
        if (X.fold >= 0).any() and FACTORS in X.catalog.features:
            raise ValueError(
                "The rows of X see item factors without the users of their fold (X.fold, column "
                "'user_fold'), but the catalogue of X has those of all users only. Pass the "
                "impressions that fit_transform returned, or their catalogue: "
                "Impressions.from_frame(table, X.catalog)."
            )
        return None
    return np.maximum(X.fold + 1, 0) * np.int64(len(X.catalog))


def feature_names(catalog: ItemCatalog) -> list[str]:
    """Return what a catalogue offers as item features."""
    return [*catalog.features, *([ALIGNED] if catalog.embedding is not None else [])]


def _feature_widths(catalog: ItemCatalog, names: Any) -> dict[str, int]:
    if names is None:
        return {}
    offered = feature_names(catalog)
    if names == "auto":
        # Item factors say most, for fewest weights. An aligner learns from the labels of the rows
        # that are trained on here, of which its embedding tells more than of others.
        features = [name for name in offered if name != ALIGNED]
        names = [FACTORS] if FACTORS in features else features or offered
    widths = {}
    for name in names:
        if name not in offered:
            raise ValueError(
                f"item_features names {name!r}, which the catalogue of X does not have; "
                f"it has {offered}."
            )
        matrix = _matrix(catalog, name)
        assert matrix is not None
        widths[name] = matrix.shape[1]
    return widths


def _count_feedback(part: Sequences) -> NDArray[np.int64]:
    if part.feedback is None:
        count = np.zeros(N_FEEDBACK, dtype=np.int64)
        count[UNKNOWN_FEEDBACK] = part.length.sum(dtype=np.int64)
        return count
    seen = replace(part, items=part.feedback.astype(np.int32))
    return count_items(N_FEEDBACK, np.zeros(0, dtype=np.int64), seen)
