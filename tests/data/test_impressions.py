"""The container: slicing, frames, immutability, pickles."""

from __future__ import annotations

import copy
import pickle

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import train_test_split
from sklearn.utils import _safe_indexing

from skmars import Impressions, ItemCatalog
from skmars.data import Sequences
from skmars.data._checks import as_impressions, check_target, require_impressions
from skmars.data._frames import FRAMES


@pytest.fixture
def X() -> Impressions:
    log = pd.DataFrame(
        {
            "user_id": ["u", "u", "v", "u", "w"],
            "item_id": [1, 2, 1, 3, 2],
            "timestamp": [1.0, 2.0, 2.5, 3.0, 4.0],
            "liked": [1, 0, 1, 1, 0],
            "hour": [7, 8, 9, 10, 11],
            "city": ["Rome", None, "Oslo", "Rome", "Bonn"],
        }
    )
    catalog = ItemCatalog([1, 2, 3], content={"title": ["Up", "Heat", "Alien"]})
    X, _ = Impressions.from_log(
        log, catalog, label="liked", history="all", context=["hour", "city"]
    )
    borrowed = Sequences(
        np.array([2, 0], dtype=np.int32),
        np.array([0, 0, 0, 0, 0]),
        np.array([0, 0, 2, 0, 1], dtype=np.int32),
        feedback=np.array([1, 0], dtype=np.int8),
        donor=np.array([0, 0], dtype=np.int32),
        donors=np.array(["u"], dtype=object),
        similarity=np.array([0.5, 0.25], dtype=np.float32),
        donor_similarity=np.array([0.9, 0.9], dtype=np.float32),
    )
    embedding = np.arange(10, dtype=np.float32).reshape(5, 2)
    return X.with_borrowed(borrowed).with_user_embedding(embedding)


def assert_same(X: Impressions, Z: Impressions) -> None:
    """Same rows, whatever the codes."""
    left, right = X.to_frame("pandas"), Z.to_frame("pandas")
    pd.testing.assert_frame_equal(left, right)


@given(data=st.data())
def test_selections_compose(data: st.DataObject) -> None:
    log = pd.DataFrame({"user_id": [1, 2, 1, 2, 1, 1], "item_id": range(6)})
    X, _ = Impressions.from_log(log)
    rows = np.array(data.draw(st.lists(st.integers(0, 5), max_size=8)), dtype=int)
    picked = X[rows]
    assert picked.shape == (len(rows), X.shape[1])
    np.testing.assert_array_equal(picked.item_ids, X.item_ids[rows])
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(picked.history.row(i), X.history.row(row))
    assert_same(picked[::-1], X[rows[::-1]])


def test_every_form_of_index(X: Impressions) -> None:
    mask = np.array([True, False, True, False, False])
    for rows in ([0, 2], mask, np.array([0, 2]), slice(0, 3, 2), ([0, 2], ...), pd.Series([0, 2])):
        assert_same(X[rows], X[np.array([0, 2])])
    assert_same(_safe_indexing(X, [0, 2]), X[[0, 2]])
    assert len(X[[]]) == 0
    assert len(X[3]) == 1
    train, test = train_test_split(X, random_state=0)
    assert len(train) + len(test) == len(X)
    with pytest.raises(IndexError):
        X[[9]]
    with pytest.raises(IndexError, match="indexed by row"):
        X["user_id"]


@pytest.mark.parametrize("frame", FRAMES)
def test_frames_there_and_back(X: Impressions, frame: str) -> None:
    table = X.to_frame(frame)
    assert list(table.columns if frame != "pyarrow" else table.column_names) == X.columns
    assert X.shape == (5, len(X.columns))
    back = Impressions.from_frame(table, X.catalog)
    assert_same(X, back)
    assert back.catalog is X.catalog
    np.testing.assert_array_equal(back.user_embedding, X.user_embedding)


