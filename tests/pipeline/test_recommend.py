"""The best items of each user, against a ranking of all items in plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline

from skmars import (
    DINClassifier,
    Impressions,
    ItemCatalog,
    make_mars,
    make_multimodal_ctr,
    recommend,
)
from skmars.pipeline import _recommend

pd = pytest.importorskip("pandas")


class Table:
    """A classifier that looks the probability up, by the history's length and the item's id."""

    def __init__(self, probability: Any) -> None:
        self.probability = np.asarray(probability, dtype=float)
        self.most_rows = 0

    def predict_proba(self, X: Impressions) -> Any:
        self.most_rows = max(self.most_rows, len(X))
        p = self.probability[X.history.length % len(self.probability), X.item_ids]
        return np.column_stack([1 - p, p])


def best(model: Any, X: Impressions, n: int, items: Any, exclude_seen: bool) -> list[tuple]:
    """Rank the items of each row, one prediction at a time."""
    order = X.catalog.ids.tolist()
    lines = []
    for i in range(len(X)):
        seen = X.catalog.ids[X.history.row(i)].tolist() if exclude_seen else []
        mine = sorted({item for item in items[i] if item not in seen}, key=order.index)
        p = [float(model.predict_proba(X[[i]].cross([item]))[0, 1]) for item in mine]
        ranked = sorted(range(len(mine)), key=lambda j: -round(math.log(p[j] / (1 - p[j])), 5))
        for rank, j in enumerate(ranked[:n]):
            lines.append((i, X.user_ids[i], rank + 1, mine[j], p[j]))
    return lines


def lines(top: Any) -> list[tuple]:
    names = ["row", "user_id", "rank", "item_id", "probability"]
    return list(zip(*(top[name].tolist() for name in names)))


CATALOG = ItemCatalog([4, 2, 0, 1, 3], content={"title": ["four", "two", "zero", "one", None]})
chances = st.lists(
    st.lists(st.sampled_from([0.1, 0.3, 0.3000001, 0.5, 0.9]), min_size=5, max_size=5),
    min_size=1,
    max_size=3,
)
ids = st.lists(st.integers(0, 4), max_size=4)


@given(
    st.lists(ids, min_size=1, max_size=5),
    chances,
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from(["all", "same", "each"]),
    st.integers(1, 7),
    st.data(),
)
def test_it_is_the_ranking_of_all_candidates(histories, p, n, unseen, kind, block, data) -> None:
    frame = pd.DataFrame({"user_id": [5 * i for i in range(len(histories))], "item_id": 0})
    X = Impressions.from_frame(frame.assign(history=histories), CATALOG)
    candidates: Any = None
    items = [CATALOG.ids.tolist()] * len(X)
    if kind == "same":
        candidates = data.draw(ids)
        items = [candidates] * len(X)
    if kind == "each":
        candidates = items = [data.draw(ids) for _ in range(len(X))]
    model = Table(p)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_recommend, "BLOCK_ROWS", block)
        top = recommend(model, X, n, candidates=candidates, exclude_seen=unseen, frame="pandas")
    assert model.most_rows <= block
    assert lines(top) == best(model, X, n, items, unseen)
    assert top["title"].tolist() == [
        {4: "four", 2: "two", 0: "zero", 1: "one", 3: "3"}[i] for i in top["item_id"]
    ]


@pytest.fixture(scope="module")
def shop() -> tuple[Impressions, Any]:
    return make_multimodal_ctr(n_users=80, n_items=60, random_state=0)


@pytest.fixture(scope="module")
def mars(shop: tuple[Impressions, Any]) -> Any:
    quick = {"align__max_iter": 1, "ctr__max_iter": 2, "align__n_components": 16}
    return make_mars(random_state=0, **quick).fit(*shop)


def test_probabilities_are_those_of_the_pipeline(shop, mars, monkeypatch) -> None:
    now = shop[0].latest()[:4]
    top = recommend(mars, now, n=5, frame="pandas")
    assert top["rank"].tolist() == [1, 2, 3, 4, 5] * 4
    same = now.cross([rows["item_id"] for _, rows in top.groupby("row")])
    np.testing.assert_allclose(top["probability"], mars.predict_proba(same)[:, 1], atol=1e-6)
    expected = best(mars, now, 5, [now.catalog.ids.tolist()] * 4, exclude_seen=True)
    assert lines(top[["row", "user_id", "rank", "item_id", "probability"]])[:5] == [
        (*line[:4], pytest.approx(line[4], abs=1e-6)) for line in expected[:5]
    ]
    assert top["item_id"].tolist() == [line[3] for line in expected]

    monkeypatch.setattr(_recommend, "BLOCK_ROWS", 17)
    again = recommend(mars, now, n=5, frame="pandas")
    assert again["item_id"].tolist() == top["item_id"].tolist()
    np.testing.assert_allclose(again["probability"], top["probability"], atol=1e-6)


def test_donors_are_searched_once_a_user(shop, mars, monkeypatch) -> None:
    """However many items are ranked: the search depends on the history alone."""
    from skmars.retrieval import _augmenter

    searched = []
    find = _augmenter.find_donors

    def counted(plan: Any, block: range, vectors: Any) -> Any:
        searched.append(len(block))
        return find(plan, block, vectors)

    monkeypatch.setattr(_augmenter, "find_donors", counted)
    recommend(mars, shop[0].latest()[:3], n=5)
    assert sum(searched) == 3


def test_a_classifier_without_a_catalogue_takes_tables(shop) -> None:
    X, y = shop
    frame = X.to_frame("pandas")[["user_id", "item_id", "history"]]
    din = DINClassifier(max_iter=1, random_state=0).fit(frame, y)
    rows = frame.tail(2)
    with pytest.raises(ValueError, match="X is a table, which has no catalogue.*candidates="):
        recommend(din, rows)
    top = recommend(din, rows, n=2, candidates=[1, 2, 3], exclude_seen=False, frame="polars")
    assert top["item_id"].is_in([1, 2, 3]).all()
    assert top["title"].to_list() == [str(i) for i in top["item_id"]]
    each = recommend(din, rows, n=2, candidates=[[1], [2, 3]], exclude_seen=False, frame="pyarrow")
    assert each.column("row").to_pylist() == [0, 1, 1]


def test_no_row_and_no_candidate_give_no_line(shop) -> None:
    X, _ = shop
    model = Table(np.full((1, 60), 0.5))
    for top in (
        recommend(model, X[:0], frame="pandas"),
        recommend(model, X[:2], candidates=[], frame="pandas"),
        recommend(model, X[:2], candidates=[[], []], frame="pandas"),
    ):
        assert len(top) == 0
        assert list(top.columns) == ["row", "user_id", "rank", "item_id", "title", "probability"]


def test_mistakes_are_named(shop, mars) -> None:
    now = shop[0].latest()[:2]
    for n in (0, -1, 1.5, True, None):
        with pytest.raises(ValueError, match="'n' parameter of recommend"):
            recommend(mars, now, n=n)
    with pytest.raises(ValueError, match="catalogue of X lacks 999 .1 unknown id in candidates"):
        recommend(mars, now, candidates=[1, 999])
    with pytest.raises(ValueError, match="candidates has 1 lists of items for 2 rows"):
        recommend(mars, now, candidates=[[1]])
    with pytest.raises(TypeError, match="recommend works on Impressions"):
        recommend(mars, np.ones((3, 2)))
    with pytest.raises(ValueError, match="frame must be one of"):
        recommend(mars, now, n=1, frame="numpy")
    with pytest.raises(ValueError, match="made for the present ones.*whole pipeline"):
        recommend(mars[-1], mars[:-1].transform(now))
    with pytest.raises(TypeError, match="model must predict probabilities"):
        recommend(make_pipeline("passthrough"), now)
    three = type("Three", (), {"predict_proba": lambda self, X: np.ones((len(X), 3)) / 3})()
    with pytest.raises(ValueError, match="probabilities of two classes"):
        recommend(three, now)


def test_the_first_stage_takes_what_lookalikes_touched_and_what_is_near(shop, mars) -> None:
    """Half and half, in plain loops."""
    X, _ = shop
    k, now = 8, X.latest()[:20]
    prepared = mars[:-2].transform(now)
    augmenter = mars["augment"]
    donors, units = augmenter.donor_history_, augmenter.pool_.items.units
    feats = np.array([unit / (np.linalg.norm(unit) or 1) for unit in units.astype(float)])
    rows, own = augmenter._fitted_rows(prepared)
    plan = augmenter._plan(rows, own, augmenter.pool_, everybody=True, n_neighbors=10)
    found = list(_recommend.likely_items(plan, k, True))
    from skmars.retrieval._neighbors import find_donors

    like = find_donors(plan, range(len(plan.first_row)))
    search = dict(zip(plan.row.tolist(), plan.search.tolist()))
    longest = {u: X.history.row(i).tolist() for i, u in enumerate(X.user)}  # the last of each
    popular = [sum(item in history for history in longest.values()) for item in range(60)]
    for i in range(20):
        mine = now.history.row(i).tolist()
        touched, near = [0.0] * 60, [0.0] * 60
        pairs = zip(like.donor[search[i]], like.similarity[search[i]])
        for donor, similarity in pairs:
            for item in set(donors.row(donor).tolist()) if donor >= 0 else ():
                touched[item] += np.exp((similarity - like.similarity[search[i], 0]) / 0.1)
        if mine:
            mean = np.mean([feats[item] for item in mine], axis=0)
            near = (feats @ mean / np.linalg.norm(mean)).tolist()

        def best(score: list[float], n: int, without: Any) -> list[float]:
            keys = [round(score[j], 6) + 1e-9 * popular[j] for j in range(60) if j not in without]
            return sorted(keys, reverse=True)[:n]

        codes = found[i].tolist()
        assert len(set(codes)) == k
        assert not set(codes) & set(mine)
        # Equals may stand for one another: the scores of both halves are the best ones.
        first = sorted(codes, key=lambda j: -round(touched[j], 6) - 1e-9 * popular[j])[: k // 2]
        rest = [code for code in codes if code not in first]
        for half, score, without in ((first, touched, mine), (rest, near, mine + first)):
            keys = sorted((round(score[j], 6) + 1e-9 * popular[j] for j in half), reverse=True)
            assert keys == pytest.approx(best(score, k // 2, without), abs=2e-6)


def test_two_stages_rank_a_part_as_one_stage_ranks_all(shop, mars) -> None:
    now = shop[0].latest()[:6]
    whole = recommend(mars, now, n=60, frame="pandas")
    two = recommend(mars, now, n=5, candidates=30, frame="pandas")
    place = {(r, i): k for k, (r, i) in enumerate(zip(whole["row"], whole["item_id"]))}
    for _, rows in two.groupby("row"):
        places = [place[pair] for pair in zip(rows["row"], rows["item_id"])]
        assert places == sorted(places)
    everything = recommend(mars, now, n=60, candidates=60, frame="pandas")
    assert everything["item_id"].tolist() == whole["item_id"].tolist()


def test_two_stages_need_an_augmenter(shop) -> None:
    X, y = shop
    din = DINClassifier(max_iter=1, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="candidates=9 .*has no SequenceRetrievalAugmenter"):
        recommend(din, X.latest(), candidates=9)
    with pytest.raises(ValueError, match="'candidates' parameter of recommend"):
        recommend(din, X.latest(), candidates=0)
