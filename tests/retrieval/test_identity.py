"""Items are recognised by the content of their catalogue: who the catalogue is costs nothing."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import skmars
from skmars import Impressions, ItemCatalog, SequenceRetrievalAugmenter
from skmars.data import Sequences
from skmars.data._columns import LOOKALIKES
from skmars.retrieval import _embeddings as embeddings

from .worlds import as_tuples, world


def over(X: Impressions, catalog: ItemCatalog) -> Impressions:
    return X.with_user_embedding(X.user_embedding).with_catalog(catalog)


def equal(catalog: ItemCatalog) -> ItemCatalog:
    return ItemCatalog(catalog.ids.copy(), embedding=catalog.embedding.copy())


def turned(catalog: ItemCatalog) -> ItemCatalog:
    return ItemCatalog(catalog.ids[::-1], embedding=catalog.embedding[::-1])


def extended(catalog: ItemCatalog, n: int = 1) -> ItemCatalog:
    for i in range(n):
        catalog = catalog.extend([f"new {i}" if catalog.ids.dtype == object else 10**6 + i])
    return catalog


CATALOGS: dict[str, Callable[[ItemCatalog], ItemCatalog]] = {
    "equal": equal,
    "unpickled": lambda catalog: pickle.loads(pickle.dumps(catalog)),
    "other order": turned,
    "extended": extended,
    "extended often": lambda catalog: extended(catalog, 20),
    "extended in another order": lambda catalog: extended(turned(catalog), 3),
    "ids alone": lambda catalog: ItemCatalog(catalog.ids),
}


@pytest.fixture(scope="module", params=[False, True], ids=["integers", "strings"])
def rows(request: pytest.FixtureRequest) -> Impressions:
    return world(7, n_users=40, n_items=25, n_events=600, width=5, strings=request.param)


@pytest.mark.parametrize("strategy", ["filter", "dp"])
@pytest.mark.parametrize("name", CATALOGS)
def test_catalogues_of_the_same_items_lead_to_the_same(rows, name, strategy):
    augmenter = SequenceRetrievalAugmenter(strategy, relevance="both").fit(rows)
    expected = augmenter.transform(rows)
    assert any(as_tuples(expected))
    other = over(rows, CATALOGS[name](rows.catalog))
    for fitted in (augmenter, augmenter, pickle.loads(pickle.dumps(augmenter))):
        out = fitted.transform(other)
        assert as_tuples(out) == as_tuples(expected)
        for column in LOOKALIKES:
            np.testing.assert_array_equal(out.context[column], expected.context[column])


def test_new_items_of_several_parts_keep_their_own_vectors(rows):
    """A target that fit did not know is compared by the vector that its catalogue has for it."""
    augmenter = SequenceRetrievalAugmenter("most_similar").fit(rows)
    row = int(np.argmax(augmenter.transform(rows).borrowed.length))
    catalog = extended(extended(rows.catalog, 3), 6)  # four parts at least, three items known
    vectors = np.random.default_rng(0).normal(size=(len(catalog), 5)).astype(np.float32)
    vectors[: len(rows.catalog)] = rows.catalog.embedding
    catalog = catalog.with_embedding(vectors)
    assert len(catalog.parts) > 3
    one = over(rows[[row]], catalog)
    center = rows.catalog.embedding.mean(axis=0, dtype=np.float64)
    for target in range(len(rows.catalog), len(catalog)):
        shown = np.array([target], dtype=np.int32)
        out = augmenter.transform(
            Impressions(catalog, one.users, one.user, shown, one.history, one.time)
        )
        a = vectors[target] - center
        b = vectors[out.borrowed.items[out.borrowed.positions()]] - center
        cosine = b @ a / np.linalg.norm(a) / np.linalg.norm(b, axis=1)
        np.testing.assert_allclose(
            out.borrowed.similarity[out.borrowed.positions()], cosine, atol=2e-6
        )


def test_a_known_part_is_looked_up_and_compared_once(rows, monkeypatch):
    augmenter = SequenceRetrievalAugmenter().fit(rows)
    read = []
    original = embeddings.ItemSpace._read
    monkeypatch.setattr(
        embeddings.ItemSpace,
        "_read",
        lambda space, part: read.append(len(part)) or original(space, part),
    )
    catalog = turned(rows.catalog)
    for _ in range(3):
        augmenter.transform(over(rows, catalog))
        augmenter.transform(over(rows, turned(rows.catalog)))
        augmenter.transform(over(rows, extended(catalog, 1)))
        augmenter.transform(over(rows, extended(catalog, 2)))
    assert read == [25, 1, 1]  # the base, and each new item


# --- another space ------------------------------------------------------------------------------


@pytest.mark.parametrize("fit_on", ["embedding", "features"])
def test_each_item_compared_tells_another_space(rows, fit_on):
    """Rows of which a single item is known, and has moved, are refused all the same."""
    X = rows.with_user_embedding(None)
    if fit_on == "features":
        X = X.with_catalog(X.catalog.with_features({"text": X.catalog.embedding}))
    augmenter = SequenceRetrievalAugmenter(item_representation=fit_on).fit(X)
    for item in range(len(X.catalog)):
        moved = X.catalog.embedding.copy()
        moved[item] = -moved[item]
        whole = X.with_catalog(X.catalog.with_embedding(moved))
        one = ItemCatalog(X.catalog.ids[[item]], embedding=moved[[item]])
        row = Impressions(
            one, X.users, X.user[:1], np.zeros(1, np.int32), Sequences.empty(1), X.time[:1]
        )
        if fit_on == "features":
            one = one.with_features({"text": X.catalog.features["text"][[item]]})
            row = row.with_catalog(one)
        for other in (whole, row, row):
            with pytest.raises(ValueError, match=r"1 of \d+ items have changed"):
                augmenter.transform(other)


def test_other_features_are_noticed_where_they_stand_for_items(rows):
    X = rows.with_catalog(rows.catalog.with_features({"text": rows.catalog.embedding}))
    augmenter = SequenceRetrievalAugmenter().fit(X)
    scaled = X.with_catalog(X.catalog.with_features({"text": 3 * X.catalog.embedding}))
    assert as_tuples(augmenter.transform(scaled)) == as_tuples(augmenter.transform(X))
    turned_round = X.with_catalog(X.catalog.with_features({"text": -X.catalog.embedding}))
    with pytest.raises(ValueError, match="items have changed"):
        augmenter.transform(turned_round)
    wider = X.with_catalog(X.catalog.with_features({"image": X.catalog.embedding}))
    with pytest.raises(ValueError, match="have 10 columns, those of fit had 5"):
        augmenter.transform(wider)


# --- few hops -------------------------------------------------------------------------------------


def files_walked(call: Callable[[], object]) -> set[str]:
    """Return the files of skmars in which a call enters a function."""
    root = str(Path(skmars.__file__).parent)
    files = set()

    def profile(frame, event, arg):
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(root):
            files.add(name[len(root) + 1 :])

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return files


def test_who_follows_one_call_walks_through_few_files(rows):
    augmenter = SequenceRetrievalAugmenter().fit(rows)
    augmenter.transform(rows)
    files = files_walked(lambda: augmenter.transform(rows))
    assert len([name for name in files if name.startswith("retrieval")]) <= 9
