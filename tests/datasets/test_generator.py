"""Generated impressions: the planted truth is there, can be found, and is worth finding."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize

from skmars import Impressions, leave_last_out, make_multimodal_ctr
from skmars.datasets import _generator
from skmars.datasets._content import vocabulary

SEEDS = range(5)


@pytest.fixture(scope="module")
def data():
    return {s: make_multimodal_ctr(random_state=s, return_truth=True) for s in SEEDS}


def same(a, b):
    """Whether two catalogues and impressions are equal, down to the pixels."""
    flat = [(X.user, X.target, X.time, *vars(X.history).values()) for X in (a, b)]
    return a.catalog.fingerprint == b.catalog.fingerprint and all(
        (x is None and y is None) or np.array_equal(x, y) for x, y in zip(*flat)
    )


@pytest.mark.parametrize("history", ["positive", "all"])
def test_is_what_from_log_makes_of_the_same_events(history):
    X, y = make_multimodal_ctr(80, 50, history=history, random_state=0)
    events = {"user_id": X.user_ids, "item_id": X.item_ids, "timestamp": X.time, "liked": y}
    log = pd.DataFrame(events)
    expected, label = Impressions.from_log(log, X.catalog, label="liked", history=history)
    assert same(X, expected)
    np.testing.assert_array_equal(y, label)
    assert y.dtype == label.dtype
    assert (X.history.feedback is None) == (history == "positive")


def test_no_two_events_of_a_user_have_the_same_second(monkeypatch):
    monkeypatch.setattr(_generator, "N_SECONDS", 5)  # far fewer than a user has events
    test_is_what_from_log_makes_of_the_same_events("all")
    X, _ = make_multimodal_ctr(20, 50, random_state=0)
    assert pd.DataFrame({"user": X.user, "time": X.time}).duplicated().sum() == 0


def test_is_repeatable_and_depends_on_the_seed():
    (X, y), (again, clicks) = (make_multimodal_ctr(60, 40, random_state=3) for _ in range(2))
    assert same(X, again)
    np.testing.assert_array_equal(y, clicks)
    other, _ = make_multimodal_ctr(60, 40, random_state=4)
    assert not same(X, other)


def test_truth_is_aligned(data):
    for X, y, truth in data.values():
        assert truth.group.shape == X.users.shape
        assert truth.click_probability.shape == y.shape
        assert truth.item_factors.shape == (len(X.catalog), 32)
        np.testing.assert_allclose(truth.item_factors.sum(axis=1), 1)
        # Clicks are draws of their probabilities.
        edges = np.quantile(truth.click_probability, np.linspace(0, 1, 11))
        bins = np.clip(np.searchsorted(edges, truth.click_probability) - 1, 0, 9)
        expected = np.bincount(bins, weights=truth.click_probability)
        variance = np.bincount(bins, truth.click_probability * (1 - truth.click_probability))
        z = (np.bincount(bins, weights=y) - expected) / np.sqrt(variance)
        assert np.abs(z).max() < 4
        assert roc_auc_score(y, truth.click_probability) > 0.9


def test_users_of_a_group_share_their_taste(data):
    _, _, truth = data[0]
    taste = normalize(truth.user_taste - truth.user_taste.mean(axis=0))
    similarity = taste @ taste.T
    same_group = truth.group[:, None] == truth.group
    np.fill_diagonal(similarity, np.nan)
    assert np.nanmin(np.where(same_group, similarity, np.nan)) > np.nanmax(
        np.where(same_group, np.nan, similarity)
    )
    assert chisquare(np.bincount(truth.group)).pvalue > 0.99  # equally large
    liked = truth.group_taste > 0
    assert (liked.sum(axis=1) == 4).all()
    assert (liked.sum(axis=0) == 1).all()


def test_activity_has_a_long_tail(data):
    lengths = np.concatenate([np.bincount(X.user) for X, _, _ in data.values()])
    assert lengths.min() == 2
    assert 0.35 < (lengths <= 5).mean() < 0.5
    assert (lengths > 60).mean() > 0.03
    assert lengths.mean() == pytest.approx(18, abs=2)
    assert lengths.max() <= 300


def test_users_are_shown_an_item_once_in_the_order_of_time_and_among_one_another(data):
    X, _, _ = data[0]
    pairs = np.stack([X.user, X.target])
    assert len(np.unique(pairs, axis=1).T) == len(X)
    new_user = np.flatnonzero(np.diff(X.user)) + 1
    steps = np.diff(X.time)
    assert (np.delete(steps, new_user - 1) > 0).all()
    # Interleaved: in the order of time, neighbours belong to different users.
    by_time = X.user[np.argsort(X.time, kind="stable")]
    assert (np.diff(by_time) != 0).mean() > 0.9
    # Activity says nothing about when a user is there.
    middle = pd.Series(X.time).groupby(X.user).mean()
    assert abs(np.corrcoef(middle, np.bincount(X.user))[0, 1]) < 0.15


def test_chance_decides_what_is_shown():
    share = []
    for chance in (0.0, 0.5, 1.0):
        X, _, truth = make_multimodal_ctr(
            mean_length=5, chance=chance, random_state=0, return_truth=True
        )
        later = X.time > np.repeat(X.time[leave_first(X)], np.bincount(X.user))
        liked = np.einsum("ij,ij->i", truth.user_taste[X.user], truth.item_factors[X.target]) > 0
        share.append(liked[later].mean())
        assert liked[~later].mean() > 0.9  # the first one is by taste
    assert share[0] > 0.9
    assert 0.4 < share[1] < 0.7
    assert share[2] < 0.2


def leave_first(X):
    return np.unique(X.user, return_index=True)[1]


def test_content(data):
    X, _, truth = data[0]
    content = X.catalog.content
    assert set(content) == {"title", "text", "image"}
    assert len(set(content["title"])) == len(X.catalog)
    assert all(isinstance(t, str) and len(t.split()) == 12 for t in content["text"])
    assert {(i.shape, i.dtype) for i in content["image"]} == {((16, 16, 3), np.dtype(np.uint8))}
    # Both views tell the main factor of an item far above chance (1 in 32).
    factor = truth.item_factors.argmax(axis=1)
    for view in item_views(X.catalog).values():
        neighbour = KNeighborsClassifier(1, metric="cosine").fit(view[::2], factor[::2])
        assert neighbour.score(view[1::2], factor[1::2]) > 0.3


def test_words_of_different_factors_differ():
    words = vocabulary(70)
    assert len(np.unique(words)) == words.size


def test_noise_hides_the_factors():
    def accuracy(**noise):
        X, _, truth = make_multimodal_ctr(10, 200, random_state=0, return_truth=True, **noise)
        factor = truth.item_factors.argmax(axis=1)
        return {
            name: KNeighborsClassifier(1)
            .fit(view[::2], factor[::2])
            .score(view[1::2], factor[1::2])
            for name, view in item_views(X.catalog).items()
        }

    clear, hidden = accuracy(text_noise=0, image_noise=0), accuracy(text_noise=1, image_noise=1)
    for name in clear:
        assert hidden[name] < 0.15 < clear[name] - 0.3


def item_views(catalog):
    """Plain features, as anybody would take them."""
    text = TfidfVectorizer().fit_transform(catalog.content["text"])
    image = np.stack(list(catalog.content["image"])) / 255.0
    gradients = [np.abs(np.diff(image, axis=axis)).mean((1, 2)) for axis in (1, 2)]
    image = np.hstack([image.mean((1, 2)), image.std((1, 2)), *gradients])
    return {
        "text": normalize(TruncatedSVD(32, random_state=0).fit_transform(text)),
        "image": normalize((image - image.mean(axis=0)) / image.std(axis=0)),
    }


def mean_embeddings(X, rows, items):
    history = X.history[rows]
    sums = np.zeros((len(rows), items.shape[1]))
    row = np.repeat(np.arange(len(rows)), history.length)
    np.add.at(sums, row, items[history.items[history.positions()]])
    return normalize(sums)


def test_look_alikes_can_be_found_from_short_histories(data):
    """Plain mean embeddings and cosine: the donor is of the user's own group 9 times in 10."""
    found, asked = 0, 0
    for X, _, truth in data.values():
        items = np.hstack(list(item_views(X.catalog).values()))
        items = items - items.mean(axis=0)
        _, _, last = leave_last_out(X)
        activity = X.history.length[last]
        low = last[(activity <= np.quantile(activity, 0.3)) & (activity > 0)]
        high = last[activity >= np.quantile(activity, 0.7)]
        assert (X.history.length[low] <= 4).all()
        similarity = mean_embeddings(X, low, items) @ mean_embeddings(X, high, items).T
        donor = high[similarity.argmax(axis=1)]
        found += (truth.group[X.user[donor]] == truth.group[X.user[low]]).sum()
        asked += len(low)
    assert found / asked > 0.93


