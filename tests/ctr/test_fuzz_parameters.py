"""Parameters and rows beyond sense: refused by name, or handled; never a prediction that is NaN."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skmars import DINClassifier, Impressions

from .impressions import SMALL, din, make_data

X, Y = make_data()
rng = np.random.default_rng(0)
WITH_TEXT = X.with_catalog(
    X.catalog.with_features({"text": rng.normal(size=(len(X.catalog), 3))}).with_attributes(
        {"hue": list("ab" * (len(X.catalog) // 2)), "price": np.arange(len(X.catalog))}
    )
).with_users(pd.DataFrame({"user_id": X.users, "hue": ["c"] * len(X.users)}))
ARRAY = rng.normal(size=(len(X), 3))

NO_NUMBERS = [True, False, None, "10", [1], np.nan, np.inf, -np.inf, -1, 0, 1.5]
COUNTS = [1, 2, np.int64(3), *NO_NUMBERS]
HUGE = [10**9, 10**12]
WIDTHS = [(4,), [2, 3], [], (), np.array([3]), [-1], (0,), [1.5], [True], ["8"], "8", 8, None]
WIDTHS += [[10**9], [np.nan], [[4]], [1] * 1000, {"a": 1}, np.zeros((2, 2), int)]
NUMBERS = [1e-12, 0.01, 1, 1e6, 1e30, 1e300, 5e-324, *NO_NUMBERS]
WORDS = ["auto", "dice", "softmax", "marked", "users", "", "nonsense", None, 1, True, np.nan, []]
NAMES = ["auto", None, [], ["text"], ("text",), ["hour"], ["text", "text"], ["hour", "hour"]]
NAMES += [["liked"], ["user_id"], ["aligned"], ["device"], "text", "hour", 1, [1], [["text"]]]
NAMES += [[None], {"text"}, [np.nan]]

VALUES: dict[str, list] = {
    "embedding_dim": COUNTS + HUGE,
    "attention_units": WIDTHS,
    "hidden_units": WIDTHS,
    "activation": WORDS,
    "attention_normalization": WORDS,
    "borrowed": WORDS,
    "item_features": NAMES,
    "item_attributes": [*NAMES, ["hue"], ["hue", "price"]],
    "user_attributes": [*NAMES, ["hue"], ["price"]],
    "linear_context": NAMES,
    "activity_feature": [*WORDS, False, 0],
    "max_length": COUNTS + HUGE,
    "embedding_l2": NUMBERS,
    "learning_rate": NUMBERS,
    "batch_size": [*COUNTS, *HUGE, "auto"],
    "max_iter": COUNTS,
    "early_stopping": [*WORDS, False],
    "holdout": WORDS,
    "validation_fraction": [0.5, 0.999, 1e-9, 1, *NUMBERS],
    "n_iter_no_change": COUNTS + HUGE,
    "tol": NUMBERS,
    "auxiliary": ["CL4SRec", 1, [], True],
    "class_weight": [
        "balanced",
        {0: 2},
        *({0: v} for v in (0, -1, np.nan, np.inf, 1e300, 5e-324, "2", True, None)),
        {7: 1.0},
        {0: 1e20, 1: 1e-20},
        "b",
        1,
        [],
    ],
    "random_state": [0, np.random.RandomState(0), -1, 1.5, "0", True],
    "device": ["cpu", "tpu", "", None, 1],
}


def check(parameters: dict, rows: Impressions | np.ndarray) -> None:
    """Fit and predict, or an error that names one of the parameters."""
    model = DINClassifier(**{**SMALL, "max_iter": 1, "random_state": 0, **parameters})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            probability = model.fit(rows, Y).predict_proba(rows)
    except (ValueError, TypeError, FloatingPointError) as error:
        # What grows beyond all bounds is put down to the learning rate.
        names = ["learning_rate"] if isinstance(error, FloatingPointError) else list(parameters)
        if not any(name in str(error) for name in names):
            pytest.fail(f"{parameters}: {error!r}")
    else:
        assert np.isfinite(probability).all()
        np.testing.assert_allclose(probability.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in VALUES.items() for value in values]
)
def test_one_parameter_beyond_sense(name: str, value: object) -> None:
    check({name: value}, WITH_TEXT)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_some_parameters_beyond_sense(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=2, unique=True))
    chosen = {name: data.draw(st.sampled_from(VALUES[name]), label=name) for name in names}
    check(chosen, data.draw(st.sampled_from([WITH_TEXT, ARRAY]), label="rows"))


def test_a_new_parameter_is_tried_too() -> None:
    assert set(VALUES) | {"warm_start", "verbose"} == set(DINClassifier().get_params(deep=False))


# --- rows ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> DINClassifier:
    return din(linear_context=["hour"]).fit(X, Y)


NUMBER = st.floats(-1e30, 1e30) | st.sampled_from([1e39, -1e39, 1e300, np.inf, -np.inf, np.nan])


@settings(max_examples=60, deadline=None)
@given(
    hour=st.lists(NUMBER, min_size=1, max_size=5),
    item=st.integers(-(2**63), 2**63 - 1),
    lengths=st.lists(st.integers(0, 400), min_size=5, max_size=5),
)
def test_rows_of_any_numbers(model: DINClassifier, hour: list, item: int, lengths: list) -> None:
    n = len(hour)
    rows = pd.DataFrame(
        {
            "user_id": range(n),
            "item_id": [item] * n,
            "history": [[item, 101] * k for k in lengths[:n]],
            "hour": hour,
            "device": "tv",
            "member": True,
        }
    )
    try:
        probability = model.predict_proba(rows)
    except ValueError as error:
        if "'hour'" not in str(error) or np.abs(hour).max() <= 1e28:
            pytest.fail(f"{hour}: {error!r}")
    else:
        assert np.isfinite(probability).all()


@pytest.mark.parametrize("value", [1e39, -1e39, np.inf, -np.inf, np.nan])
def test_numbers_that_are_none_are_refused_by_name(model: DINClassifier, value: float) -> None:
    hour = X.context["hour"].copy()
    hour[7] = value
    bad = replace(X, context={**X.context, "hour": hour})
    for use in (din().fit, din().partial_fit, model.partial_fit):
        with pytest.raises(ValueError, match=r"'hour' .*row 7"):
            use(bad, Y)
    with pytest.raises(ValueError, match=r"'hour' .*row 7"):
        model.predict_proba(bad)


@pytest.mark.parametrize("value", [1e39, np.inf, np.nan])
def test_weights_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="sample_weight"):
        din().fit(X, Y, sample_weight=np.full(len(X), value))


def words(frame: pd.DataFrame) -> pd.DataFrame:
    history = [[str(i) for i in items] for items in frame["history"]]
    return frame.assign(item_id=frame["item_id"].astype(str), history=history)


def test_ids_of_another_kind_are_refused() -> None:
    frame = X.to_frame("pandas")
    for seen, other, kinds in (
        (frame, words(frame), "holds strings but .* holds integers"),
        (words(frame), frame, "holds integers but .* holds strings"),
    ):
        model = din().fit(seen, Y)
        expected = model.predict_proba(seen)
        for use in (model.predict_proba, lambda rows, m=model: m.partial_fit(rows, Y)):
            with pytest.raises(TypeError, match=f"item_id of X {kinds}"):
                use(other)
        assert np.array_equal(model.predict_proba(seen), expected)


def test_a_column_that_changed_its_kind_is_refused_by_name() -> None:
    model = din().fit(X, Y)
    numbers, booleans = X.context["hour"], np.arange(len(X)) % 2 == 0
    for name, column in (("hour", X.context["device"]), ("hour", booleans), ("device", numbers)):
        other = replace(X, context={**X.context, name: column})
        for use in (model.predict, lambda rows: model.partial_fit(rows, Y)):
            with pytest.raises(ValueError, match=f"Context column '{name}' was"):
                use(other)
    context = {name: column for name, column in X.context.items() if name != "device"}
    with pytest.raises(ValueError, match="lacks the context column 'device'"):
        model.predict(replace(X, context=context))


def test_a_history_may_be_shorter_than_max_length() -> None:
    expected = din().fit(X, Y).decision_function(X)
    for n in (int(X.history.length.max()), 10**12):
        model = din(max_length=n).fit(X, Y)
        assert np.array_equal(model.decision_function(X), expected)
