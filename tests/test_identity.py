"""A catalogue is what it holds: which object it is, and how it came about, changes nothing."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.pipeline import Pipeline

from skmars import (
    DINClassifier,
    Impressions,
    ItemCatalog,
    MultimodalEncoder,
    make_mars,
    make_multimodal_ctr,
)
from skmars.alignment._encoder import AlignmentEncoder
from skmars.data._catalog import MAX_PARTS
from skmars.data._memo import Memo

UNKNOWN = 10**9


@pytest.fixture(scope="module")
def data() -> tuple[Impressions, np.ndarray]:
    return make_multimodal_ctr(n_users=80, n_items=50, random_state=0)


@pytest.fixture(scope="module")
def model(data) -> Pipeline:
    small = {"align__n_components": 8, "align__id_dim": 8, "align__max_iter": 1}
    return make_mars(random_state=0, **small, ctr__max_iter=2).fit(*data)


def copied(catalog: ItemCatalog) -> ItemCatalog:
    """An equal catalogue that shares nothing."""
    return ItemCatalog(
        catalog.ids.copy(),
        content={
            k: [v.copy() if isinstance(v, np.ndarray) else v for v in column]
            for k, column in catalog.content.items()
        },
    )


@pytest.mark.parametrize("form", ["equal", "unpickled", "extended", "reordered", "pandas", "bytes"])
def test_the_same_predictions_whichever_object_it_is(data, model, form) -> None:
    X, _ = data
    expected = model.predict_proba(X)
    frame = X.to_frame("pandas")
    other = {
        "equal": lambda: X.with_catalog(copied(X.catalog)),
        "unpickled": lambda: pickle.loads(pickle.dumps(X)),
        "extended": lambda: X.with_catalog(X.catalog.extend([UNKNOWN])),
        "reordered": lambda: X.with_catalog(reordered(X.catalog)),
        "pandas": lambda: frame,
        "bytes": lambda: Impressions.from_frame(frame, copied(X.catalog)),
    }[form]()
    np.testing.assert_allclose(model.predict_proba(other), expected, atol=2e-6)


def test_attributes_are_known_at_the_door(data) -> None:
    """A pipeline reads a table without a catalogue: the encoder knows the items' attributes."""
    X, y = data
    rng = np.random.default_rng(0)
    attributes = {
        "price": rng.lognormal(size=len(X.catalog)),
        "tags": [["a", "b"][: i % 3] for i in range(len(X.catalog))],
    }
    users = pd.DataFrame({"user_id": X.users, "age": rng.integers(0, 90, len(X.users))})
    X = X.with_catalog(X.catalog.with_attributes(attributes)).with_users(users)
    steps = [("encode", MultimodalEncoder()), ("ctr", DINClassifier(max_iter=2, random_state=0))]
    model = Pipeline(steps).fit(X, y)
    expected = model.predict_proba(X)
    assert np.array_equal(model.predict_proba(X.to_frame("polars")), expected)
    again = pickle.loads(pickle.dumps(model))
    new = X.with_catalog(X.catalog.extend([UNKNOWN]))
    assert np.array_equal(again.predict_proba(new), expected)
    unknown = X[:2].to_frame("pandas").assign(item_id=UNKNOWN, **{"user.age": None})
    assert np.isfinite(again.predict_proba(unknown)).all()


def reordered(catalog: ItemCatalog) -> ItemCatalog:
    order = np.arange(len(catalog))[::-1]
    content = {k: [column[i] for i in order] for k, column in catalog.content.items()}
    return ItemCatalog(catalog.ids[order], content=content)


def test_an_unknown_item_is_the_same_from_everywhere(data, model) -> None:
    X, _ = data
    frame = X[:5].to_frame("pandas").assign(item_id=UNKNOWN)
    expected = model.predict_proba(frame)
    for catalog in (X.catalog, copied(X.catalog), X.catalog.extend([7 * UNKNOWN, UNKNOWN])):
        rows = Impressions.from_frame(frame, catalog)
        np.testing.assert_allclose(model.predict_proba(rows), expected, atol=2e-6)
    # Its row is one of many, and nothing changes for the others.
    together = Impressions.from_frame(frame, X.catalog)
    np.testing.assert_allclose(model.predict_proba(together[[3]]), expected[[3]], atol=2e-6)


@pytest.fixture
def n_embedded(monkeypatch) -> list[int]:
    """How many items the aligner embeds, call by call."""
    calls: list[int] = []
    embed = AlignmentEncoder._embed_part

    def counted(self: AlignmentEncoder, part: ItemCatalog) -> ItemCatalog:
        calls.append(len(part))
        return embed(self, part)

    monkeypatch.setattr(AlignmentEncoder, "_embed_part", counted)
    return calls


