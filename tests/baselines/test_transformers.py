"""The baselines as transformers: the recipes, and what scikit-learn and a person expect."""

from __future__ import annotations

import inspect
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils import estimator_checks as checks

import skmars.baselines
from skmars import DINClassifier, Impressions
from skmars.baselines import (
    CropMaskReorder,
    CropMaskReorderSubstituteInsert,
    RandomItems,
    RandomSequence,
    RepeatPad,
)
from skmars.baselines._prepending import n_copies
from skmars.data._frames import FRAMES

from . import reference

AUGMENTERS = [
    RandomItems(random_state=0),
    RandomSequence(random_state=0),
    RepeatPad(max_length=12, random_state=0),
    CropMaskReorder(random_state=0),
    CropMaskReorderSubstituteInsert(random_state=0),
]
FIRST = {"n_items", "copies"}  # the parameters that may be passed by position
each_augmenter = pytest.mark.parametrize("augmenter", AUGMENTERS, ids=lambda a: type(a).__name__)


def make_data(n_users: int = 30, n_events: int = 150, seed: int = 0, history: str = "all"):
    rng = np.random.default_rng(seed)
    user = np.minimum(rng.geometric(0.08, n_events) - 1, n_users - 1)
    log = pd.DataFrame(
        {
            "user_id": user,
            "item_id": rng.integers(0, 20, n_events),
            "liked": rng.integers(0, 2, n_events),
            "timestamp": np.arange(n_events, dtype=float),
            "hour": rng.normal(size=n_events),
        }
    )
    return Impressions.from_log(log, label="liked", history=history, context=["hour"])


@pytest.fixture(scope="module")
def data():
    return make_data()


def events(X: Impressions, i: int) -> list[tuple[int, int, float]]:
    """(item id, feedback, time) of row `i`."""
    h = X.history
    at = range(int(h.start[i]), int(h.start[i] + h.length[i]))
    return [(int(X.catalog.ids[h.items[k]]), int(h.feedback[k]), float(h.time[k])) for k in at]


def histories(X: Impressions) -> list[list[int]]:
    return [X.catalog.ids[X.history.row(i)].tolist() for i in range(len(X))]


# --- the recipes ---------------------------------------------------------------------------------


def test_random_items_stand_in_front(data):
    X, _ = data
    new = RandomItems(4, random_state=0).fit_transform(X)
    for i in range(len(X)):
        assert events(new, i)[4:] == events(X, i)
        assert all(time == np.inf for *_, time in events(new, i)[:4])
    drawn = [x for i in range(len(X)) for x in new.history.row(i)[:4]]
    assert chisquare(np.bincount(drawn, minlength=len(X.catalog))).pvalue > 1e-4


def test_random_items_anywhere(data):
    X, _ = data
    new = RandomItems(3, position="random", random_state=0).fit_transform(X)
    places = []
    for i in range(len(X)):
        row = events(new, i)
        drawn = [k for k, (*_, time) in enumerate(row) if time == np.inf]
        assert len(drawn) == 3
        assert [e for k, e in enumerate(row) if k not in drawn] == events(X, i)
        places += [(k + 0.5) / len(row) for k in drawn]
    assert 0.45 < np.mean(places) < 0.55


def test_random_items_are_liked_as_often_as_others(data):
    X, _ = data
    new = RandomItems(200, max_length=10_000, random_state=0).fit_transform(X)
    share = new.history.feedback.mean()
    assert abs(share - X.history.feedback[X.history.positions()].mean()) < 0.02


def test_random_items_for_users_without_any_history():
    X = Impressions.from_frame(
        pd.DataFrame(
            {"user_id": [1], "item_id": [5], "history": [[]], "history_feedback": [[]]}
        ).assign(timestamp=[3.0])
    )
    new = RandomItems(2, random_state=0).fit_transform(X)
    assert events(new, 0) == [(5, 1, np.inf)] * 2