def test_a_donor_of_the_own_group_raises_the_auc_of_low_active_users(data):
    """What a target looks like next to the own items, and next to those of a look-alike."""
    gains = []
    for seed, (X, y, truth) in data.items():
        items = normalize(np.hstack(list(item_views(X.catalog).values())))
        _, _, last = leave_last_out(X)
        train = np.setdiff1d(np.arange(len(X)), last)
        activity = X.history.length[last]
        low = activity <= np.quantile(activity, 0.3)
        rng = np.random.RandomState(seed)
        donor = np.array(
            [
                rng.choice(last[(activity >= np.quantile(activity, 0.7)) & (truth.group == g)])
                for g in truth.group
            ]
        )
        target = items[X.target]
        own = np.einsum("ij,ij->i", mean_embeddings(X, np.arange(len(X)), items), target)
        lent = np.einsum("ij,ij->i", mean_embeddings(X, donor, items)[X.user], target)
        auc = []
        for columns in (own[:, None], np.stack([own, lent], axis=1)):
            model = HistGradientBoostingClassifier(max_iter=50).fit(columns[train], y[train])
            score = model.predict_proba(columns[last[low]])[:, 1]
            auc.append(roc_auc_score(y[last[low]], score))
        gains.append(auc[1] - auc[0])
    assert min(gains) > 0.03
    assert np.mean(gains) > 0.08