def test_what_is_known_costs_nothing_and_what_is_new_costs_itself(data, model, n_embedded) -> None:
    X, _ = data
    again = pickle.loads(pickle.dumps(model))
    again.predict_proba(X[:1])
    assert n_embedded == [len(X.catalog)]  # once in a new process
    again.predict_proba(X[:1].with_catalog(copied(X.catalog)))
    again.predict_proba(pickle.loads(pickle.dumps(X[:1])))
    again.predict_proba(X[:1].to_frame("pandas"))
    assert n_embedded == [len(X.catalog)]
    again.predict_proba(X[:1].with_catalog(X.catalog.extend([UNKNOWN, UNKNOWN + 1])))
    assert n_embedded == [len(X.catalog), 2]


def test_an_extension_shares_what_it_extends() -> None:
    features = np.arange(6.0, dtype=np.float32).reshape(3, 2)
    base = ItemCatalog([5, 6, 7], content={"text": list("abc")}, features={"text": features})
    base = base.with_embedding(features)
    whole = base
    for new in range(100, 100 + 2 * MAX_PARTS):
        whole = whole.extend([new, 6])
        assert whole.parts[0] is base
        assert len(whole.parts) <= MAX_PARTS
    assert len(whole) == 3 + 2 * MAX_PARTS
    codes = whole.codes([7, 103, 5, 99, 100 + 2 * MAX_PARTS - 1])
    assert codes.tolist() == [2, 6, 0, -1, len(whole) - 1]
    assert whole.ids[codes[[0, 1, 4]]].tolist() == [7, 103, 100 + 2 * MAX_PARTS - 1]
    assert whole.continues(base)
    assert not base.continues(whole)
    np.testing.assert_array_equal(whole.take_features("text", codes[[1, 0]]), [[0, 0], [4, 5]])
    np.testing.assert_array_equal(whole.take_embedding(codes[[1, 0]]), [[0, 0], [4, 5]])
    assert whole.take_missing("text", codes[[1, 0]]).tolist() == [True, False]
    np.testing.assert_array_equal(whole.features["text"][:3], features)
    assert whole.missing["text"].tolist() == [False] * 3 + [True] * (len(whole) - 3)
    assert whole.content["text"][:4].tolist() == ["a", "b", "c", None]
    assert [whole.title(2), whole.title(3)] == ["c", "100"]
    assert pickle.loads(pickle.dumps(whole)).fingerprint == whole.fingerprint


def test_what_is_added_to_an_extension_goes_to_its_parts() -> None:
    base = ItemCatalog([1, 2], features={"text": np.eye(2)})
    both = base.extend([3]).with_features({"audio": np.arange(3.0)[:, None]})
    assert [part.features["audio"].ravel().tolist() for part in both.parts] == [[0, 1], [2]]
    assert both.parts[0].features["text"] is base.features["text"]
    folds = [base.extend([3]).with_features({"text": k * np.ones((3, 2))}) for k in (1, 2)]
    seen = both.with_folds(folds)
    assert seen.in_fold(1).features["text"].tolist() == [[2, 2]] * 3
    assert seen.extend([4]).in_fold(0).features["text"].tolist() == [[1, 1]] * 3 + [[0, 0]]


VALUES = st.one_of(st.none(), st.text(max_size=5), st.binary(max_size=5))


@given(
    st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1, max_size=4, unique=True),
    st.data(),
)
@settings(max_examples=60, deadline=None)
def test_equal_content_equal_fingerprint_and_any_change_another(ids, data) -> None:
    if min(ids) < 0:
        ids = [i for i in ids if i < 2**63]
    n = len(ids)
    content = {"text": data.draw(st.lists(VALUES, min_size=n, max_size=n))}
    features = np.round(np.random.default_rng(n).normal(size=(n, 2)), 3)

    def built(ids=ids, content=content, features=features, missing=np.zeros(n, dtype=bool)):  # noqa: B008
        return ItemCatalog(
            ids, content=content, features={"text": features}, missing={"text": missing}
        )

    one = built()
    assert built(list(ids), dict(content), features.copy()).fingerprint == one.fingerprint
    assert pickle.loads(pickle.dumps(one)).fingerprint == one.fingerprint
    column = [*content["text"][:-1], "something else"]
    other = [
        built(ids=[*ids[:-1], 12345 if 12345 not in ids else 54321]),
        built(content={"text": column}),
        built(content={"plot": content["text"]}),
        built(features=features + 1e-3),
        built(missing=np.ones(n, dtype=bool)),
        one.with_embedding(features),
        one.with_folds([one]),
        one.extend([777]),
    ]
    marks = [one.fingerprint, *(each.fingerprint for each in other)]
    assert len(set(marks)) == len(marks)