def test_random_sequence_draws_from_the_history_itself(data):
    X, _ = data
    new = RandomSequence(5, random_state=0).fit_transform(X)
    share = []
    for i in range(len(X)):
        old = events(X, i)
        if not old:
            assert events(new, i) == []
            continue
        assert events(new, i)[5:] == old
        drawn = events(new, i)[:5]
        assert set(drawn) <= set(old)
        share += [old.index(e) / len(old) for e in drawn if len(old) > 5]
    assert 0.35 < np.mean(share) < 0.55


@given(
    rows=st.lists(st.lists(st.integers(0, 9), max_size=7), min_size=1, max_size=6),
    copies=st.integers(0, 4) | st.just("max"),
    max_length=st.integers(1, 12),
    delimiter=st.sampled_from([None, 99]),
)
def test_repeat_pad_against_the_slow_reference(rows, copies, max_length, delimiter):
    frame = pd.DataFrame({"user_id": range(len(rows)), "item_id": 0, "history": rows})
    X = Impressions.from_frame(frame)
    new = RepeatPad(copies, delimiter=delimiter, max_length=max_length).fit_transform(X)
    for old, found in zip(rows, histories(new), strict=True):
        m = copies if copies != "max" else max_length // max(len(old), 1)
        m = m if 0 < len(old) < max_length else 0
        assert found == reference.repeat(old, m, max_length, delimiter)


@pytest.mark.parametrize(("copies", "low"), [("random", 1), ("random_from_zero", 0)])
@pytest.mark.parametrize(("n", "most"), [(1, 10), (3, 3), (4, 2), (9, 1)])
def test_repeat_pad_draws_the_number_of_copies(copies, low, n, most):
    drawn = n_copies(np.full(4000, n), copies, 10, np.random.RandomState(0))
    assert set(drawn) == set(range(low, most + 1))
    if most > low:
        assert chisquare(np.bincount(drawn)[low:]).pvalue > 1e-4
    assert not n_copies(np.array([0, 10, 11]), copies, 10, np.random.RandomState(0)).any()


def changed_by(name: str, X: Impressions, new: Impressions, share: float, like) -> list[bool]:
    """Whether each row is one that the operator may give."""
    found = []
    for i in range(len(X)):
        old = events(X, i)
        allowed = []
        for row in getattr(reference, name)(old, share) if old else [[]]:
            kept = [e for e in row if e != reference.MASK]
            # A similar item has the feedback and the time of the one that it goes with.
            allowed.append([(like[e[1][0]], *e[1][1:]) if e[0] == "like" else e for e in kept])
        found.append(events(new, i) in allowed)
    return found


def test_each_row_is_cropped_masked_or_reordered(data):
    X, _ = data
    X = X[X.history.length <= 7]
    new = CropMaskReorder(crop=0.5, mask=0.5, reorder=0.5, random_state=0).fit_transform(X)
    ways = [changed_by(name, X, new, 0.5, {}) for name in ("crop", "mask", "reorder")]
    assert np.any(ways, axis=0).all()
    assert not np.all(ways, axis=1).any()


def test_each_row_is_changed_by_one_of_five(data):
    X, _ = data
    longest = {
        u: max(np.flatnonzero(X.user == u), key=lambda i: X.history.length[i]) for u in X.user
    }
    rows = [X.history.row(i).tolist() for i in longest.values()]
    similarity = reference.item_cf_iuf(rows, len(X.catalog)).round(9)
    ids = X.catalog.ids
    like = {ids[i]: ids[similarity[i].argmax()] for i in range(len(ids)) if similarity[i].any()}
    known = [
        i
        for i in range(len(X))
        if 0 < X.history.length[i] <= 7 and all(x in like for x in ids[X.history.row(i)])
    ]
    assert len(known) > 20

    new = CropMaskReorderSubstituteInsert(random_state=0).fit_transform(X)
    ways = [
        changed_by(name, X[known], new[known], share, like)
        for name, share in [
            ("crop", 0.2), ("mask", 0.7), ("reorder", 0.2), ("substitute", 0.1), ("insert", 0.4)
        ]
    ]  # fmt: skip
    assert np.any(ways, axis=0).all()
    assert np.any(ways, axis=1).all()