def test_large_data_in_blocks(monkeypatch):
    whole, _, truth = make_multimodal_ctr(50, 30, random_state=0, return_truth=True)
    monkeypatch.setattr(_generator, "BLOCK", 10 * 30)
    X, _, parts = make_multimodal_ctr(50, 30, random_state=0, return_truth=True)
    assert len(X) == len(whole)
    np.testing.assert_array_equal(truth.group, parts.group)
    assert len(np.unique(np.stack([X.user, X.target]), axis=1).T) == len(X)


@pytest.mark.parametrize(
    "size",
    [
        {"n_users": 1, "n_items": 2},
        {"n_users": 3, "n_groups": 5},
        {"n_groups": 1, "n_factors": 2},
        {"n_groups": 12, "n_factors": 6},
        {"n_factors": 40},
        {"mean_length": 2},
    ],
)
def test_sizes_at_the_edge(size):
    X, y, truth = make_multimodal_ctr(
        **{"n_users": 20, "n_items": 15, **size}, random_state=0, return_truth=True
    )
    assert len(X) == len(y) == len(truth.click_probability)
    assert (truth.group_taste > 0).sum(axis=1).min() >= 1


@pytest.mark.parametrize(
    ("parameter", "error"),
    [
        ({"n_users": 0}, ValueError),
        ({"n_items": 1}, ValueError),
        ({"n_groups": 2.5}, TypeError),
        ({"n_factors": 1}, ValueError),
        ({"mean_length": 1}, ValueError),
        ({"mean_length": np.inf}, ValueError),
        ({"deviation": np.nan}, ValueError),
        ({"chance": 1.5}, ValueError),
        ({"text_noise": -0.1}, ValueError),
        ({"image_noise": "much"}, TypeError),
        ({"history": "none"}, ValueError),
    ],
)
def test_bad_parameters_are_named(parameter, error):
    with pytest.raises(error, match=next(iter(parameter))):
        make_multimodal_ctr(**parameter)
