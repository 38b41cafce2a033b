"""What `explain` says about a fitted pipeline, in tables and in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from skmars import (
    DINClassifier,
    Impressions,
    ItemCatalog,
    SequenceRetrievalAugmenter,
    explain,
    make_mars,
    make_multimodal_ctr,
)

pd = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def shop() -> tuple[Impressions, Any]:
    return make_multimodal_ctr(n_users=80, n_items=60, history="all", random_state=0)


@pytest.fixture(scope="module")
def mars(shop: tuple[Impressions, Any]) -> Pipeline:
    quick = {"align__max_iter": 1, "ctr__max_iter": 1, "align__n_components": 16}
    return make_mars(random_state=0, **quick).fit(*shop)


def small_shop(times: Any) -> tuple[Impressions, Pipeline]:
    """Ann has one item, bob three; items 1 and 2 are alike, 3 is another."""
    log = pd.DataFrame(
        {
            "user_id": ["bob", "bob", "bob", "ann", "ann"],
            "item_id": [1, 2, 3, 1, 2],
            "timestamp": times,
        }
    )
    vectors = np.array([[1, 0.1], [1, 0], [0, 1]])
    titles = {"title": ["<Doll>", "Bear", "Kite"]}
    catalog = ItemCatalog([1, 2, 3], content=titles, features={"text": vectors})
    X, _ = Impressions.from_log(log, catalog)
    return X, Pipeline([("augment", SequenceRetrievalAugmenter().fit(X.latest()))])


def test_sentences_tell_what_was_borrowed_from_whom() -> None:
    days = pd.to_datetime([f"2024-05-0{day} 10:00" for day in (1, 2, 3, 4, 5)])
    X, pipeline = small_shop(days)
    why = explain(pipeline, X[[4, 0, 2]], frame="pandas")
    borrowing, first, second = why.sentences
    assert borrowing == [
        "Row 0: user ann is shown 'Bear' (item 2), 2024-05-05 10:00:00 UTC.",
        "The history has 1 item, which is low-active (rows are low-active up to 2.3 items, users "
        "high-active from 2.7).",
        "Borrowed: 2 items of 1 donor.",
        "  Of bob (similarity 0.00): 'Bear' (1.00), '<Doll>' (0.99).",
        "'Bear' was touched by 1 of 2 users; weighed by how like this user they are, that counts "
        "for 1.0.",
    ]
    assert first[2] == (
        "Nothing is borrowed, because its history is empty, so that it can't be compared with "
        "donors."
    )
    assert second[2] == "Nothing is borrowed, because the only donor is its own user."
    assert "None of 0 users touched '<Doll>' before." in first
    augmenter = pipeline[-1].with_pool(replace(pipeline[-1].pool_, low_threshold=1.0))
    pipeline = make_pipeline(augmenter)
    (alone,) = explain(pipeline, X[4:], frame="pandas").sentences
    assert "(rows are low-active up to 1 item, users high-active from 2.7)" in alone[1]
    assert str(why) == repr(why)
    assert "&#x27;&lt;Doll&gt;&#x27;" in why._repr_html_()
    assert why.borrowed["timestamp"].tolist() == [days[0], days[1]]
    assert why.rows["timestamp"].tolist() == [days[4], days[0], days[2]]


def test_times_that_are_no_dates_stay_numbers() -> None:
    X, pipeline = small_shop([1, 2, 3, 4, 5])
    why = explain(pipeline, X[[4]], frame="pandas")
    assert "(item 2), at 5." in str(why)
    assert why.borrowed["timestamp"].tolist() == [1, 2]


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_times_stand_in_the_zone_that_they_came_in(kind) -> None:
    pytest.importorskip(kind)
    berlin = pd.to_datetime([f"2024-05-0{day} 10:00" for day in (1, 2, 3, 4, 5)])
    X, pipeline = small_shop(berlin.tz_localize("Europe/Berlin"))
    why = explain(pipeline, X[[4]], frame=kind)
    assert "2024-05-05 10:00:00 Europe/Berlin" in str(why)
    for table in (why.rows, why.borrowed):
        times = table["timestamp"]
        values = times.to_pylist() if kind == "pyarrow" else times.to_list()
        assert {str(time)[-15:] for time in values} == {" 10:00:00+02:00"}


def test_an_offset_without_a_name_becomes_utc() -> None:
    times = pd.to_datetime([f"2024-05-0{day} 10:00+03:00" for day in (1, 2, 3, 4, 5)])
    X, pipeline = small_shop(times)
    assert "2024-05-05 07:00:00 UTC" in str(explain(pipeline, X[[4]]))


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_tables_are_of_the_kind_that_is_asked_for(shop, mars, kind) -> None:
    pytest.importorskip(kind)
    X, _ = shop
    why = explain(mars, X[:40], frame=kind)
    assert type(why.rows).__module__.startswith(kind)
    assert len(why.rows) == 40
    assert "... and 30 more rows" in str(why)
    expected = explain(mars, X[:40], frame="pandas")
    for name in expected.rows:
        values = why.rows[name].to_pylist() if kind == "pyarrow" else why.rows[name].to_list()
        for found, other in zip(values, expected.rows[name].tolist()):
            same = found == other or (found != found and other != other)
            assert same, (name, found, other)


def test_it_says_what_the_pipeline_does(shop, mars) -> None:
    X, _ = shop
    why = explain(mars, X, frame="pandas")
    np.testing.assert_array_equal(why.rows["probability"], mars.predict_proba(X)[:, 1])
    augmented = mars[:-1].transform(X)
    np.testing.assert_array_equal(why.rows["n_borrowed"], augmented.borrowed.length)
    assert (why.rows["n_borrowed"].to_numpy() > 0).tolist() == (why.rows["reason"] == "").tolist()
    pd.testing.assert_frame_equal(
        why.borrowed, mars["augment"].explain(mars[:-2].transform(X), frame="pandas")
    )
    assert "liked it" in str(why)


def test_steps_may_be_nested_and_the_last_one_anything(shop, mars) -> None:
    X, _ = shop
    expected = explain(mars, X[:5], frame="pandas")
    nested = make_pipeline(make_pipeline(mars["encode"], mars["align"]), mars["augment"])
    rows = explain(nested, X[:5], frame="pandas").rows
    pd.testing.assert_frame_equal(rows, expected.rows.drop(columns="probability"))
    search = type("Search", (), {"best_estimator_": mars})()
    assert len(explain(search, X[:5]).rows) == 5


def test_a_model_without_an_augmenter_is_refused(shop) -> None:
    X, y = shop
    din = DINClassifier(max_iter=1, random_state=0).fit(X, y)
    for model in (din, make_pipeline(din), LogisticRegression(), None):
        with pytest.raises(ValueError, match="model has no SequenceRetrievalAugmenter"):
            explain(model, X)
    with pytest.raises(TypeError, match="explain works on Impressions"):
        explain(make_mars(), np.ones((2, 2)))


@pytest.mark.filterwarnings("ignore:DINClassifier is trained on")
def test_it_says_when_the_classifier_ignores_what_was_borrowed(shop, mars) -> None:
    X, y = shop
    rows = mars[:-1].transform(X)
    for used, seen in ((True, rows), (False, rows.with_borrowed(None))):
        classifier = DINClassifier(max_iter=1, borrowed="separate", random_state=0).fit(seen, y)
        assert classifier.uses_borrowed_ == used
        told = str(explain(Pipeline([("before", mars[:-1]), ("ctr", classifier)]), X[:10]))
        assert "Borrowed: " in told
        assert ("ignores borrowed items" in told) != used