def test_a_mask_token_stands_where_an_item_was(data):
    X, _ = data
    new = CropMaskReorder(mask=0.5, mask_token=-1, random_state=0).fit_transform(X)
    assert new.catalog.ids.tolist() == [*X.catalog.ids.tolist(), -1]
    old, found = histories(X), histories(new)
    masked = [i for i in range(len(X)) if -1 in found[i]]
    assert masked
    for i in masked:
        assert found[i].count(-1) == int(0.5 * len(old[i]))
        assert all(b in (-1, a) for a, b in zip(old[i], found[i], strict=True))
        assert [e[1:] for e in events(new, i)] == [e[1:] for e in events(X, i)]


@each_augmenter
@pytest.mark.parametrize("max_length", [1, 3, 200])
def test_the_last_items_stay(augmenter, data, max_length):
    X, _ = data
    whole = clone(augmenter).set_params(max_length=10_000)
    if not isinstance(augmenter, RepeatPad):  # whose copies fill the room
        for a, b in zip(
            histories(whole.fit_transform(X)),
            histories(whole.set_params(max_length=max_length).fit_transform(X)),
            strict=True,
        ):
            assert b == a[-max_length:]
    else:
        new = whole.set_params(max_length=max_length).fit_transform(X)
        assert new.history.length.max() <= max_length


@each_augmenter
def test_only_low_active_users(augmenter, data):
    X, _ = data
    new = clone(augmenter).set_params(users="low_active", low_quantile=0.4).fit_transform(X)
    longest = np.array([X.history.length[X.user == u].max() for u in range(len(X.users))])
    low = longest[X.user] <= np.quantile(longest, 0.4)
    assert low.any()
    assert not low.all()
    same = [events(new, i) == events(X, i) for i in range(len(X))]
    assert all(same[i] for i in np.flatnonzero(~low))
    assert not all(same[i] for i in np.flatnonzero(low))


# --- training and prediction ---------------------------------------------------------------------


@each_augmenter
def test_fit_transform_acts_and_transform_does_not(augmenter, data):
    X, y = data
    new = clone(augmenter).fit_transform(X, y)
    assert histories(new) != histories(X)
    assert histories(clone(augmenter).fit(X, y).transform(X)) == histories(X)
    # Everything but the history stays.
    assert new.borrowed is None
    assert (
        new.to_frame("pandas")
        .drop(columns=["history", "history_feedback", "history_timestamp"])
        .equals(
            X.to_frame("pandas").drop(columns=["history", "history_feedback", "history_timestamp"])
        )
    )


@each_augmenter
def test_draws_repeat_with_an_integer_and_differ_without(augmenter, data):
    X, _ = data
    first = histories(clone(augmenter).fit_transform(X))
    assert histories(clone(augmenter).fit_transform(X)) == first
    assert histories(clone(augmenter).set_params(random_state=1).fit_transform(X)) != first
    state = np.random.RandomState(0)
    streams = clone(augmenter).set_params(random_state=state)
    assert histories(streams.fit_transform(X)) != histories(streams.fit_transform(X))


@each_augmenter
def test_the_rows_that_were_given_are_untouched(augmenter, data):
    X, _ = data
    before = [events(X, i) for i in range(len(X))]
    clone(augmenter).fit_transform(X)
    clone(augmenter).set_params(users="low_active").fit_transform(X)
    assert [events(X, i) for i in range(len(X))] == before


@each_augmenter
@pytest.mark.parametrize("history", ["positive", "all"])
def test_frames_give_the_same_as_impressions(augmenter, history):
    X, _ = make_data(history=history)
    expected = clone(augmenter).fit_transform(X).to_frame("pandas")
    for frame in FRAMES:
        pytest.importorskip(frame)
        found = clone(augmenter).fit_transform(X.to_frame(frame))
        pd.testing.assert_frame_equal(found.to_frame("pandas"), expected)


@each_augmenter
def test_names_of_columns(augmenter, data):
    X, _ = data
    augmenter = clone(augmenter)
    out = augmenter.fit_transform(X)
    assert out.columns == list(augmenter.get_feature_names_out())
    assert list(augmenter.feature_names_in_) == X.columns
    assert augmenter.n_features_in_ == X.shape[1]