@pytest.mark.parametrize("frame", FRAMES)
def test_frames_of_no_rows_and_empty_histories(X: Impressions, frame: str) -> None:
    assert_same(Impressions.from_frame(X[:1].to_frame(frame), X.catalog), X[:1])
    assert len(Impressions.from_frame(X[:0].with_user_embedding(None).to_frame(frame))) == 0


def test_further_columns_are_context(X: Impressions) -> None:
    Z = Impressions.from_frame(X.to_frame("polars"))
    assert list(Z.context) == ["hour", "city"]
    assert Z.context["city"].tolist() == ["Rome", "", "Oslo", "Rome", "Bonn"]
    assert Z.context["hour"].dtype.kind == "i"


def test_histories_without_times_happened_before_their_impression() -> None:
    frame = pd.DataFrame(
        {"user_id": [1, 2], "item_id": [1, 2], "history": [[2], [1, 1]], "timestamp": [5, None]}
    )
    X = Impressions.from_frame(frame)
    assert X.history.time.tolist() == [5.0, np.inf, np.inf]


def test_user_encoder_sees_only_the_rows_that_are_asked_for(X: Impressions) -> None:
    seen = []

    def encoder(Z: Impressions) -> np.ndarray:
        seen.append(len(Z))
        return np.ones((len(Z), 3), dtype=np.float32)

    lazy = X.with_user_encoder(encoder)
    assert lazy[[1, 2]].user_embedding.shape == (2, 3)
    assert seen == [2]
    assert "user_embedding" in lazy.columns
    assert seen == [2]


def test_is_no_array_and_no_iterable(X: Impressions) -> None:
    with pytest.raises(TypeError, match="to_frame"):
        np.asarray(X)
    with pytest.raises(TypeError):
        iter(X)


def test_immutable_and_pickles(X: Impressions, tmp_path) -> None:
    with pytest.raises(AttributeError):
        X.user = X.user[::-1]
    with pytest.raises(TypeError):
        X.catalog.features["text"] = np.eye(3)
    assert_same(pickle.loads(pickle.dumps(X)), X)
    joblib.dump(X, tmp_path / "X.joblib")
    assert_same(joblib.load(tmp_path / "X.joblib", mmap_mode="r"), X)


def test_hash_depends_on_the_content_only(X: Impressions) -> None:
    before = joblib.hash(X)
    X.catalog.codes([1])  # builds the lookup
    assert X.catalog.fingerprint
    assert joblib.hash(X) == before
    assert joblib.hash(pickle.loads(pickle.dumps(X))) == before


def test_lengths_must_agree(X: Impressions) -> None:
    with pytest.raises(ValueError, match="borrowed has 2 rows, but user has 5"):
        X.with_borrowed(Sequences.empty(2))


def test_repr_is_short_and_html_has_titles(X: Impressions) -> None:
    assert len(repr(X)) < 150
    html = X._repr_html_()
    assert "Heat" in html
    assert "borrowed" in html


class TestChecks:
    def test_numeric_frames_are_not_impressions(self) -> None:
        assert as_impressions(pd.DataFrame({"a": [1.0]})) is None
        assert as_impressions(np.zeros((2, 2))) is None
        with pytest.raises(TypeError, match="Thing works on Impressions.*got ndarray"):
            require_impressions(np.zeros((2, 2)), estimator_name="Thing")

    def test_a_dict_is_refused(self) -> None:
        with pytest.raises(TypeError, match="X is a dict.*pandas.DataFrame"):
            as_impressions({"user_id": [1], "item_id": [1], "history": [[]]})

    def test_a_missing_column_is_named(self) -> None:
        with pytest.raises(ValueError, match="X has no column 'item_id'"):
            as_impressions(pd.DataFrame({"user_id": [1], "history": [[]]}))

    @pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
    def test_a_history_that_is_no_list(self, make) -> None:
        frame = make({"user_id": [1], "item_id": ["a"], "history": ["a b c"]})
        with pytest.raises(TypeError, match="'history' of X must hold a list in every row, got"):
            as_impressions(frame)

    def test_a_missing_target(self) -> None:
        frame = pd.DataFrame({"user_id": [1, 2], "item_id": [3, None], "history": [[], []]})
        with pytest.raises(ValueError, match="'item_id' of X holds 1 missing ids"):
            as_impressions(frame)

    def test_feedback_must_match_its_history(self) -> None:
        frame = pd.DataFrame(
            {"user_id": [1], "item_id": [3], "history": [[1, 2]], "history_feedback": [[1]]}
        )
        with pytest.raises(ValueError, match="row 0 has 1 for 2 items"):
            as_impressions(frame)

    @pytest.mark.parametrize(
        ("y", "message"),
        [
            (None, "target y is None"),
            ([1, 1], "only one class: 1.*sample_negatives"),
            ([0, 0], "only one class: 0. Add rows of the other class.$"),
            ([0, 1, 1], "X has 2 rows, y has 3"),
        ],
    )
    def test_targets(self, y, message) -> None:
        with pytest.raises(ValueError, match=message):
            check_target(None if y is None else np.array(y), 2, estimator_name="Thing")

    def test_three_classes(self) -> None:
        with pytest.raises(ValueError, match=r"Only binary.*3 distinct values"):
            check_target(np.array([0, 1, 2]), 3, estimator_name="Thing")