def test_the_fingerprint_is_the_same_in_another_process(data) -> None:
    catalog = ItemCatalog(["a", "b"], content={"text": ["x", None], "raw": [{"k": 1}, b"y"]})
    script = (
        "from skmars import ItemCatalog\n"
        "c = ItemCatalog(['a', 'b'], content={'text': ['x', None], 'raw': [{'k': 1}, b'y']})\n"
        "print(c.fingerprint)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == catalog.fingerprint


def test_later_changes_of_the_callers_arrays_change_nothing() -> None:
    ids, features, missing = np.array([1, 2]), np.eye(2, dtype=np.float32), np.zeros(2, dtype=bool)
    picture, texts = np.zeros((2, 2), dtype=np.uint8), np.array(["a", "b"], dtype=object)
    embedding = np.ones((2, 3), dtype=np.float32)
    catalog = ItemCatalog(
        ids,
        content={"text": texts, "image": [picture, None]},
        features={"text": features},
        missing={"text": missing},
        embedding=embedding,
    )
    view = features[:]
    view.flags.writeable = False
    derived = catalog.with_features({"audio": view})
    ids[0], features[:], missing[:], embedding[:], texts[0], picture[:] = 9, 9, True, 9, "z", 9
    assert catalog.ids.tolist() == [1, 2]
    assert (
        catalog.features["text"].tolist()
        == derived.features["audio"].tolist()
        == np.eye(2).tolist()
    )
    assert not catalog.missing["text"].any()
    assert catalog.embedding.tolist() == np.ones((2, 3)).tolist()
    assert catalog.content["text"].tolist() == ["a", "b"]
    assert not catalog.content["image"][0].any()
    for array in (catalog.ids, catalog.features["text"], catalog.missing["text"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 3


def test_a_memo_forgets_the_oldest_and_copies_begin_empty() -> None:
    parts = [ItemCatalog([i]) for i in range(3)]
    made: list[int] = []

    def make(part: ItemCatalog) -> int:
        made.append(int(part.ids[0]))
        return made[-1]

    memo: Memo[int] = Memo(size=2)
    for i in (0, 1, 0, 2, 0, 1):
        assert memo.get(ItemCatalog([i]), make) == i
    assert made == [0, 1, 2, 1]
    assert pickle.loads(pickle.dumps(memo)).get(parts[0], make) == 0
    assert made == [0, 1, 2, 1, 0]


def test_a_fold_of_other_items_or_of_none_is_refused() -> None:
    catalog = ItemCatalog([1, 2, 3], features={"text": np.eye(3)})
    for other in (ItemCatalog([3, 2, 1]), ItemCatalog([1, 2]), catalog.extend([4])):
        with pytest.raises(ValueError, match="fold 0 must have the items of this one"):
            catalog.with_folds([other])
    for folds in (None, catalog, [1]):
        with pytest.raises(TypeError, match="catalog"):
            catalog.with_folds(folds)
    X, _ = Impressions.from_log(pd.DataFrame({"user_id": [1, 2], "item_id": [1, 2]}), catalog)
    X = X.with_catalog(catalog.with_folds([catalog, catalog]))
    assert X.with_fold(np.array([1, -1], dtype=np.int8)).fold.tolist() == [1, -1]
    with pytest.raises(ValueError, match="fold holds 7, but the catalogue has 2 folds"):
        X.with_fold(np.array([7, 0], dtype=np.int8))


def test_the_title_of_no_item() -> None:
    catalog = ItemCatalog([1, 2]).extend([3])
    assert catalog.titles == ["1", "2", "3"]
    for code in (-1, 3):
        with pytest.raises(IndexError, match=f"between 0 and 2, got {code}"):
            catalog.title(code)


def test_masked_numbers_are_missing_numbers() -> None:
    masked = np.ma.array([[1, 2], [3, 4]], mask=[[0, 0], [0, 1]])
    features = ItemCatalog([1, 2], features={"text": masked}).features["text"]
    np.testing.assert_array_equal(features, [[1, 2], [3, np.nan]])


def test_vectors_without_a_number_are_refused() -> None:
    with pytest.raises(ValueError, match=r"features\['text'\] must have at least one column"):
        ItemCatalog([1, 2], features={"text": np.zeros((2, 0))})
    with pytest.raises(ValueError, match="embedding must have at least one column"):
        ItemCatalog([1, 2]).with_embedding(np.zeros((2, 0)))