@each_augmenter
def test_in_a_pipeline_with_din(augmenter, data):
    X, y = data
    din = DINClassifier(hidden_units=(8,), max_iter=2, random_state=0)
    pipeline = make_pipeline(clone(augmenter), din).fit(X, y)
    expected = clone(din).fit(clone(augmenter).fit_transform(X), y).predict_proba(X)
    np.testing.assert_array_equal(pipeline.predict_proba(X), expected)
    assert isinstance(clone(pipeline), Pipeline)


@each_augmenter
def test_one_row_and_none(augmenter, data):
    X, _ = data
    augmenter = clone(augmenter)
    assert len(augmenter.fit_transform(X[:1])) == 1
    assert len(augmenter.fit_transform(X[:0])) == 0
    assert len(augmenter.set_params(users="low_active").fit_transform(X[:0])) == 0


# --- what comes to nothing -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("normalization", "factor"), [("softmax", 1), (None, 3), ("sqrt", np.sqrt(3))]
)
def test_repeat_pad_scales_the_interest_at_most(data, normalization, factor):
    from skmars.ctr._network import to_tensors

    X, y = data
    din = DINClassifier(
        attention_normalization=normalization, max_iter=1, random_state=0, hidden_units=(4,)
    ).fit(X, y)
    torch = pytest.importorskip("torch")

    def interest(rows):
        encoded = din._encoder.encode(rows)
        batch = to_tensors(encoded.batch(slice(None)), torch.device("cpu"), torch.float32)
        with torch.no_grad():
            return din._network.represent(batch).interest.numpy()

    twice = RepeatPad(2).fit_transform(X)
    np.testing.assert_allclose(interest(twice), factor * interest(X), rtol=1e-4, atol=1e-9)


def test_reordering_is_nothing_to_din(data):
    X, y = data
    din = DINClassifier(max_iter=1, random_state=0, hidden_units=(4,)).fit(X, y)
    augmenter = CropMaskReorder(crop=1.0, mask=0.0, reorder=1.0, random_state=0)
    new = augmenter.fit_transform(X)
    assert histories(new) != histories(X)
    np.testing.assert_allclose(din.predict_proba(new), din.predict_proba(X), rtol=1e-4)


# --- scikit-learn and messages -------------------------------------------------------------------

DATA_FREE = [
    checks.check_estimator_cloneable,
    checks.check_estimator_repr,
    checks.check_estimator_tags_renamed,
    checks.check_valid_tag_types,
    checks.check_no_attributes_set_in_init,
    checks.check_parameters_default_constructible,
    checks.check_get_params_invariance,
    checks.check_set_params,
    checks.check_mixin_order,
    checks.check_do_not_raise_errors_in_init_or_set_params,
    checks.check_param_validation,
]


@pytest.mark.parametrize("check", DATA_FREE, ids=lambda check: check.__name__)
@each_augmenter
def test_scikit_learn_checks_that_need_no_data(augmenter, check):
    estimator = type(augmenter)()
    check(type(augmenter).__name__, estimator)


@each_augmenter
def test_parameters_are_documented(augmenter):
    doc = inspect.getdoc(type(augmenter))
    for p in inspect.signature(type(augmenter)).parameters.values():
        assert p.name in doc
        assert str(p.default) in doc
        assert p.kind is (p.POSITIONAL_OR_KEYWORD if p.name in FIRST else p.KEYWORD_ONLY)
    assert getattr(skmars.baselines, type(augmenter).__name__) is type(augmenter)


@each_augmenter
def test_bad_input(augmenter, data):
    X, _ = data
    augmenter = clone(augmenter)
    with pytest.raises(NotFittedError):
        augmenter.transform(X)
    for method in (augmenter.fit, augmenter.fit_transform):
        with pytest.raises(TypeError, match="works on Impressions or on a pandas"):
            method(np.zeros((3, 2)))
    augmenter.fit(X)
    with pytest.raises(ValueError, match="lacks the context column 'hour'"):
        augmenter.transform(X.to_frame("pandas").drop(columns="hour"))
    for name, value in [("users", "few"), ("low_quantile", 1.1), ("max_length", 0)]:
        with pytest.raises(ValueError, match=f"'{name}' parameter of {type(augmenter).__name__}"):
            clone(augmenter).set_params(**{name: value}).fit_transform(X)