class TestCatalog:
    def test_is_shared_not_copied(self) -> None:
        catalog = ItemCatalog([1, 2])
        assert copy.deepcopy(catalog) is catalog
        assert clone(catalog, safe=False) is catalog
        more = catalog.with_features({"text": np.eye(2)})
        assert more.ids is catalog.ids
        assert not catalog.features

    @pytest.mark.parametrize("ids", [[3, 1, 2], ["b", "a", "c"]])
    def test_codes_are_positions(self, ids) -> None:
        catalog = ItemCatalog(ids)
        assert catalog.codes(ids).tolist() == [0, 1, 2]
        unknown = [99] if isinstance(ids[0], int) else ["zz"]
        assert catalog.codes(unknown).tolist() == [-1]

    def test_from_frame(self) -> None:
        frame = pl.DataFrame(
            {
                "movie": ["a", "b"],
                "title": ["A", "B"],
                "plot": ["once", None],
                "vec": [[1.0, 2.0], None],
            }
        )
        catalog = ItemCatalog.from_frame(
            frame, item="movie", text=["title", "plot"], features={"audio": "vec"}
        )
        assert catalog.content["text"].tolist() == ["A\nonce", "B"]
        assert catalog.titles == ["A", "B"]
        assert catalog.missing["audio"].tolist() == [False, True]

    def test_fingerprint_follows_the_content(self) -> None:
        a, b = (ItemCatalog([1], content={"text": [text]}) for text in ("x", "y"))
        again = ItemCatalog([1], content={"text": ["x"]})
        assert a.fingerprint == again.fingerprint != b.fingerprint

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"ids": [1, 1]}, ValueError, "distinct, but 1 of them repeat"),
            ({"ids": [1, "a"]}, TypeError, "all integers or all strings"),
            ({"ids": [1], "content": {"text": ["a", "b"]}}, ValueError, r"2 entries for 1 items"),
            ({"ids": [1], "content": {"text": "a"}}, TypeError, "must be a sequence"),
            ({"ids": [1], "features": {"t": np.eye(2)}}, ValueError, r"got shape \(2, 2\)"),
            ({"ids": [1], "missing": {"t": [True]}}, ValueError, "features are passed for none"),
        ],
    )
    def test_errors(self, arguments, error, message) -> None:
        with pytest.raises(error, match=message):
            ItemCatalog(**arguments)


def test_features_in_a_file_stay_there(tmp_path):
    np.save(tmp_path / "text.npy", np.ones((3, 4096), dtype=np.float32))
    mapped = np.load(tmp_path / "text.npy", mmap_mode="r")
    catalog = ItemCatalog([1, 2, 3], features={"text": mapped})
    log = pd.DataFrame({"user_id": [1, 1], "item_id": [2, 3]})
    X, _ = Impressions.from_log(log, catalog)
    assert np.shares_memory(X.catalog.features["text"], mapped)