@pytest.mark.parametrize(
    ("augmenter", "name"),
    [
        (RandomItems(0), "n_items"),
        (RandomItems(10**12), "n_items"),
        (RandomItems(True), "n_items"),
        (RandomItems(max_length=10**12), "max_length"),
        (RandomItems(low_quantile=np.nan), "low_quantile"),
        (RandomItems(low_quantile=True), "low_quantile"),
        (RandomItems(position="append"), "position"),
        (RandomSequence(0), "n_items"),
        (RandomSequence(2.0), "n_items"),
        (RepeatPad(-1), "copies"),
        (RepeatPad(True), "copies"),
        (RepeatPad(10**12), "copies"),
        (RepeatPad("all"), "copies"),
        (RepeatPad("max", max_length=10**12), "max_length"),
        (RepeatPad(max_length=True), "max_length"),
        (RepeatPad(delimiter=True), "delimiter"),
        (RepeatPad(delimiter=10**30), "delimiter"),
        (RepeatPad(delimiter=0.5), "delimiter"),
        (CropMaskReorder(crop=1.2), "crop"),
        (CropMaskReorder(crop=np.nan), "crop"),
        (CropMaskReorder(reorder=True), "reorder"),
        (CropMaskReorder(mask=1.0), "mask"),
        (CropMaskReorder(mask_token=False), "mask_token"),
        (CropMaskReorderSubstituteInsert(insert=-0.1), "insert"),
    ],
)
def test_parameters_out_of_range(augmenter, name, data):
    with pytest.raises(ValueError, match=f"'{name}' parameter of {type(augmenter).__name__}"):
        augmenter.fit_transform(data[0])


@pytest.mark.parametrize(
    "augmenter", [RepeatPad(delimiter="-"), CropMaskReorder(mask_token="?")], ids=["pad", "mask"]
)
def test_tokens_are_ids_of_the_kind_of_the_catalogue(augmenter, data):
    with pytest.raises(TypeError, match=r"(delimiter|mask_token) holds strings but the catalogue"):
        augmenter.fit_transform(data[0])
    assert not hasattr(augmenter, "feature_names_in_")


@pytest.mark.parametrize("name", ["delimiter", "mask_token"])
def test_a_token_is_no_item_that_users_touch(name, data):
    X, _ = data
    cls = RepeatPad if name == "delimiter" else CropMaskReorder
    for token in (X.catalog.ids[X.target[0]], X.catalog.ids[X.history.items[0]]):
        augmenter = cls(**{name: int(token)})
        with pytest.raises(ValueError, match=f"{name}={token} must be the id of no item"):
            augmenter.fit_transform(X)
        assert not hasattr(augmenter, "feature_names_in_")
    # An item of the catalogue that nobody touched will do.
    known = X.with_catalog(X.catalog.extend(np.array([-1])))
    assert -1 in np.concatenate(histories(cls(**{name: -1}, random_state=0).fit_transform(known)))


@each_augmenter
@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_ids_of_another_kind_than_in_fit(augmenter, column, data):
    X, _ = data
    frame = X.to_frame("pandas")
    frame["user_id"] = frame["user_id"].astype(str)
    if column == "item_id":
        frame = X.to_frame("pandas").assign(
            item_id=frame["item_id"].astype(str),
            history=[[str(item) for item in row] for row in frame["history"]],
        )
    frame = pd.DataFrame(frame.to_dict("list"))  # which knows of no catalogue
    augmenter = clone(augmenter).fit(X)
    with pytest.raises(TypeError, match=f"{column} of X holds strings but {column} of the rows of"):
        augmenter.transform(frame)
    assert len(clone(augmenter).fit(frame).transform(frame)) == len(X)


@each_augmenter
def test_what_rows_may_be(augmenter, data):
    """Users without a history, rows of one user, items that nobody else has, no rows at all."""
    X, _ = data
    empty = X[X.history.length == 0]
    new = clone(augmenter).fit_transform(empty)
    expected = augmenter.n_items if isinstance(augmenter, RandomItems) else 0
    assert set(new.history.length) == {expected}

    one = X[X.user == X.user[0]]
    for users in ("all", "low_active"):  # who is as active as the least active: everybody
        new = clone(augmenter).set_params(users=users).fit_transform(one)
        assert histories(new) != histories(one)

    frame = pd.DataFrame({"user_id": [1, 2], "item_id": [5, 6], "history": [[70, 71], [72]]})
    strange = Impressions.from_frame(frame, X.catalog)
    new = clone(augmenter).fit_transform(strange)
    assert set(np.concatenate(histories(new))) <= {*X.catalog.ids, 70, 71, 72}
    no_rows = frame[:0].astype({"user_id": int, "item_id": int})
    assert len(clone(augmenter).fit(frame).transform(no_rows)) == 0
    assert len(clone(augmenter).fit_transform(no_rows)) == 0


# --- properties, whatever the histories ----------------------------------------------------------

ROWS = st.lists(st.lists(st.integers(0, 9), max_size=7), min_size=1, max_size=6)
ANY = st.sampled_from(
    [
        *AUGMENTERS,
        RandomItems(2, position="random"),
        RepeatPad("max", max_length=9),
        RepeatPad(2, delimiter=-1),
        CropMaskReorder(mask=0.5, mask_token=-1),
        CropMaskReorderSubstituteInsert(insert=1.0, max_length=9),
    ]
)


def impressions(rows: list[list[int]]) -> Impressions:
    frame = pd.DataFrame({"user_id": [i // 2 for i in range(len(rows))], "item_id": 0})
    return Impressions.from_frame(frame.assign(history=rows, history_timestamp=rows))


@given(rows=ROWS, augmenter=ANY, seed=st.integers(0, 99))
def test_a_seed_repeats_and_transform_is_the_identity(rows, augmenter, seed):
    X = impressions(rows)
    augmenter = clone(augmenter).set_params(random_state=seed)
    new = histories(augmenter.fit_transform(X))
    assert new == histories(clone(augmenter).fit_transform(X))
    assert histories(augmenter.transform(X)) == rows
    assert max(map(len, new)) <= augmenter.max_length


@given(rows=ROWS, augmenter=ANY, seed=st.integers(0, 99))
def test_own_items_are_neither_lost_nor_reordered(rows, augmenter, seed):
    augmenter = clone(augmenter).set_params(random_state=seed)
    for old, new in zip(rows, histories(augmenter.fit_transform(impressions(rows))), strict=True):
        if isinstance(augmenter, CropMaskReorder):
            token = getattr(augmenter, "mask_token", None)
            assert len(new) <= 2 * len(old)
            assert bool(new) == bool(old)
            if not isinstance(augmenter, CropMaskReorderSubstituteInsert):
                assert not Counter(x for x in new if x != token) - Counter(old)
        elif getattr(augmenter, "position", "prepend") == "random":
            rest = iter(new)
            assert all(x in rest for x in old)
            assert len(new) == len(old) + augmenter.n_items
        else:
            assert new[len(new) - len(old) :] == old
            if not isinstance(augmenter, RepeatPad):
                drawn = augmenter.n_items if old or isinstance(augmenter, RandomItems) else 0
                assert len(new) == len(old) + drawn


@given(rows=ROWS, copies=st.integers(0, 3) | st.just("max"), seed=st.integers(0, 99))
def test_what_is_not_drawn_does_not_depend_on_the_other_rows(rows, copies, seed):
    order = np.random.default_rng(seed).permutation(len(rows))
    X, augmenter = impressions(rows), RepeatPad(copies, max_length=9)
    whole = histories(augmenter.fit_transform(X))
    assert histories(augmenter.fit_transform(X[order])) == [whole[i] for i in order]
